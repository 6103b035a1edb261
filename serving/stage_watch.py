"""How long the stages of one request took."""

from __future__ import annotations

import time
from collections.abc import MutableMapping


class StageWatch:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self._last = time.perf_counter()
        self._laps: list[tuple[str, float]] = []

    def lap(self, stage: str) -> None:
        """A stage ended now."""
        now = time.perf_counter()
        self._laps.append((stage, 1e3 * (now - self._last)))
        self._last = now

    def resume(self) -> None:
        """What happened since the last stage was for another placement."""
        self._last = time.perf_counter()

    def write(self, out: MutableMapping[str, float]) -> None:
        """Each stage, and "total"."""
        for stage, ms in self._laps:
            out[stage] = ms
        out["total"] = sum(ms for _, ms in self._laps)
