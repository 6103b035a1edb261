"""What begins the pages of strangers, and what completes a page: items that nothing speaks for but that many want them."""

from __future__ import annotations

from typing import Final

import numpy as np

from core.columns import Array
from serving.answers import Request
from serving.release import Release

_NONE: Final = np.empty(0, np.int32)


def fill_of(release: Release, request: Request, missing: int, taken: Array) -> tuple[Array, int]:
    """Available items that are not `taken`: those of `trending`, how many these are, then the most popular; last what a filter forbids that is not strict."""
    if missing <= 0:
        return _NONE, 0
    allowed = request.allowed
    first = first_showable(release, request.trending, missing, taken, allowed)
    rest = first_showable(release, release.fill, missing - len(first), np.concatenate([taken, first]), allowed)
    found = np.concatenate([first, rest])
    if request.filter is not None and not request.strict:
        hidden = None if request.rules is None else request.rules.allowed
        left = first_showable(release, release.fill, missing - len(found), np.concatenate([taken, found]), hidden)
        found = np.concatenate([found, left])
    return found, len(first)


def first_showable(release: Release, order: Array, n: int, taken: Array, allowed: Array | None) -> Array:
    """The first n rows of `order` that are available, `allowed` (bool `[items]`; None: all) and not `taken`."""
    if n <= 0 or not len(order):
        return _NONE
    for reach in (n + len(taken), len(order)):
        rows = order[:reach]
        able = release.available[rows] & ~np.isin(rows, taken)
        rows = rows[able if allowed is None else able & allowed[rows]]
        if len(rows) >= n:
            break
    return rows[:n]
