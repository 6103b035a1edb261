"""The items of the release for which a filter holds. A bit vector of the whole catalogue is made once and kept while the release shows the same items."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

import numpy as np

from core.columns import Array
from serving.filters.binding import bind, changes_by_itself
from serving.filters.syntax import parse
from serving.per_release import PerRelease
from serving.release import Release

_BYTES: Final = 64_000_000  # kept by a process of each release
_EVERYTHING: Final = slice(None)


class Masks:
    """Many threads may ask."""

    def __init__(self, most_bytes: int = _BYTES) -> None:
        self._most, self._lock = most_bytes, threading.Lock()
        self._kept: PerRelease[OrderedDict[str, Array]] = PerRelease(OrderedDict)

    def of(self, text: str, release: Release, now: int) -> Array:
        """The mask of a filter at `now` (microseconds): bool `[items]`, read-only.

        Raises:
            FilterError: The text is no filter, or not one over the fields of the release.
        """
        node = parse(text)
        if changes_by_itself(node):
            return bind(node, release, now)(_EVERYTHING)
        with self._lock:
            kept = self._kept.of(release)
            found = kept.get(text)
            if found is not None:
                kept.move_to_end(text)
                return found
        mask = bind(node, release, now)(_EVERYTHING)
        mask.setflags(write=False)
        with self._lock:
            if self._kept.holds(release, kept):
                kept[text] = mask
                while len(kept) > max(1, self._most // max(1, len(mask))):
                    kept.popitem(last=False)
        return mask


def both(a: Array | None, b: Array | None) -> Array | None:
    """What both masks allow; None allows everything."""
    if a is None or b is None:
        return b if a is None else a
    found: Array = np.logical_and(a, b)
    return found
