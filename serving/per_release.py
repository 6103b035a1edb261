"""What is worked out once for a release and kept: of the one that answers, and of those of arms beside it."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

from serving.release import Release

T = TypeVar("T")
_MOST: Final = 4


class PerRelease(Generic[T]):
    """Of a few releases; another view of the same one (each change of the live catalog makes one) begins anew. The caller sees to locks."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._kept: OrderedDict[Path, tuple[Release, T]] = OrderedDict()

    def of(self, release: Release) -> T:
        """What is kept of it; new where there was nothing."""
        kept = self._kept.get(release.path)
        if kept is None or kept[0] is not release:
            kept = self._kept[release.path] = (release, self._make())
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
        return kept[1]

    def holds(self, release: Release, value: T) -> bool:
        """Whether `value` is still what is kept of it."""
        kept = self._kept.get(release.path)
        return kept is not None and kept[0] is release and kept[1] is value
