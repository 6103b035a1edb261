"""The towers of a release over items that came, or were changed, after it: vectors from the item tower, found by exact search beside the index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.candidates import Scoring
from core.columns import Array
from core.history import Query
from core.room import with_room
from retrieval.item_tower import ItemTower
from retrieval.query import Search, TowerScoring, TowerSource, best


class LiveTowers:
    """Towers that are written to. What the index holds of a changed item is passed over; its new vector is searched with those of new items."""

    def __init__(self, base: TowerSource, folder: Path, room: int) -> None:
        self._base, self._tower = base, ItemTower.open(folder)
        self._known = len(base.tower.item_vectors)
        self._vectors, self._has_vector = (
            with_room(base.tower.item_vectors, room),
            with_room(base.tower.has_vector, room),
        )
        self._place: dict[int, int] = {}  # row -> place among the changed
        self._rows = np.zeros(room + self._known, np.int32)
        self._beside = with_room(base.tower.item_vectors[:0], len(self._rows))  # their vectors together
        self._is_changed = np.zeros(len(self._has_vector), bool)

    def vectors(self, items: Sequence[Mapping[str, Any]], rows: Sequence[int]) -> Array:
        """Of n items, float32 `[n, d]`: see retrieval.item_tower. Reads nothing that `write` changes."""
        return self._tower.of_items(items, rows)

    def write(self, row: int, vector: Array) -> None:
        """Give an item its vector."""
        self._vectors[row], self._has_vector[row] = vector, bool(vector.any())
        place = self._place.setdefault(row, len(self._place))
        self._rows[place], self._beside[place] = row, vector
        self._is_changed[row] = True

    def view(self, n: int, available: Array) -> TowerSource:
        """The source over the first n rows; `available` bool `[rows]`: changed items that are not do not crowd out others."""
        if not self._place:
            return self._base
        changed = len(self._place)
        rows, beside, is_changed = self._rows[:changed], self._beside[:changed], self._is_changed
        found_before, known = self._base.search, self._known

        def search(vector: Array, k: int, allowed: Array | None = None) -> tuple[Array, Array]:
            old, scores = found_before(
                vector, min(k + min(changed, k), known), None if allowed is None else allowed[:known]
            )
            kept = (old >= 0) & ~is_changed[old]
            able = available[rows] & self._has_vector[rows]
            able = able if allowed is None else able & allowed[rows]
            new = np.where(able, beside @ vector, -np.inf).astype(np.float32)
            return best(np.concatenate([old[kept], rows]), np.concatenate([scores[kept], new]), k)

        tower = self._base.tower.over(self._vectors[:n], self._has_vector[:n])
        return TowerSource(tower, search)


class Newcomers:
    """What SimilarItems asks for items that no other source knows: nearness of item vectors.

    New items are proposed where they are among the nearest of all; for a new item on the page, whatever is nearest. It goes by the name of the
    source of content, which knows the items of the release by their attributes.
    """

    name: Final = "content"

    def __init__(self, towers: TowerSource, known: int) -> None:
        self._towers, self._known = towers, known  # items of the release

    def scoring(self, query: Query) -> Scoring:
        """From the items on the page."""
        tower = self._towers.tower
        rows = query.context[query.context >= 0]
        rows = rows[tower.has_vector[rows]]
        total = tower.item_vectors[rows].sum(axis=0)
        length = float(np.linalg.norm(total))
        vector = (total / length).astype(np.float32) if length > 0 else None
        return _Nearest(
            vector, tower.item_vectors, self._towers.search, 0 if (rows >= self._known).any() else self._known
        )


class _Nearest(TowerScoring):
    def __init__(self, vector: Array | None, vectors: Array, search: Search, least: int) -> None:
        super().__init__(vector, vectors, search)
        self._least = least  # the first row that may be proposed

    def top(self, k: int, excluded: Array) -> tuple[Array, Array]:
        """See core.candidates.Scoring."""
        rows, scores = super().top(k, excluded)
        kept = (rows >= self._least) & (scores > 0)
        return rows[kept], scores[kept]

    def of(self, rows: Array) -> Array:
        """See core.candidates.Scoring."""
        return np.maximum(super().of(rows), 0)
