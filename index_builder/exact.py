"""Exact inner-product search in numpy: the oracle of every other index, and what serves when the catalogue is small."""

from __future__ import annotations

from typing import Final

import numpy as np

from core.columns import Array
from index_builder.protocol import check_queries, mask_of, nothing

# Scores held at a time (256 MB of float32), whatever the number of queries.
_BLOCK_SCORES: Final = 1 << 26


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
        """The k items of highest inner product. See `index_builder.protocol.Index` for the contract."""
        check_queries(queries, self.dimensions)
        mask = None if allowed is None else mask_of(allowed, len(self))
        rows, values = nothing(len(queries), k)
        block = max(_BLOCK_SCORES // max(len(self), 1), 1)
        for at in range(0, len(queries), block):
            part = slice(at, at + block)
            # a NaN or an overflow is dealt with below
            with np.errstate(invalid="ignore", over="ignore"):
                scores = np.asarray(queries[part] @ self._vectors.T, np.float32)
            scores[np.isnan(scores)] = -np.inf  # NaN never takes a slot
            scores[~np.isfinite(queries[part]).all(axis=1)] = -np.inf
            if mask is not None:
                scores[:, ~mask] = -np.inf
            rows[part], values[part] = best(scores, k)
        return rows, values


def best(scores: Array, k: int) -> tuple[Array, Array]:
    """The k best columns of each row of `scores` float32 `[n, items]`, ties by row number; -inf never takes a slot."""
    n, items = scores.shape
    rows, values = nothing(n, k)
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
