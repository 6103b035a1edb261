"""The one function that turns (request, candidates, item rows) into the ranker's matrix, for training and for serving alike.

Everything is as of the request: the history lies before `query.time` (nothing after it is let in here), item facts are as of the release's cut,
the person's facts are those that came with the query (ranking.user_facts).
Vectorised over the candidates: by the compiled kernel, or in numpy (`counted`), which says what each feature is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final

import numpy as np

from core.candidates import Candidates, Source
from core.columns import Array
from core.history import Query
from core.schema import DAY
from ranking import compiled_features
from ranking.compiled_features import TASTE
from ranking.feature_list import (
    AFFINITY,
    AGREE,
    ASKED_AGAIN,
    FEATURES,
    ITEM,
    LATE,
    NEIGHBOURS,
    OWN,
    PERSON,
    RANKS,
    SCORES,
    SOURCES,
    STRENGTH,
    USER,
)
from ranking.item_table import FACT_NAMES, ItemTable

__all__ = ["ItemTable", "matrix"]

_LATE = 5  # newest baskets, or successes, that count as late
_FADE = 30 * DAY
_POPULARITY, _GAP, _PRICE = (FACT_NAMES.index(n) for n in ("item.popularity", "item.gap_days", "item.price"))
_STRENGTH = len(SCORES) + len(RANKS) + len(LATE)  # where STRENGTH begins
_NO_SNAPSHOT: Final = np.array([f.default for f in USER], np.float32)
_TIMED: Final = np.array([i for i, f in enumerate(FEATURES) if f.timed])
_TIMED_DEFAULTS: Final = np.array([[FEATURES[i].default] for i in _TIMED], np.float32)


def matrix(query: Query, candidates: Candidates, items: ItemTable, sources: Iterable[Source] = ()) -> Array:
    """The features of every candidate, float32 `[n, len(FEATURES)]`, finite, column by column in memory; columns in the order of FEATURES.

    `sources` are those that proposed the candidates: the ones of ASKED_AGAIN are asked again, about the newest basket alone.

    Raises:
        ValueError: if the history reaches beyond the moment of the request: that would be a leak.
    """
    if len(query.history) and query.history.times[-1] > query.time:
        raise ValueError(
            f"history up to {query.history.times[-1]} us for a request at {query.time} us: what came after is not known"
        )
    past = _Past.of(query, items)
    out = np.zeros((len(FEATURES), len(candidates)), np.float32)
    _late(out[len(SCORES) + len(RANKS) :], past, candidates, sources)
    kernel = compiled_features.library()
    if kernel is None or not len(candidates) or not _compiled(kernel, out, past, candidates, items):
        counted(out, past, candidates, items)
    if items.synthetic_time:
        out[_TIMED] = _TIMED_DEFAULTS
    return out.T


def counted(out: Array, past: _Past, candidates: Candidates, items: ItemTable) -> None:
    """Fill the matrix `[F, n]`, but for LATE, in numpy."""
    facts, at = items.facts[candidates.rows], 0
    for fill, group in (
        (_sources, (*SCORES, *RANKS, *LATE, *STRENGTH, *AGREE)),
        (_own, OWN),
        (_affinity, AFFINITY),
        (_item, ITEM),
    ):
        fill(out[at : at + len(group)], past, candidates, facts, items)
        at += len(group)
    _person(out[at : at + len(PERSON)], past)
    _user(out[at + len(PERSON) :], past)


def _compiled(kernel: Any, out: Array, past: _Past, candidates: Candidates, items: ItemTable) -> bool:
    """The same by the kernel; False where it cannot."""
    columns, rows, strong, strength = _places(candidates.sources)
    score_row = np.full(len(candidates.sources), -1, np.int64)
    score_row[columns] = rows
    constant = np.zeros((len(PERSON) + len(USER), 1), np.float32)
    _person(constant, past)
    _user(constant[len(PERSON) :], past)
    top = compiled_features.fill(
        kernel,
        out,
        candidates,
        (score_row, score_row + len(SOURCES)),
        past.items,
        past.times,
        past.fading,
        past.query.history,
        past.query.time,
        past.prices,
        items,
        constant[:, 0],
    )
    if top is not None:
        out[strength] = _strength(top[strong])[:, None]
    return top is not None


@dataclass(frozen=True)
class _Past:
    """The successes (events with positive gain) of a history, oldest first, all `[h]`."""

    query: Query
    items: Array
    times: Array
    baskets: Array  # number of the basket (successes at one moment), from 0
    facts: Array  # item facts [h, len(ITEM)]
    n_baskets: int

    @classmethod
    def of(cls, query: Query, items: ItemTable) -> _Past:
        success = query.history.gains > 0
        rows, times = query.history.items[success], query.history.times[success]
        new = np.ones(len(times), bool)
        np.not_equal(times[1:], times[:-1], out=new[1:])
        baskets = np.cumsum(new) - 1
        return cls(query, rows, times, baskets, items.facts[rows], int(baskets[-1]) + 1 if len(rows) else 0)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def fading(self) -> Array:
        """What each success weighs now: float64 `[h]`."""
        return np.exp2((self.times - self.query.time) / _FADE)

    @property
    def prices(self) -> tuple[float, float] | None:
        """Mean log price of the successes, and the spread by which distances from it are measured; None where none has a price."""
        prices = self.facts[:, _PRICE]
        prices = prices[prices > 0].astype(np.float64)
        if not len(prices):
            return None
        mean = np.add.reduce(prices) / len(prices)  # what mean and std compute, without what they spend on choosing how
        apart = prices - mean
        return mean, np.sqrt(np.add.reduce(apart * apart) / len(prices)) + 0.25


def _sources(out: Array, past: _Past, candidates: Candidates, facts: Array, items: ItemTable) -> None:
    """What the sources say: normalised scores, reciprocal ranks, and how far they agree."""
    if not len(candidates):
        return
    top = _finite(np.ascontiguousarray(candidates.scores.T).max(axis=1))
    scores = _finite(candidates.scores / np.where(top > 0, top, 1))
    proposed = candidates.ranks >= 0
    place = np.maximum(candidates.ranks, 0)
    near = np.where(proposed, 1.0 / (place + 1.0), 0.0)
    columns, rows, strong, strength = _places(candidates.sources)
    out[rows], out[rows + len(SOURCES)] = scores.T[columns], near.T[columns]
    out[strength] = _strength(top[strong])[:, None]
    agree = out[_STRENGTH + len(STRENGTH) :]
    agree[0] = scores.mean(axis=1)
    agree[1] = np.where(proposed, 1.0 / (10.0 + place), 0.0).sum(axis=1)
    agree[2] = proposed.sum(axis=1)


def _strength(top: Array) -> Array:
    """How much evidence sources have whose greatest scores are float32 `[s]`."""
    return np.log1p(np.maximum(top, np.float32(0)))


@lru_cache(maxsize=64)
def _places(sources: tuple[str, ...]) -> tuple[Array, Array, Array, Array]:
    """The columns of sources that features know by name and the rows of their scores; the columns of NEIGHBOURS and the rows of their strength."""
    known = [(column, SOURCES.index(s)) for column, s in enumerate(sources) if s in SOURCES]
    near = [(column, _STRENGTH + NEIGHBOURS.index(s)) for column, s in enumerate(sources) if s in NEIGHBOURS]
    columns, rows = np.array(known, np.int64).reshape(-1, 2).T
    strong, strength = np.array(near, np.int64).reshape(-1, 2).T
    return columns, rows, strong, strength


def _finite(values: Array) -> Array:
    """The same with 0 for what is NaN or infinite, which next to nothing is."""
    return values if np.isfinite(values).all() else np.where(np.isfinite(values), values, values.dtype.type(0))


def _late(out: Array, past: _Past, candidates: Candidates, sources: Iterable[Source]) -> None:
    """What the sources of ASKED_AGAIN say of the newest basket alone."""
    if not len(past) or not len(candidates):
        return
    history = past.query.history
    newest = history.newest(len(history) - int(np.searchsorted(history.times, past.times[-1])))
    query = replace(past.query, history=newest)
    for source in sources:
        if source.name in ASKED_AGAIN:
            scores = source.scoring(query).of(candidates.rows)
            top = scores.max()
            if top > 0:
                np.divide(scores, top, out=out[ASKED_AGAIN.index(source.name)])


def _own(out: Array, past: _Past, candidates: Candidates, facts: Array, items: ItemTable) -> None:
    """The person's history with the very item."""
    n, now, history = len(candidates), past.query.time, past.query.history
    out[5:11] = -1.0
    touched, _ = _matches(candidates.rows, history.items[history.gains <= 0])
    out[11] = np.bincount(touched, minlength=n)
    where, event = _matches(candidates.rows, past.items)
    if not len(where):
        return
    count = np.bincount(where, minlength=n)
    out[0], out[1] = count, count / len(past)
    pairs = np.unique(where * past.n_baskets + past.baskets[event])
    holder, basket = np.divmod(pairs, past.n_baskets)
    baskets = np.bincount(holder, minlength=n)
    out[2] = baskets / past.n_baskets
    out[3] = np.bincount(where, weights=past.fading[event], minlength=n)
    late = min(_LATE, past.n_baskets)
    out[4] = np.bincount(holder[basket >= past.n_baskets - late], minlength=n) / late
    has = np.flatnonzero(count)
    first, last = np.zeros(n, np.int64), np.zeros(n, np.int64)
    first[where[::-1]], last[where] = event[::-1], event  # numpy assigns in order: the last one stays
    first, last, baskets = first[has], last[has], baskets[has]
    since = (now - past.times[last]) / DAY
    out[5, has] = past.n_baskets - 1 - past.baskets[last]
    out[6, has] = len(past) - 1 - last
    out[7, has] = since
    gap = (past.times[last] - past.times[first]) / DAY / np.maximum(baskets - 1, 1)
    out[8, has] = np.where(baskets > 1, gap, -1.0)
    out[9, has] = np.where(baskets > 1, since / np.maximum(gap, 0.5), -1.0)
    usual = facts[has, _GAP]
    out[10, has] = np.where(usual > 0, since / np.maximum(usual, 0.5), -1.0)


