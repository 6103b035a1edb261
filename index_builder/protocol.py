"""What every index promises, and the three lines that each of them starts with. No FAISS here."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from core.columns import Array
from core.ids import NO_ROW


class Index(Protocol):
    """Inner-product search over the rows of one catalogue. Safe to search from several threads."""

    @property
    def is_exact(self) -> bool:
        """Whether the answer is the true one."""

    @property
    def dimensions(self) -> int:
        """Length of a vector."""

    def __len__(self) -> int:
        """Rows: one past the highest row that can be found."""

    def search(self, queries: Array, k: int, allowed: Array | None = None) -> tuple[Array, Array]:
        """The k best items of each query.

        Args:
            queries: float32 `[n, d]`. One that holds a NaN or an infinity finds nothing.
            k: May exceed the number of items.
            allowed: bool `[items]`; only these rows may be returned, so none beyond its end. None: all.

        Returns:
            rows int32 `[n, k]`, best first, ties by row (among what is found, where the index is not exact), padded with NO_ROW;
            scores float32 `[n, k]`, -inf beside NO_ROW.

        Raises:
            ValueError: if the dimension of the queries is not the index's.
        """


def check_queries(queries: Array, dimensions: int) -> None:
    """Refuse queries that are not `[n, dimensions]`."""
    if queries.ndim != 2 or queries.shape[1] != dimensions:
        raise ValueError(f"queries of shape {queries.shape}, expected [n, {dimensions}]")


def mask_of(allowed: Array, rows: int) -> Array:
    """`allowed` as bool `[rows]`: a catalogue may have grown since the filter was made, what it does not speak of is not allowed."""
    if allowed.dtype != bool or allowed.ndim != 1:
        raise ValueError(f"a filter of {allowed.dtype} {list(allowed.shape)}, expected bool [{rows}]")
    if len(allowed) >= rows:
        return allowed[:rows]
    mask = np.zeros(rows, bool)
    mask[: len(allowed)] = allowed
    return mask


def nothing(n: int, k: int) -> tuple[Array, Array]:
    """The answer to n queries that find nothing: rows int32 and scores float32, both `[n, k]`."""
    return np.full((n, k), NO_ROW, np.int32), np.full((n, k), -np.inf, np.float32)


def merged(rows: Array, scores: Array, k: int) -> tuple[Array, Array]:
    """The k best of each line, best first, ties by row. `rows` int `[n, m]` with NO_ROW and `scores` float32 `[n, m]` with -inf beside it."""
    scores = np.where(rows == NO_ROW, -np.inf, scores)
    line, key = np.arange(len(rows))[:, None], -scores
    order = np.argsort(
        key, axis=-1, kind="stable"
    )  # nearly nothing where the parts are in order already, as FAISS leaves them
    key = key[line, order]
    if ((key[:, 1:] == key[:, :-1]) & (key[:, 1:] < np.inf)).any():
        order = np.lexsort((rows, -scores), axis=-1)
    order = order[:, :k]
    top, values = rows[line, order].astype(np.int32), scores[line, order].astype(np.float32)
    top[values == -np.inf] = NO_ROW
    if order.shape[1] == k:
        return top, values
    padded = nothing(len(rows), k)
    padded[0][:, : order.shape[1]], padded[1][:, : order.shape[1]] = top, values
    return padded
