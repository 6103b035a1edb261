"""Item statistics as of a cut: popularity, trend, age, loyalty, price, attributes. Offline; a release carries the result.

Time is the law: only events whose fold lies below the cut are read, so nothing in the result depends on what came after.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.columns import Array, Coded, Columns, Tags, Texts
from core.prepared import Fold, Prepared
from core.schema import DAY, Column
from ranking.feature_list import ITEM
from ranking.item_table import ATTRIBUTES, FACT_NAMES, FACTS, HEADER

_MONTH = 30 * DAY
_SMOOTHING = 0.5  # added to counts before the logarithm, so that an item without events is below one with any
_PRIOR = 5.0  # people who must have an item before its loyalty and value count half against the mean of all items


@dataclass(frozen=True)
class _Events:
    """Successes known at the cut, sorted by (user, time), all `[e]`."""

    user: Array
    item: Array
    time: Array
    value: Array
    n_items: int
    until: int


def write(prepared: Prepared, fold: Fold, recent_days: float, folder: Path) -> None:
    """Compute the statistics of `fold` into the column folder `folder` (see ranking/item_table.py)."""
    compute(prepared, fold, recent_days).write(folder)
    header = {
        "until": prepared.until(fold),
        "fold": fold.name,
        "synthetic_time": prepared.synthetic_time,
        "features": FACT_NAMES,
    }
    (folder / HEADER).write_text(json.dumps(header, indent=1) + "\n")


def compute(prepared: Prepared, fold: Fold, recent_days: float) -> Columns:
    """The columns `facts` and `attributes` of every item, as of `fold`."""
    events = _known(prepared, fold)
    facts = {f.name: np.full(events.n_items, f.default, np.float32) for f in ITEM}
    computed = (
        _popularity(events, recent_days) | _loyalty(events) | _price(prepared.items) | {"item.value": _value(events)}
    )
    for feature in ITEM:
        if not (feature.timed and prepared.synthetic_time):
            facts[feature.name] = computed[feature.name].astype(np.float32)
    stacked = np.stack([facts[name] for name in FACT_NAMES], axis=1)
    return Columns({FACTS: stacked, ATTRIBUTES: pooled_attributes(prepared.items)})


def _known(prepared: Prepared, fold: Fold) -> _Events:
    e = prepared.events
    keep = np.flatnonzero((e.numbers(fold.column) < fold.below) & (e.numbers(Column.GAIN) > 0))
    value = e.numbers(Column.VALUE)[keep] if Column.VALUE in e else np.full(len(keep), np.nan, np.float32)
    user, item, time = (np.asarray(e.numbers(c)[keep]) for c in (Column.USER, Column.ITEM, Column.TIME))
    return _Events(user, item, time, value, len(prepared.item_ids), prepared.until(fold))


def _popularity(e: _Events, recent_days: float) -> dict[str, Array]:
    n = e.n_items
    people = np.bincount(np.unique(e.user.astype(np.int64) * n + e.item) % n, minlength=n) if n else np.zeros(0)
    everybody = max(len(np.unique(e.user)), 1)
    recent, month, total = (
        _log_share(e, since) for since in (e.until - int(recent_days * DAY), e.until - _MONTH, None)
    )
    first, last = np.full(n, e.until, np.int64), np.full(n, -1, np.int64)
    np.minimum.at(first, e.item, e.time)
    np.maximum.at(last, e.item, e.time)
    return {
        "item.popularity": np.log((people + _SMOOTHING) / everybody),
        "item.recent": recent,
        "item.month": month,
        "item.trend": recent - total,
        "item.age": _log_days(e.until - first),
        "item.quiet": np.where(last >= 0, _log_days(e.until - last), -1.0),
    }


def _log_share(e: _Events, since: int | None) -> Array:
    """Log of each item's share of the successes at or after `since`, float64 `[items]`."""
    item = e.item if since is None else e.item[e.time >= since]
    smoothed = np.bincount(item, minlength=e.n_items) + _SMOOTHING
    return np.asarray(np.log(smoothed / (len(item) + _SMOOTHING * max(e.n_items, 1))))


def _log_days(microseconds: Array) -> Array:
    return np.log1p(np.maximum(microseconds, 0) / DAY)


def _loyalty(e: _Events) -> dict[str, Array]:
    """How many of an item's people came back to it, and after how long. One visit is one moment: two lines of one basket are not a return."""
    order = np.lexsort((e.time, e.item, e.user))
    user, item, time = e.user[order], e.item[order], e.time[order]
    same = np.zeros(len(user), bool)
    same[1:] = (user[1:] == user[:-1]) & (item[1:] == item[:-1])
    back = same.copy()
    back[1:] &= time[1:] > time[:-1]
    people = np.bincount(item[~same], minlength=e.n_items)
    pair = np.cumsum(~same) - 1  # the (person, item) pair of each event
    came_back = (
        np.bincount(item[~same][np.unique(pair[back])], minlength=e.n_items) if len(pair) else np.zeros(e.n_items)
    )
    gaps = np.bincount(item[back], weights=(time[back] - time[np.flatnonzero(back) - 1]) / DAY, minlength=e.n_items)
    returns = np.bincount(item[back], minlength=e.n_items)
    usual = came_back.sum() / max(people.sum(), 1)
    return {
        "item.loyalty": (came_back + _PRIOR * usual) / (people + _PRIOR),
        "item.gap_days": np.where(returns > 0, gaps / np.maximum(returns, 1), 0.0),
    }


def _value(e: _Events) -> Array:
    """Mean graded feedback of each item minus that of all, drawn towards 0 where few people gave any. float64 `[items]`."""
    graded = np.isfinite(e.value)
    if not graded.any():
        return np.zeros(e.n_items)
    value = e.value[graded].astype(np.float64)
    off = np.bincount(e.item[graded], weights=value - value.mean(), minlength=e.n_items)
    return np.asarray(off / (np.bincount(e.item[graded], minlength=e.n_items) + _PRIOR))


def _price(items: Columns) -> dict[str, Array]:
    price = items.numbers(Column.PRICE) if Column.PRICE in items else np.full(items.rows, np.nan)
    known = np.isfinite(price) & (price > 0)
    return {"item.price": np.log1p(np.where(known, price, 0.0))}


def pooled_attributes(items: Columns) -> Tags:
    """Category, brand and every coded or tag attribute as tags `name=value` of one vocabulary."""
    rows, codes, values, offset = [], [], [], 0
    for name, column in items.items():
        if isinstance(column, Coded):
            at = np.flatnonzero(column.codes >= 0)
            rows.append(at)
            codes.append(column.codes[at] + offset)
        elif isinstance(column, Tags):
            rows.append(np.repeat(np.arange(len(column)), np.diff(column.starts)))
            codes.append(column.codes + offset)
        else:
            continue
        short = name.removeprefix("attribute.")
        values += [f"{short}={v}" for v in column.values]
        offset += len(column.values)
    row = np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.int64)
    code = np.concatenate([*codes, np.empty(0, np.int32)]).astype(np.int32)
    order = np.lexsort((code, row))
    starts = np.searchsorted(row[order], np.arange(items.rows + 1)).astype(np.int64)
    return Tags(starts, code[order], Texts.of(values))
