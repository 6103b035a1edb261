"""What retrieval finds for those of whom little is known: items without a single event, people with a few.

New items: a share of the items loses every training event and is added back by attributes only. New people: the histories of test people, cut
down to their newest events.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import scipy.sparse as sp

from core.columns import Array, Coded, Columns, Tags, Texts
from core.config import PipelineConfig
from core.history import History, Query
from core.prepared import Fold, Prepared, Protocol
from core.schema import Column
from evaluation.judgements import Judgements
from retrieval.attributes import attribute_matrix
from retrieval.item_tower import ItemTower
from retrieval.sources.evidence import seeds

SHARE: Final = 0.1  # of the items with a training event
ATTRIBUTE: Final = "attribute."


def held_items(prepared: Prepared, fold: Fold, seed: int, share: float = SHARE) -> Array:
    """A seeded `share` of the items that somebody chose before `fold`: int32 rows, ascending."""
    items = np.unique(prepared.interactions(fold).item)
    n = round(share * len(items))
    return np.sort(np.random.default_rng(seed).choice(items, n, replace=False)).astype(np.int32)


class Without(Prepared):
    """A prepared data set as if some items had no event at all; their attributes stay.

    A pair that skips over a removed event keeps its distance: only pairs of which the item is one end go.
    """

    def __init__(self, prepared: Prepared, items: Array) -> None:
        super().__init__(prepared.path)
        self._removed = items
        gone = np.isin(prepared.events.numbers(Column.ITEM), items)
        self.events = rows_of(prepared.events, ~gone)

    def pairs(self, protocol: Protocol, name: str) -> Columns:
        """Without those of a removed item."""
        pairs = super().pairs(protocol, name)
        gone = np.isin(pairs.numbers("source"), self._removed) | np.isin(pairs.numbers("target"), self._removed)
        return rows_of(pairs, ~gone)


def rows_of(columns: Columns, keep: Array) -> Columns:
    """The rows where `keep` bool `[rows]`, of columns that are all numbers."""
    return Columns({name: np.asarray(columns.numbers(name)[keep]) for name in columns}, rows=int(keep.sum()))


def without_items(history: History, items: Array) -> History:
    """The history as if it never held any of `items`."""
    keep = ~np.isin(history.items, items)
    return History(history.items[keep], history.times[keep], history.types[keep], history.gains[keep])


def truncated(query: Query, n: int | None, remove_seen: bool) -> tuple[Query, Array]:
    """The query as if only the newest `n` choices (events with a gain) and what came after them were known, and what it must not return.

    None: everything is known.
    """
    history = query.history
    if n is not None:
        good = np.flatnonzero(history.gains > 0)
        start = len(history) if n == 0 else 0 if n >= len(good) else int(good[-n])
        history = History() if start == len(history) else history.newest(len(history) - start)
    had = np.unique(history.items[history.gains > 0]) if remove_seen else np.empty(0, np.int32)
    return replace(query, history=history), had


@dataclass(frozen=True)
class Case:
    """A request that a new item would have answered."""

    query: Query  # its history never held a new item
    excluded: Array  # int32 ascending
    wanted: Array  # int32 ascending: new items that the person chose next


def requests(prepared: Prepared, judgements: Judgements, held: Array, config: PipelineConfig, most: int) -> list[Case]:
    """The test requests whose targets are among `held`, of people who have something else in their history; at most `most` (a seeded sample)."""
    relevance, queries = judgements.relevance.only(np.isin(judgements.relevance.items, held))
    order = np.random.default_rng(config.evaluation.seed).permutation(len(queries))
    cases: dict[int, Case] = {}
    for j in order.tolist():
        q = int(queries[j])
        query = judgements.query(q, prepared, config.sources.history_events)
        query = replace(query, history=without_items(query.history, held))
        if (query.history.gains > 0).any():
            wanted = relevance.items[relevance.starts[j] : relevance.starts[j + 1]]
            cases[j] = Case(query, judgements.excluded(q, prepared.events), wanted)
        if len(cases) == most:
            break
    return [cases[j] for j in sorted(cases)]


def found(case: Case, scores: Array, catalogue: Array, k: int) -> float:
    """Recall of a case's items among the k best of the `catalogue` (bool `[n]`) by `scores` float `[n]`."""
    return float((places(scores, catalogue, case.excluded, case.wanted) < k).mean())


def attributes_of(items: Columns, row: int) -> dict[str, Any]:
    """What a shop would send of the item at `row` of a prepared items table."""
    told: dict[str, Any] = {}
    for name in items:
        if name not in (Column.TITLE, Column.CATEGORY, Column.BRAND, Column.PRICE) and not name.startswith(ATTRIBUTE):
            continue
        column = items[name]
        value = column[row] if isinstance(column, Texts | Coded | Tags) else float(column[row])
        if value not in (None, "", []) and value == value:  # a missing number is NaN
            told[name] = value
    return told


def content_vectors(tower: ItemTower, items: Columns, rows: Array) -> Array:
    """The item tower's vectors of items known by attributes alone: float32 `[len(rows), d]`, 0 where it knows none of them."""
    return np.stack([tower.vector(attributes_of(items, int(row))) for row in rows])


class ContentKnn:
    """Cosine of attribute bags weighted by inverse document frequency, over the whole catalogue: every item is its own neighbour list.

    Args:
        items: The prepared items table.
        exist: bool `[n]`, the items that may be asked for.
        context_items: The newest items of a person that count.
        recency: How fast older ones count less (retrieval.sources.evidence.seeds); 0: all alike.
    """

    def __init__(self, items: Columns, exist: Array, context_items: int, recency: float) -> None:
        matrix = attribute_matrix(items, exist)
        lengths = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=0)).ravel())
        scale = np.divide(1.0, lengths, out=np.zeros(len(lengths)), where=lengths > 0)
        self._unit = (matrix @ sp.diags(scale)).T.tocsr().astype(np.float32)  # [n, attributes]
        self._context_items, self._recency = context_items, recency

    def scores(self, query: Query) -> Array:
        """Sum of cosines with the person's newest items: float32 `[n]`."""
        rows, weights = seeds(query, self._unit.shape[0], self._context_items, self._recency)
        if not len(rows):
            return np.zeros(self._unit.shape[0], np.float32)
        profile = self._unit[rows].T @ weights.astype(np.float32)
        return np.asarray(self._unit @ profile, np.float32)


def places(scores: Array, allowed: Array, excluded: Array, wanted: Array) -> Array:
    """How many allowed items stand before each of the `wanted` ones; ties go to the lower row. int64 `[len(wanted)]`.

    Args:
        scores: float `[n]`.
        allowed: bool `[n]`: the catalogue.
        excluded: Rows not to be shown.
        wanted: Rows in the catalogue and not excluded.
    """
    shown = allowed.copy()
    shown[excluded] = False
    s = np.where(shown, scores, -np.inf)
    rows = np.arange(len(s))
    return np.array([int(((s > s[w]) | ((s == s[w]) & (rows < w))).sum()) for w in wanted], np.int64)
