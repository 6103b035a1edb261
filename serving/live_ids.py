"""The item ids of a release, and those of items that came after it, in rows behind the release's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np

from core.columns import Array
from core.ids import NO_ROW, IdMap
from core.live_columns import LiveTexts


class LiveIds(IdMap):
    """An id map with `n` rows, of which those from the end of `base` on are in `new` (id -> row) and `texts_of` (row -> id), which may grow later."""

    @classmethod
    def over(cls, base: IdMap, new: dict[str, int], texts_of: dict[int, str], n: int) -> Self:
        """See the class."""
        alive = np.concatenate([base.alive, np.ones(n - len(base), bool)])
        self = cls(LiveTexts.over(base.texts, texts_of, n), np.empty(0, np.uint64), np.empty(0, np.int32), alive)
        self._base, self._new, self._n = base, new, n
        return self

    _base: IdMap
    _new: dict[str, int]
    _n: int

    def row(self, external: str) -> int:
        """See IdMap."""
        found = self._base.row(external)
        return found if found != NO_ROW else self._live(external)

    def rows(self, externals: Iterable[str]) -> Array:
        """See IdMap."""
        externals = list(externals)
        rows = self._base.rows(externals)
        for at in np.flatnonzero(rows == NO_ROW).tolist():
            rows[at] = self._live(externals[at])
        return rows

    def _live(self, external: str) -> int:
        row = self._new.get(external, NO_ROW)
        return row if row < self._n else NO_ROW
