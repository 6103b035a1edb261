"""When items of a release are on the shelf, as its own items table says (`available_from`, `available_until`), and when that changes next."""

from __future__ import annotations

from typing import Final

import numpy as np

from core.catalog_entry import ALWAYS, Window
from core.columns import Array, Columns
from core.schema import Column

_NEVER: Final = ALWAYS[1]


class Windows:
    """The windows of a table, from the moment `now` (microseconds) on. Most tables have none: then nothing is kept."""

    def __init__(self, items: Columns, now: int) -> None:
        self._since, self._until = (_times(items, c) for c in (Column.AVAILABLE_FROM, Column.AVAILABLE_UNTIL))
        times, rows = zip(*(_ahead(t, now) for t in (self._since, self._until)), strict=True)
        order = np.argsort(np.concatenate(times), kind="stable")
        self._times, self._rows, self._at = np.concatenate(times)[order], np.concatenate(rows)[order], 0
        self.closed = np.union1d(  # int64: the rows that are outside their window now
            np.flatnonzero(self._since > now), np.flatnonzero((self._until > 0) & (self._until <= now))
        )

    @property
    def next(self) -> float:
        """When the next window opens or closes, microseconds; infinity: none will."""
        return float(self._times[self._at]) if self._at < len(self._times) else _NEVER

    def due(self, now: int) -> list[int]:
        """The rows whose window opened or closed up to `now`, each time once."""
        start = self._at
        self._at = start + int(np.searchsorted(self._times[start:], now, side="right"))
        return [int(r) for r in self._rows[start : self._at]]

    def of(self, row: int) -> Window:
        """The window of a row; without an end that is not known."""
        since = float(self._since[row]) if row < len(self._since) else 0.0
        until = float(self._until[row]) if row < len(self._until) else 0.0
        return (since if since > 0 else ALWAYS[0]), (until if until > 0 else ALWAYS[1])


def _times(items: Columns, name: Column) -> Array:
    """The column, int64, 0 or less where unknown; empty where no row has one."""
    times = np.asarray(items.numbers(name)) if name in items else np.empty(0, np.int64)
    return times if (times > 0).any() else times[:0]


def _ahead(times: Array, now: int) -> tuple[Array, Array]:
    rows = np.flatnonzero(times > now)
    return times[rows], rows
