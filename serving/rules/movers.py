"""Rules that move items up and down: how many places each, before anything is put in a fixed one. Moves of several rules add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from core.columns import Array
from core.history import Query
from core.schema import DAY, Column, EventType
from serving.filters.binding import bind
from serving.filters.syntax import parse
from serving.release import Release
from serving.rules.schema import Boost, Bury, Fatigue, Freshness, LowStock, PriceBand, RuleSpec

Places = Callable[[Query, Array], Array]
"""A query and item rows int32 `[n]` to places float64 `[n]`: above 0 up, below 0 down."""

_SHOWN: Final = EventType.IMPRESSION.code


def mover(spec: RuleSpec, release: Release, now: int) -> Places:
    """The function of a rule.

    Raises:
        FilterError: The release lacks what it reads.
    """
    match spec:
        case Boost(where=where, places=places):
            holds = bind(parse(where), release, now)
            return lambda _, rows: holds(rows) * places
        case Bury(where=where, places=places):
            held = bind(parse(where), release, now)
            return lambda _, rows: held(rows) * -places
        case Freshness():
            return _freshness(spec, release, now)
        case PriceBand():
            return _price_band(spec, release)
        case LowStock():
            low = bind(parse(f"stock < {spec.below!r}"), release, now)
            return lambda _, rows: low(rows) * -spec.places
        case Fatigue():
            return lambda query, rows: _fatigue(spec, query, rows)
    raise ValueError(f"kind {spec.kind!r} moves nothing")


def _freshness(spec: Freshness, release: Release, now: int) -> Places:
    created = release.items.numbers(Column.CREATED_AT)
    holds = None if spec.where is None else bind(parse(spec.where), release, now)

    def places(_: Query, rows: Array) -> Array:
        made = created[rows]
        age = np.maximum(now - made, 0) / DAY
        up = np.where(made >= 0, spec.places * np.exp2(-age / spec.half_life_days), 0.0)
        up[up < 1] = 0  # less than a place is none
        found: Array = up if holds is None else up * holds(rows)
        return found

    return places


def _price_band(spec: PriceBand, release: Release) -> Places:
    prices = release.items.numbers(Column.PRICE)

    def places(query: Query, rows: Array) -> Array:
        scale = 1.0
        if spec.times_price_of is not None:
            history = query.history
            those = query.context if spec.times_price_of == "context" else history.items[history.gains > 0]
            found = prices[those]
            known = found[~np.isnan(found)]
            if not len(known):
                return np.zeros(len(rows))
            scale = median(known)
        price = prices[rows]  # of an unknown one nothing is said
        outside = np.zeros(len(rows), bool)
        if spec.least is not None:
            outside |= price < spec.least * scale
        if spec.most is not None:
            outside |= price > spec.most * scale
        return outside * -spec.places

    return places


def median(values: Array) -> float:
    """numpy's, of float `[n]`, n above 0 and all of them numbers, without what that looks at first: the mean of the two in the middle."""
    ordered, half = np.sort(values), len(values) // 2
    return float(ordered[half] if len(values) % 2 else (ordered[half - 1] + ordered[half]) / values.dtype.type(2))


def _fatigue(spec: Fatigue, query: Query, rows: Array) -> Array:
    history = query.history
    lately = (history.types == _SHOWN) & (history.times >= query.time - spec.days * DAY)
    if not lately.any():
        return np.zeros(len(rows))
    items = np.sort(history.items[lately])
    shown = np.searchsorted(items, rows, "right") - np.searchsorted(items, rows)
    found: Array = np.maximum(shown - spec.after + 1, 0) * -spec.places
    return found
