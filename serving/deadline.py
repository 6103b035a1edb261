"""The caller's deadline inside an answer: what does not fit into the time that is left is left out, and the answer says what.

Before each step the time that is left is held against what the step lately took (mean and four mean deviations, as TCP reckons its timeouts: Jacobson
1988). First the ranker gives way to the blend, then sources fall silent one by one, and with none left popular items are the answer. Nothing is
interrupted and nothing runs beside the request, so a call without a deadline, or with a wide one, is as it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from typing import Final

import numpy as np

from core.candidates import Scoring, Source
from core.columns import Array
from core.history import Query
from serving.failures import Failure

_GAIN: Final = 1 / 8  # weight of the newest step in the mean, and in the mean deviation
_WIDE: Final = 3.0  # so many times the usual answer: who has that long need not be watched
_AT_FIRST: Final = 0.002  # seconds of a step that nothing is known of


class Step(StrEnum):
    """What an answer spends its time on."""

    SOURCES = "sources"
    RANK = "rank"  # features and scores
    FINISH = "finish"  # the page, its rules, reasons, the response


class Costs:
    """What steps took lately in this process. Threads may lose each other's newest step, no more."""

    def __init__(self) -> None:
        self._of: dict[Step, tuple[float, float]] = {}

    def took(self, step: Step, seconds: float) -> None:
        """Note a step that was run in full."""
        if step not in self._of:
            self._of[step] = seconds, seconds / 2
            return
        mean, deviation = self._of[step]
        error = seconds - mean
        self._of[step] = mean + _GAIN * error, deviation + _GAIN * (abs(error) - deviation)

    def of(self, *steps: Step) -> float:
        """Seconds that are enough for these, nearly always."""
        known = [self._of.get(step) for step in steps]
        return sum(_AT_FIRST if k is None else k[0] + 4 * k[1] for k in known)


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
        """The step that began last is done."""
        if self.missed is None:
            self._costs.took(step, self._clock() - self._last)
        self._last = self._clock()

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
