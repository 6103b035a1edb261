"""What of a query a source starts from: the items on the page, and the distinct items that the person chose."""

from __future__ import annotations

import numpy as np

from core.columns import Array
from core.compiled import library
from core.history import Query
from retrieval.sources import compiled


def on_page(query: Query, n_items: int) -> Array:
    """Distinct known rows of the page's items, in their order: int32 `[m]`."""
    items = query.context
    return distinct(items[(items >= 0) & (items < n_items)])


def distinct(rows: Array) -> Array:
    """Each row once, in the order of first occurrence.

    >>> distinct(np.array([7, 3, 7, 1], np.int32))
    array([7, 3, 1], dtype=int32)
    """
    if len(rows) < 2:  # an empty page, most of the time
        return rows.astype(np.int32)
    values, first = np.unique(rows, return_index=True)
    return values[np.argsort(first)].astype(np.int32)


def seeds(query: Query, n_items: int, limit: int, recency: float) -> tuple[Array, Array]:
    """The items to start from with their weights: int32 `[m]`, float64 `[m]`, distinct, none outside [0, n_items).

    The page's items come first and weigh 1 each; then the `limit` newest chosen items. Those of the person's newest moment weigh 1 too (1 / 2 **
    recency on a page with items), those of the p-th newest p ** -recency: things bought together are equally recent, in whatever order they
    stand. Events without gain (impressions, returns) are no evidence. Several sources ask the same of a query: it is worked out once.
    """
    what = (seeds, n_items, limit, recency)
    found: tuple[Array, Array] | None = query.notes.get(what)
    if found is None:
        kernel = library()
        found = query.notes[what] = (
            counted_seeds(query, n_items, limit, recency)
            if kernel is None
            else compiled.seeds(kernel, query, n_items, limit, recency)
        )
    return found


def counted_seeds(query: Query, n_items: int, limit: int, recency: float) -> tuple[Array, Array]:
    """The same by numpy."""
    history = query.history
    page = on_page(query, n_items)
    good = np.flatnonzero((history.gains > 0) & (history.items >= 0) & (history.items < n_items))[::-1]
    items, times = history.items[good], history.times[good]
    places = np.cumsum(np.concatenate([[0], times[1:] != times[:-1]])[: len(times)]) + (2.0 if len(page) else 1.0)
    rows, first = np.unique(np.concatenate([page, items]), return_index=True)
    newest = np.argsort(first)[: len(page) + limit]
    weights = np.concatenate([np.ones(len(page)), places**-recency])
    return rows[newest].astype(np.int32), weights[first[newest]]