def _affinity(out: Array, past: _Past, candidates: Candidates, facts: Array, items: ItemTable) -> None:
    """The person's history with what the item is like."""
    if not len(past):
        return
    rows, late = candidates.rows, past.items[-_LATE:]
    if items.has_brand:
        out[0] = _shares(items.brand[rows], items.brand[past.items])[0]
    if items.has_category:
        out[1], out[2] = _shares(items.category[rows], items.category[past.items], items.category[late])
    if len(items.rarity):
        _overlap(out[3:5], past, rows, items)
    if past.prices is not None:
        price, (mean, spread) = facts[:, _PRICE], past.prices
        out[5] = np.where(price > 0, price - mean, 0.0)
        out[6] = np.abs(out[5]) / spread


def _overlap(out: Array, past: _Past, rows: Array, items: ItemTable) -> None:
    """How far the candidates' attributes are those of the newest successes, and of the very newest three."""
    codes, owner = items.attributes.codes_of(rows)
    rarity = items.rarity[codes]
    total = np.maximum(np.bincount(owner, weights=rarity, minlength=len(rows)), 1e-6)
    newest = past.items[-TASTE:]
    theirs, holder = items.attributes.codes_of(newest)
    latest = min(3, len(newest))
    for row, having, of in ((0, theirs, len(newest)), (1, theirs[holder >= len(newest) - latest], latest)):
        share = np.bincount(having, minlength=len(items.rarity)) / of
        had = share[codes]
        at = np.flatnonzero(had)  # most are not had, and add nothing
        out[row] = np.bincount(owner[at], weights=rarity[at] * had[at], minlength=len(rows)) / total


