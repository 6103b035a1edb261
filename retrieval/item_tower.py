"""The item tower in numpy: the one function from an item's id and attributes to its vector, at export, on every night after it and at serving.

The same bits come out for the same item wherever it is asked, so that an item whose attributes did not change keeps its place in the index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np

from core.columns import Array, load_array
from core.ids import NO_ROW
from core.tokens import Bags, bags_of, look_up

FOLDER: Final = "item_tower"
_CHUNK: Final = 1 << 16  # items at a time


class ItemTower:
    """Vector: id embedding + weighted sum of the embeddings of the item's tokens, at unit length (retrieval/towers/model.py learns it).

    Args:
        ids: float32 `[m + 1, d]`, the last row that of an item without an embedding of its own.
        has_id: bool `[m]`: which of the rows were learned.
        tokens: uint64 `[v]`, sorted hashes.
        token_vectors: float32 `[v, d]`.
    """

    def __init__(self, ids: Array, has_id: Array, tokens: Array, token_vectors: Array) -> None:
        self.ids, self.has_id, self.tokens, self.token_vectors = ids, has_id, tokens, token_vectors

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the item tower of the towers in `folder`."""
        return cls(*(load_array(folder / FOLDER / f"{n}.npy") for n in ("ids", "has_id", "tokens", "token_vectors")))

    def vector(self, attributes: Mapping[str, Any], row: int | None = None) -> Array:
        """`of_items` for one: float32 `[d]`."""
        return self.of_items([attributes], [NO_ROW if row is None else row])[0]  # type: ignore[no-any-return]

    def of_items(self, items: Sequence[Mapping[str, Any]], rows: Sequence[int]) -> Array:
        """Unit vectors float32 `[n, d]` from the items' columns as the shop sends them.

        Zero where nothing is known: no token was seen in training and the row was not learned.

        Args:
            items: Attributes of n items, see `tokens.bags_of`.
            rows: Their rows, whose id embeddings they keep where there are such; NO_ROW for new ones.
        """
        return self._units(np.asarray(rows, np.int64), bags_of(items))[0]

    def vectors(self, bags: Bags) -> tuple[Array, Array]:
        """Of a whole catalogue, row-aligned with the item ids: float32 `[n, d]`, and bool `[n]`: something is known of the item (else it is zero)."""
        return self._units(np.arange(len(bags)), bags)

    def _units(self, rows: Array, bags: Bags) -> tuple[Array, Array]:
        own = (rows >= 0) & (rows < len(self.has_id))
        own[own] = self.has_id[rows[own]]
        of, tokens, weights = look_up(bags, self.tokens)
        known = own | (np.bincount(of, minlength=len(rows)) > 0)
        vectors = np.zeros((len(rows), self.ids.shape[1]), np.float32)
        for start in range(0, len(rows), _CHUNK):
            some = slice(start, min(start + _CHUNK, len(rows)))
            total = self.ids[np.where(own[some], rows[some], len(self.ids) - 1)]
            a, b = np.searchsorted(of, [some.start, some.stop])
            if b > a:
                first = np.flatnonzero(np.diff(of[a:b], prepend=-1))
                parts = weights[a:b, None] * self.token_vectors[tokens[a:b]]
                total[of[a:b][first] - some.start] += np.add.reduceat(parts, first, axis=0)
            length = np.sqrt(np.einsum("ij,ij->i", total, total))
            vectors[some] = total / np.maximum(length, 1e-6)[:, None]
        vectors[~known] = 0
        return vectors, known
