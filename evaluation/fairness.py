"""Who gets the attention: the share of exposure of each group of items, beside its share of the catalogue and of what people chose.

Exposure of a place is what the reader's attention gives it, 1 / log2(rank + 1), as in Singh & Joachims, Fairness of Exposure in Rankings (KDD 2018).
A page gives out 1 in all, so that every person weighs the same. Two standards are shown and none is preferred: the catalogue's share (demographic
parity) and that of the wanted items (disparate treatment: exposure in proportion to merit).
"""

from __future__ import annotations

import numpy as np

from core.columns import Array
from evaluation.item_groups import Grouping


def exposure(pages: Array, grouping: Grouping) -> Array:
    """What each page gives each group: pages int32 `[q, k]`, padded with NO_ROW -> float64 `[q, g]`, each row adds up to 1, or 0 of an empty page."""
    there = pages >= 0
    attention = np.where(there, 1.0 / np.log2(np.arange(pages.shape[1]) + 2.0), 0.0)
    group = np.where(there, grouping.codes[np.where(there, pages, 0)], 0)
    cells = np.arange(len(pages))[:, None] * len(grouping.labels) + group
    shape = (len(pages), len(grouping.labels))
    sums = np.bincount(cells.ravel(), weights=attention.ravel(), minlength=shape[0] * shape[1]).reshape(shape)
    total = attention.sum(1, keepdims=True)
    return np.asarray(np.divide(sums, total, out=np.zeros(shape), where=total > 0))


def wanted(items: Array, queries: Array, grouping: Grouping, n_queries: int) -> Array:
    """The share of each group in what each query wants: items and queries int `[p]` -> float64 `[q, g]`, rows add up to 1."""
    g = len(grouping.labels)
    counts = np.bincount(queries * g + grouping.codes[items], minlength=n_queries * g).reshape(n_queries, g)
    total = np.maximum(1, counts.sum(1, keepdims=True))
    return np.asarray(counts / total, np.float64)


def differing(pages: Array, codes: Array) -> Array:
    """Diversity within a page: the share of pairs of its items that are of different kinds (intra-list diversity, Castells et al. 2022).

    Args:
        pages: int32 `[q, k]`, padded with NO_ROW, no item twice.
        codes: int `[items]`, the kind of each item.

    Returns:
        float64 `[q]`; NaN for a page of fewer than two items.
    """
    there = pages >= 0
    kinds = np.where(there, codes[np.where(there, pages, 0)], -1)
    both = there[:, :, None] & there[:, None, :] & ~np.eye(pages.shape[1], dtype=bool)
    unlike = (kinds[:, :, None] != kinds[:, None, :]) & both
    pairs = both.sum((1, 2))
    return np.asarray(np.divide(unlike.sum((1, 2)), pairs, out=np.full(len(pages), np.nan), where=pairs > 0))
