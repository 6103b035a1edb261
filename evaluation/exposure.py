"""What the answers do to the catalogue: how much of it they show, how evenly, and how popular it was already.

Definitions follow Castells, Hurley & Vargas, Novelty and Diversity in Recommender Systems (Recommender Systems Handbook, 2022). `popularity` is
the number of people who had chosen an item when the question was asked.
"""

from __future__ import annotations

import numpy as np

from core.columns import Array
from core.ids import NO_ROW


def shown(answers: Array, k: int) -> Array:
    """The first k of each answer, int32 `[q, k]`, with the second and later places of a repeated item emptied to NO_ROW."""
    first = answers[:, :k].copy()
    order = np.argsort(first, axis=1, kind="stable")
    ordered = np.take_along_axis(first, order, 1)
    repeated = np.zeros(first.shape, bool)
    repeated[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    np.put_along_axis(first, order, np.where(repeated, NO_ROW, ordered), 1)
    return first


def counts(items: Array, n_items: int) -> Array:
    """How many answers show each item: int32 `[q, k]` of `shown` -> int64 `[n_items]`."""
    return np.bincount(items[items >= 0], minlength=n_items)


def coverage(shows: Array) -> float:
    """Share of the catalogue that is shown at all. `shows` int64 `[n_items]` as `counts` returns."""
    return float(np.mean(shows > 0)) if len(shows) else 0.0


def gini(shows: Array) -> float:
    """Concentration: 0 when every item is shown equally often, 1 when one item takes all. 0 when nothing is shown.

    With shares p in ascending order, the sum of (2 j - n - 1) p_j for j = 1 to n, divided by n - 1.
    """
    n, total = len(shows), shows.sum()
    if n < 2 or total == 0:
        return 0.0
    return float(((2 * np.arange(1, n + 1) - n - 1) * np.sort(shows)).sum() / ((n - 1) * total))


def self_information(popularity: Array, people: int) -> Array:
    """Surprise of each item in bits, float64 `[n_items]`: -log2 of the share of people who chose it.

    One person is added to both counts, so that an item nobody chose yet has a finite surprise, the greatest.
    """
    return np.asarray(np.log2((people + 1.0) / (popularity + 1.0)), np.float64)


def percentiles(popularity: Array) -> Array:
    """Popularity percentile of each item in (0, 1), 1 the most popular: float64 `[n_items]`. Equals share the middle of their ranks."""
    ordered = np.sort(popularity)
    below, up_to = np.searchsorted(ordered, popularity, "left"), np.searchsorted(ordered, popularity, "right")
    return np.asarray((below + up_to) / (2.0 * max(1, len(popularity))), np.float64)


def mean_of_shown(items: Array, values: Array) -> Array:
    """Mean value of the items that each answer shows: int32 `[q, k]` and `[n_items]` -> float64 `[q]`; NaN where nothing is shown."""
    there = items >= 0
    total = np.where(there, values[np.where(there, items, 0)], 0.0).sum(1) if len(values) else np.zeros(len(items))
    n = there.sum(1)
    return np.asarray(np.divide(total, n, out=np.full(len(items), np.nan), where=n > 0), np.float64)
