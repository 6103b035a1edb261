"""What the placements of one page show already, in the rows of whichever release answers the next one."""

from __future__ import annotations

import numpy as np

from core.columns import Array
from core.ids import NO_ROW
from serving.release import Release


class Taken:
    """Of one call."""

    def __init__(self) -> None:
        self._shown: list[tuple[Release, Array]] = []

    def add(self, release: Release, rows: Array) -> None:
        """Another placement shows these rows, int32 `[n]`, of a release."""
        self._shown.append((release, rows))

    def in_rows_of(self, release: Release) -> Array:
        """All of it, int32 `[m]`; what the release does not know is left out."""
        return np.concatenate([np.empty(0, np.int32), *(_in(release, by, rows) for by, rows in self._shown)])


def _in(release: Release, by: Release, rows: Array) -> Array:
    if by.path == release.path:
        return rows
    found = release.item_ids.rows([by.item_ids[row] for row in rows.tolist()])
    known: Array = found[found != NO_ROW].astype(np.int32)
    return known
