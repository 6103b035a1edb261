"""Accuracy of ranked answers, one number a query; means, intervals and cohorts are taken from those later.

Answers are int32 `[q, k]`, best first, padded with NO_ROW. `find` looks up where each relevant item stands in its query's answer, once; all
metrics are sums over that. Definitions are those of acceptance/check.py when all gains are equal: NDCG (Järvelin & Kekäläinen, ACM TOIS 2002)
with linear gains, the discount 1 / log2(rank + 1) and the ideal over min(k, relevant items); hits; and recall over all relevant items. A query
without an answer scores 0. An item that an answer repeats counts at its first place only; the repetition wastes its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.columns import Array
from core.ids import NO_ROW
from evaluation.relevance import Relevance

_CELLS = 1 << 22  # compared at a time: bounds the memory whatever the number of pairs


@dataclass(frozen=True)
class Found:
    """Where answers hold the relevant items."""

    relevance: Relevance
    positions: Array  # int32 [p]: place in the query's answer, from 0; NO_ROW where the answer lacks the item

    def __len__(self) -> int:
        return len(self.relevance)

    def only(self, pairs: Array) -> tuple[Found, Array]:
        """As if only the pairs of a mask, bool `[p]`, were relevant; and the queries that remain (`Relevance.only`)."""
        relevance, queries = self.relevance.only(pairs)
        return Found(relevance, self.positions[pairs]), queries

    def within(self, k: int) -> Array:
        """Which relevant items are in the first k, bool `[p]`."""
        return (self.positions >= 0) & (self.positions < k)

    def total(self, values: Array) -> Array:
        """Sums over each query's pairs: `[p]` -> float64 `[q]`."""
        return np.bincount(self.relevance.queries, weights=values, minlength=len(self))


def padded(rows: Sequence[Array], k: int) -> Array:
    """Ragged answers as a matrix: the first k of each, int32 `[q, k]`, padded with NO_ROW."""
    answers = np.full((len(rows), k), NO_ROW, np.int32)
    for answer, row in zip(answers, rows, strict=True):
        answer[: len(row)] = row[:k]
    return answers


def find(answers: Array, relevance: Relevance) -> Found:
    """Look up every relevant item in its query's answer, int32 `[q, k]`.

    Raises:
        ValueError: if the answers are not one row of item rows for each query.
    """
    if answers.ndim != 2 or len(answers) != len(relevance) or not np.issubdtype(answers.dtype, np.integer):
        raise ValueError(f"expected integer answers [{len(relevance)}, k], got {answers.dtype} {list(answers.shape)}")
    positions = np.full(len(relevance.items), NO_ROW, np.int32)
    if answers.shape[1]:
        step = max(1, _CELLS // answers.shape[1])
        for start in range(0, len(positions), step):
            block = slice(start, start + step)
            equal = answers[relevance.queries[block]] == relevance.items[block, None]
            # argmax of a boolean row is its first True: a repetition further down is never seen
            positions[block] = np.where(equal.any(1), equal.argmax(1), NO_ROW)
    return Found(relevance, positions)


def ndcg(found: Found, k: int) -> Array:
    """Normalised discounted cumulative gain of the first k, float64 `[q]` in [0, 1]."""
    _check(k)
    relevance = found.relevance
    gains = relevance.gains.astype(np.float64)
    dcg = found.total(np.where(found.within(k), gains * _discount(found.positions), 0.0))
    # the ideal answer holds each query's gains in descending order
    order = np.lexsort((-gains, relevance.queries))
    rank = np.arange(len(gains)) - relevance.starts[relevance.queries]
    ideal = found.total(np.where(rank < k, gains[order] * _discount(rank), 0.0))
    # both are sums of the same terms, added in another order: a perfect answer may exceed its ideal by a rounding
    return np.minimum(dcg / ideal, 1.0)


def hit(found: Found, k: int) -> Array:
    """Whether any relevant item is in the first k, float64 `[q]`: 0 or 1."""
    _check(k)
    return (found.total(found.within(k)) > 0).astype(np.float64)


def recall(found: Found, k: int) -> Array:
    """Share of the relevant items that are in the first k, float64 `[q]` in [0, 1]. The gains play no part."""
    _check(k)
    return found.total(found.within(k)) / np.diff(found.relevance.starts)


def mrr(found: Found, k: int) -> Array:
    """Reciprocal rank (from 1) of the first relevant item in the first k, 0 without one: float64 `[q]` in [0, 1]."""
    _check(k)
    reciprocal = np.where(found.within(k), 1.0 / (np.maximum(found.positions, 0) + 1.0), 0.0)
    return np.maximum.reduceat(reciprocal, found.relevance.starts[:-1]) if len(found) else reciprocal


def _discount(positions: Array) -> Array:
    return 1.0 / np.log2(np.maximum(positions, 0) + 2.0)


def _check(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
