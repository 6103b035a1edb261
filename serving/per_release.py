"""What is worked out once for a release and kept: of the one that answers, and of those of arms beside it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from serving.release import Release

T = TypeVar("T")
_FORGOTTEN_AFTER: Final = 2_000  # questions for others: a release that was closed goes, with its memory


class PerRelease(Generic[T]):
    """Of a few releases; another view of the same one (each change of the live catalog makes one) begins anew. The caller sees to locks."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make, self._asked = make, 0
        self._kept: OrderedDict[Path, tuple[Release, T]] = OrderedDict()  # the one that was asked for last is the last
        self._last: dict[Path, int] = {}

    def of(self, release: Release) -> T:
        """What is kept of it; new where there was nothing."""
        path, kept = release.path, self._kept.get(release.path)
        if kept is None or kept[0] is not release:
            kept = self._kept[path] = (release, self._make())
        self._asked += 1
        self._last[path] = self._asked
        if len(self._kept) > 1:
            self._kept.move_to_end(path)
            oldest = next(iter(self._kept))
            if self._asked - self._last[oldest] > _FORGOTTEN_AFTER:
                del self._kept[oldest], self._last[oldest]
        return kept[1]

    def holds(self, release: Release, value: T) -> bool:
        """Whether `value` is still what is kept of it."""
        kept = self._kept.get(release.path)
        return kept is not None and kept[0] is release and kept[1] is value
