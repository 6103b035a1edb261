"""The stages of a night as a graph: what each reads, what it is made from, and which must run again.

A stage's artifact is named by the fingerprint of its recipe (core.recipe): code, settings and what it reads. It is made where it is not there yet, and
appears in one rename: so a killed night leaves whole artifacts or none, and the next goes on after the last whole one. `plan` says all that beforehand;
`Runner` does it, within a budget of time, and writes it down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import artifact
from core.errors import AisleError
from core.recipe import Recipe, changed, made_from
from core.work import Work
from pipeline.nights import Durations, Journal

Say = Callable[[str], None]


@dataclass(frozen=True)
class Stage:
    """One stage of a night."""

    name: str
    make: Callable[[Say], Path]  # the artifact, at once where it is there
    recipe: Callable[[], Recipe]  # asked when what it reads is there
    reads: tuple[str, ...] = ()
    lean: Callable[[Say], Path] | None = None  # without work that can wait for a night with more time
    always: str | None = None  # why it runs whatever is there


@dataclass(frozen=True)
class Planned:
    """What would happen to a stage tonight."""

    stage: str
    runs: bool
    why: str
    seconds: float | None  # as long as it took when it last ran; 0 where it would not run, None where it never ran

    @property
    def line(self) -> str:
        """For people."""
        if not self.runs:
            return f"{self.stage}: nothing to do: {self.why}"
        return f"{self.stage}: runs{_about(self.seconds)}: {self.why}"


def plan(stages: Sequence[Stage], work: Work, durations: Durations) -> list[Planned]:
    """What a night would do. Nothing is written."""
    found: list[Planned] = []
    for stage in stages:
        runs = {p.stage for p in found if p.runs}
        why = after if (after := _after(stage, runs)) else reason(stage, work)
        seconds = durations.of(stage.name) if why else 0.0
        found.append(Planned(stage.name, bool(why), why or "made from the same", seconds))
    return found


def _after(stage: Stage, runs: set[str]) -> str | None:
    read = [name for name in stage.reads if name in runs]
    return f"after {' and '.join(read)}" if read else None


def reason(stage: Stage, work: Work) -> str | None:
    """Why a stage would run, now that what it reads is there; None: its artifact is."""
    if stage.always:
        return stage.always
    if not work.has(stage.name):
        return "not there yet"
    before = made_from(work.latest(stage.name))
    if before is None:
        return "the last one does not say what it was made from"
    parts = changed(stage.recipe(), before)
    return f"changed: {', '.join(parts)}" if parts else None


@dataclass
class StageRecord:
    """How one stage went."""

    seconds: float
    skipped: bool
    id: str


class OutOfTimeError(AisleError):
    """The next stage would not end within the budget."""


@dataclass
class Runner:
    """Runs stages one after the other."""

    work: Work
    say: Say  # of people's progress
    journal: Journal
    durations: Durations
    budget: float | None = None  # seconds; None: as long as it takes
    started: float = field(default_factory=time.perf_counter)
    records: dict[str, StageRecord] = field(default_factory=dict)
    _stage: str = "night"

    def tell(self, text: str) -> None:
        """A line for people, and for the log of the stage that is running."""
        self.journal.log(self._stage, text)
        self.say(text)

    @property
    def seconds(self) -> float:
        """Since the night began."""
        return time.perf_counter() - self.started

    def run(self, stage: Stage) -> Path:
        """Run one stage and write it down; skipped means that its artifact was there before.

        Raises:
            OutOfTimeError: By its last duration it would not end in time, not even without its optional work. Nothing of it was begun.
        """
        make, lean = self._fitting(stage)
        with self.within(stage.name):
            start, wall = time.perf_counter(), time.time()
            path = make(self.tell)
            skipped = (path / artifact.MANIFEST).stat().st_mtime < wall - 1e-3
            self.note(stage.name, time.perf_counter() - start, skipped, path.name, lean)
        return path

    def note(self, stage: str, seconds: float, skipped: bool, id: str, lean: bool = False) -> None:
        """Write down how a stage went."""
        self.records[stage] = StageRecord(round(seconds, 2), skipped, id)
        self.journal.write("stage", stage=stage, seconds=round(seconds, 2), skipped=skipped, lean=lean, id=id)

    @contextmanager
    def within(self, name: str) -> Iterator[None]:
        """What is said in the block goes to the log of `name`."""
        self._stage, before = name, self._stage
        try:
            yield
        finally:
            self._stage = before

    def _fitting(self, stage: Stage) -> tuple[Callable[[Say], Path], bool]:
        """How the stage is made in the time there is, and whether that leaves out something."""
        why = reason(stage, self.work) if stage.always or stage.name != "publish" else None
        if why is None:
            return stage.make, False
        needs = self.durations.of(stage.name)
        self.tell(f"{stage.name}: {why}{_about(needs)}")
        if self.budget is None or needs is None or needs <= (left := self.budget - self.seconds):
            return stage.make, False
        less = self.durations.of(stage.name, lean=True)
        if stage.lean is not None and less is not None and less <= left:
            self.tell(f"{stage.name}: without its optional work:{_about(needs)} would be needed, {left:.0f} s are left")
            return stage.lean, True
        raise OutOfTimeError(f"{stage.name} needs{_about(needs)}, and {max(0.0, left):.0f} s are left")

    def result(self) -> dict[str, Any]:
        """Of every stage that was asked: seconds, whether it was skipped, id."""
        return {name: vars(r) for name, r in self.records.items()}


def _about(seconds: float | None) -> str:
    return "" if seconds is None else f" about {seconds:.0f} s"
