"""How long the stages of one request took."""

from __future__ import annotations

import time
from collections.abc import MutableMapping


class StageWatch:
    """Milliseconds by stage, and by the steps within one."""

    def __init__(self) -> None:
        self.began = self._last = time.perf_counter()
        self._laps: list[tuple[str, float]] = []
        self._steps: list[tuple[str, float]] = []  # within stages: an answer does not say them
        self.ends: list[tuple[str, float, float]] = []  # of both: name, begin and end by perf_counter, for traces
        self._step = self._last

    @property
    def every(self) -> list[tuple[str, float]]:
        """Stages and steps, milliseconds."""
        return self._laps + self._steps

    def lap(self, stage: str) -> None:
        """A stage ended now."""
        now = time.perf_counter()
        self._laps.append((stage, 1e3 * (now - self._last)))
        self.ends.append((stage, self._last, now))
        self._last = self._step = now

    def step(self, name: str) -> None:
        """A step of the stage that goes on ended now."""
        now = time.perf_counter()
        self._steps.append((name, 1e3 * (now - self._step)))
        self.ends.append((name, self._step, now))
        self._step = now

    def resume(self) -> None:
        """What happened since the last stage was for another placement."""
        self._last = self._step = time.perf_counter()

    def write(self, out: MutableMapping[str, float]) -> None:
        """Each stage, and "total"."""
        for stage, ms in self._laps:
            out[stage] = ms
        out["total"] = sum(ms for _, ms in self._laps)
