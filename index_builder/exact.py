"""Exact inner-product search in numpy: the oracle of every other index, and what serves when the catalogue is small."""

from __future__ import annotations

import numpy as np

from core.columns import Array
from core.ids import NO_ROW


class ExactIndex:
    """Scores every vector. `vectors` float32 `[items, d]`, row-aligned with the item id map."""

    is_exact = True

    def __init__(self, vectors: Array) -> None:
        self._vectors = vectors

    def __len__(self) -> int:
        return len(self._vectors)

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self._vectors.shape[1])

    def search(self, queries: Array, k: int, allowed: Array | None = None) -> tuple[Array, Array]:
        """The k items of highest inner product. See `index_builder.search.Index` for the contract."""
        if queries.ndim != 2 or queries.shape[1] != self.dimensions:
            raise ValueError(f"queries of shape {queries.shape}, expected [n, {self.dimensions}]")
        scores = np.asarray(queries @ self._vectors.T, np.float32)
        # NaN never takes a slot
        scores[np.isnan(scores)] = -np.inf
        if allowed is not None:
            scores[:, ~allowed] = -np.inf
        return best(scores, k)


def best(scores: Array, k: int) -> tuple[Array, Array]:
    """The k best columns of each row of `scores` float32 `[n, items]`, ties by row number; -inf never takes a slot."""
    n, items = scores.shape
    rows, values = np.full((n, k), NO_ROW, np.int32), np.full((n, k), -np.inf, np.float32)
    for q in range(n):
        found = _top(scores[q], min(k, items))
        rows[q, : len(found)] = found
        values[q, : len(found)] = scores[q, found]
    return rows, values


def _top(scores: Array, k: int) -> Array:
    """Positions of the k highest finite scores `[items]`, highest first, ties by position."""
    if not k:
        return np.empty(0, np.int64)
    # everything at least as good as the k-th: ties at the border are settled by position below
    border = np.partition(scores, len(scores) - k)[len(scores) - k]
    candidates = np.flatnonzero((scores >= border) & (scores > -np.inf))
    return candidates[np.lexsort((candidates, -scores[candidates]))][:k]
