"""The two shapes an opinion takes: scores of few items, summed from evidence, and one order of the whole catalogue."""

from __future__ import annotations

import numpy as np

from core.columns import Array
from core.compiled import Column
from core.native import address

# Up to this many items for each entry, counting over the whole catalogue is cheaper than sorting the entries (measured at 2,000 to 100,000).
_DENSE = 4


class FewItems:
    """Scores of the items that a query has evidence for; 0 for every other item.

    Args:
        rows: int32 `[m]`, ascending, distinct.
        scores: float32 `[m]`, positive and finite.
    """

    def __init__(self, rows: Array, scores: Array) -> None:
        self._rows, self._scores = rows, scores

    def top(self, k: int, excluded: Array) -> tuple[Array, Array]:
        """See core.candidates.Scoring."""
        keep = np.flatnonzero(~contains(excluded, self._rows)) if len(excluded) else np.arange(len(self._rows))
        best = keep[strongest(self._scores[keep], k)]
        return self._rows[best], self._scores[best]

    def of(self, rows: Array) -> Array:
        """See core.candidates.Scoring."""
        if not len(self._rows):
            return np.zeros(len(rows), np.float32)
        at = np.minimum(np.searchsorted(self._rows, rows), len(self._rows) - 1)
        return np.where(self._rows[at] == rows, self._scores[at], np.float32(0))


class WholeOrder:
    """One order of the catalogue, the same for every query.

    Args:
        order: int32 `[m]`: the items with evidence, best first, ties by row.
        scores: float32 `[n_items]`, 0 without evidence.
    """

    def __init__(self, order: Array, scores: Array) -> None:
        self._order, self._scores = order, np.ascontiguousarray(scores, np.float32)

    def top(self, k: int, excluded: Array) -> tuple[Array, Array]:
        """See core.candidates.Scoring. Reads no more of the order than k and `excluded` can need."""
        rows = self._best(k, excluded)
        return rows, self._scores[rows]

    def column(self, k: int, excluded: Array) -> tuple[Column, int, Array | None]:
        """See core.compiled.Compiled."""
        rows = np.ascontiguousarray(self._best(k, excluded), np.int32)
        return Column(len(rows), None, address(rows), address(self._scores), len(self._scores)), 0, rows

    def _best(self, k: int, excluded: Array) -> Array:
        rows = self._order[: max(k, 0) + len(excluded)]
        return rows[~contains(excluded, rows)][: max(k, 0)] if len(excluded) else rows

    def of(self, rows: Array) -> Array:
        """See core.candidates.Scoring."""
        if not len(self._scores):
            return np.zeros(len(rows), np.float32)
        known = (rows >= 0) & (rows < len(self._scores))
        return np.where(known, self._scores[np.where(known, rows, 0)], np.float32(0))


def order_of(scores: Array) -> Array:
    """The rows with a positive score, best first, ties by row: float32 `[n]` -> int32 `[m]`.

    >>> order_of(np.array([1, 0, 2, 1], np.float32))
    array([2, 0, 3], dtype=int32)
    """
    rows = np.flatnonzero(scores > 0)
    return rows[np.argsort(-scores[rows], kind="stable")].astype(np.int32)


def strongest(scores: Array, k: int) -> Array:
    """Positions of the k greatest of float32 `[n]`, best first, ties by position: int64 `[min(k, n)]`.

    >>> strongest(np.array([1, 3, 2, 3], np.float32), 3)
    array([1, 3, 2])
    """
    if k <= 0:
        return np.empty(0, np.int64)
    at = np.arange(len(scores))
    if k < len(scores):
        # only what reaches the k-th score needs sorting
        at = np.flatnonzero(scores >= np.partition(scores, len(scores) - k)[len(scores) - k])
    return at[np.argsort(-scores[at], kind="stable")[:k]]


def contains(sorted_rows: Array, rows: Array) -> Array:
    """Which of `rows` `[n]` are in `sorted_rows` (ascending): bool `[n]`."""
    if not len(sorted_rows):
        return np.zeros(len(rows), bool)
    at = np.minimum(np.searchsorted(sorted_rows, rows), len(sorted_rows) - 1)
    return np.asarray(sorted_rows[at] == rows)


def summed(rows: Array, values: Array, n_items: int) -> FewItems:
    """Add up evidence, in its order: int32 rows `[e]` in [0, n_items) with float64 values `[e]`; what adds up to nothing or less is left out.

    Small catalogues are counted over; for large ones the entries are sorted, so that the cost of a query never grows with the catalogue.
    """
    if not len(rows):
        return FewItems(np.empty(0, np.int32), np.empty(0, np.float32))
    if n_items <= _DENSE * len(rows):
        totals = np.bincount(rows, weights=values, minlength=n_items).astype(np.float32)
        found = np.flatnonzero(totals > 0)
        return FewItems(found.astype(np.int32), totals[found])
    distinct, group = np.unique(rows, return_inverse=True)
    totals = np.bincount(group, weights=values).astype(np.float32)
    keep = totals > 0
    return FewItems(distinct[keep].astype(np.int32), totals[keep])
