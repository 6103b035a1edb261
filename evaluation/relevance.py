"""What each test query should have been answered with: relevant items and their gains, as compressed rows (CSR)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from core.columns import Array


@dataclass(frozen=True)
class Relevance:
    """The relevant items of q queries, p (query, item) pairs in all.

    Query i wants `items[starts[i]:starts[i+1]]`: at least one, each once, in ascending order. No metric is defined for a query that wants
    nothing, so such a query cannot be expressed here: drop it, and count what was dropped.

    Raises:
        ValueError: if any of that does not hold, or a gain is not positive and finite.
    """

    starts: Array  # int64 [q + 1]
    items: Array  # int32 [p], item rows
    gains: Array  # float32 [p]

    def __post_init__(self) -> None:
        if len(self.starts) < 1 or self.starts[0] != 0 or self.starts[-1] != len(self.items):
            raise ValueError(f"starts must run from 0 to the number of pairs, {len(self.items)}; got {self.starts}")
        if len(self.gains) != len(self.items):
            raise ValueError(f"{len(self.items)} relevant items, but {len(self.gains)} gains")
        if (empty := np.flatnonzero(np.diff(self.starts) < 1)).size:
            raise ValueError(f"query {empty[0]} has no relevant item: no metric is defined for it")
        if not (np.isfinite(self.gains) & (self.gains > 0)).all():
            raise ValueError("gains of relevant items must be positive and finite")
        same_query = self.queries[1:] == self.queries[:-1]
        if (self.items < 0).any() or (same_query & (np.diff(self.items) <= 0)).any():
            raise ValueError("the relevant items of a query must be distinct rows in ascending order")

    @classmethod
    def of(cls, queries: Array, items: Array, gains: Array, n_queries: int) -> Relevance:
        """From pairs in any order, int `[m]` each; a pair that occurs more than once counts once, with its greatest gain."""
        order = np.lexsort((-gains, items, queries))
        queries, items, gains = queries[order], items[order], gains[order]
        first = np.ones(len(items), bool)
        first[1:] = (queries[1:] != queries[:-1]) | (items[1:] != items[:-1])
        starts = np.searchsorted(queries[first], np.arange(n_queries + 1)).astype(np.int64)
        return cls(starts, items[first].astype(np.int32), gains[first].astype(np.float32))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @cached_property
    def queries(self) -> Array:
        """The query of each pair, int64 `[p]`."""
        return np.repeat(np.arange(len(self)), np.diff(self.starts))

    def only(self, pairs: Array) -> tuple[Relevance, Array]:
        """The pairs of a mask, bool `[p]`, and the queries that still want something, int64 ascending: query j of the result is `queries[j]`."""
        queries, renumbered = np.unique(self.queries[pairs], return_inverse=True)
        starts = np.searchsorted(renumbered, np.arange(len(queries) + 1)).astype(np.int64)
        return Relevance(starts, self.items[pairs], self.gains[pairs]), queries