def _item(out: Array, past: _Past, candidates: Candidates, facts: Array, items: ItemTable) -> None:
    """The item facts as of the cut."""
    out[:] = facts.T


def _person(out: Array, past: _Past) -> None:
    """The person and the request: the same for every candidate."""
    out[9] = len(past.query.context)
    out[5:8] = -1.0
    h = len(past)
    if not h:
        return
    distinct = len(set(past.items.tolist()))
    span = (past.times[-1] - past.times[0]) / DAY
    out[0], out[1], out[2] = h, distinct, 1.0 - distinct / h
    out[3], out[4] = past.n_baskets, h / past.n_baskets
    out[5] = (past.query.time - past.times[-1]) / DAY
    out[6] = span / (past.n_baskets - 1) if past.n_baskets > 1 else -1.0
    out[7] = (past.query.time - past.times[0]) / DAY
    popularity = past.facts[-TASTE:, _POPULARITY]
    out[8] = np.add.reduce(popularity) / np.float32(len(popularity))


def _user(out: Array, past: _Past) -> None:
    """The person's snapshot, with 0 behind it: not expired."""
    known = past.query.facts
    out[:] = (_NO_SNAPSHOT if known is None else np.append(known, np.float32(0)))[:, None]


def _matches(rows: Array, items: Array) -> tuple[Array, Array]:
    """Which events are on which candidates: positions in `rows` (ascending, distinct) and in `items`, int64 `[m]` each, events in order."""
    if not len(rows) or not len(items):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    at = np.minimum(np.searchsorted(rows, items), len(rows) - 1)
    event = np.flatnonzero(rows[at] == items)
    return at[event], event


def _shares(wanted: Array, *histories: Array) -> list[Array]:
    """For each wanted code `[n]` its share among the codes of the first history `[h]`, and of others that are parts of it; 0 where the code is missing (-1)."""
    codes, counts = np.unique(histories[0], return_counts=True)  # the shorter of the two
    at = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
    there = (codes[at] == wanted) & (wanted >= 0)
    found = []
    for n, history in enumerate(histories):
        times = counts if n == 0 else np.bincount(np.searchsorted(codes, history), minlength=len(codes))
        found.append(np.where(there, (times / len(history))[at], 0.0))
    return found
