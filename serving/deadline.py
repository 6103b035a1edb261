"""The caller's deadline inside an answer: what does not fit into the time that is left is left out, and the answer says what.

Before each step the time that is left is held against what nine in ten such steps lately took. First the ranker gives way to the blend, then sources fall
silent one by one, and with none left popular items are the answer. Nothing is interrupted and nothing runs beside the request, so a call without a deadline,
or with a wide one, is as it was.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import numpy as np

from core.candidates import Scoring, Source
from core.columns import Array
from core.history import Query
from serving.failures import Failure

_UP: Final = math.exp(0.45)  # a step that took longer than was thought, and
_DOWN: Final = math.exp(-0.05)  # one that did not: at rest where one in ten does, and a long one is soon forgotten
_WIDE: Final = 3.0  # so many times the usual answer: who has that long need not be watched
_AT_FIRST: Final = 0.002  # seconds of a step that nothing is known of


class Step(StrEnum):
    """What an answer spends its time on."""

    SOURCES = "sources"
    RANK = "rank"  # features and scores
    FINISH = "finish"  # the page, its rules, reasons, the response


class Costs:
    """How long steps lately took in this process: their 0.9 quantile, by stochastic approximation of its logarithm (Robbins and Monro 1951).

    A step that is left out brings its estimate down as a short one does: so it is tried again soon after a bad moment is over. Threads may lose each other's
    newest step, no more.
    """

    def __init__(self) -> None:
        self._of: dict[Step, float] = {}

    def took(self, step: Step, seconds: float | None) -> None:
        """Note a step that was run in full, or (None) that was not."""
        known = self._of.get(step)
        if known is None:
            self._of[step] = _AT_FIRST if seconds is None else seconds
        else:
            self._of[step] = known * (_UP if seconds is not None and seconds > known else _DOWN)

    def of(self, *steps: Step) -> float:
        """Seconds that are enough for these, mostly."""
        return sum(self._of.get(step, _AT_FIRST) for step in steps)


class Deadline:
    """Of one call; for the thread that answers it."""

    def __init__(
        self, seconds: float, costs: Costs, reply: float, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """`seconds` from now until the caller gives up, of which `reply` are for the way back."""
        self._clock, self._costs, self._end = clock, costs, clock() + seconds - reply
        self._last = clock()
        self.missed: Failure | None = None  # the gravest thing that was left out

    @property
    def left(self) -> float:
        """Seconds for all that is still to be done; below 0 where there are none."""
        return self._end - self._clock()

    def for_state(self) -> float:
        """Seconds that reading the person's state may take: what the cheapest answer leaves."""
        return self.left - self._costs.of(Step.FINISH)

    def begin(self) -> None:
        """The next step begins now."""
        self._last = self._clock()

    def end(self, step: Step) -> None:
        """The step that began last is done, or was left out."""
        now = self._clock()
        whole = step is Step.FINISH or self.missed is None
        self._costs.took(step, now - self._last if whole else None)
        self._last = now

    def watched(self, sources: tuple[Source, ...]) -> tuple[Source, ...]:
        """The sources; where time could run out, each one silent once it has. What has proposed scores the union too, which takes about as long."""
        if self.left > _WIDE * self._costs.of(*Step):
            return sources
        stop = self._end - self._costs.of(Step.FINISH) - self._costs.of(Step.SOURCES) / 2
        return tuple(_Watched(source, self, stop, self._clock) for source in sources)

    def ranks(self) -> bool:
        """Whether there is time for the ranker."""
        if self.left > self._costs.of(Step.RANK, Step.FINISH):
            return True
        self.missed = self.missed or Failure.DEADLINE_RANKER
        return False

    def gathered(self, candidates: int) -> None:
        """The sources proposed so many items: none of a silent one."""
        if not candidates and self.missed is Failure.DEADLINE_SOURCES:
            self.missed = Failure.DEADLINE_POPULAR


class _Watched:
    """A source that proposes and knows nothing once time is up."""

    def __init__(self, source: Source, deadline: Deadline, stop: float, clock: Callable[[], float]) -> None:
        self._source, self._deadline, self._stop, self._clock = source, deadline, stop, clock

    @property
    def name(self) -> str:
        """Of the source itself."""
        return self._source.name

    def scoring(self, query: Query) -> Scoring:
        """See core.candidates.Source."""
        return _WatchedScoring(self._source.scoring(query), self.late) if not self.late() else _SILENT

    def late(self) -> bool:
        """Whether time is up."""
        if self._clock() < self._stop:
            return False
        self._deadline.missed = Failure.DEADLINE_SOURCES
        return True


class _WatchedScoring:
    def __init__(self, scoring: Scoring, late: Callable[[], bool]) -> None:
        self._scoring, self._late = scoring, late

    def top(self, k: int, excluded: Array) -> tuple[Array, Array]:
        """See core.candidates.Scoring."""
        if self._late():
            self._scoring = _SILENT
        return self._scoring.top(k, excluded)

    def of(self, rows: Array) -> Array:
        """See core.candidates.Scoring."""
        return self._scoring.of(rows)


class _Silent:
    def top(self, k: int, excluded: Array) -> tuple[Array, Array]:
        """See core.candidates.Scoring."""
        return np.empty(0, np.int32), np.empty(0, np.float32)

    def of(self, rows: Array) -> Array:
        """See core.candidates.Scoring."""
        return np.zeros(len(rows), np.float32)


_SILENT: Final = _Silent()
