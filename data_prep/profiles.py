"""The profile of a night: what every column of events, items and users looks like, small enough to keep beside the data (`profile.json`).

It is a function of the prepared data alone, so that the same inputs give the same artifact; which days are new is found out by whoever
compares two of them (`data_prep.drift`). It holds

    events   `days`: each of the newest DAYS days (ISO date) with its events by type, distinct people, items and sessions, and of each number
             column nulls, the sessions that have a value, and histogram. `first`, `last`: the log's first and last day. `clock`: how far into
             the last day the log goes, seconds, and `until_clock`: the events by type of each day up to that time of day
    items, users   `rows` (in the shop's table; without one, all) and `columns`, by kind:
        number   nulls, distinct, min, max, quantiles, histogram
        coded    nulls, distinct, `values`: the most frequent with their rows, `rest`: rows of all others, `unlisted`: rows of the most frequent
                 of them. A category counts in each of its parents
        tags     the same, of rows that have the tag
        flag     the same, of `true` and `false`
        text     nulls, and the lengths as a number
        time     nulls, min, max

A histogram counts rows by `bins`: eighths of an octave, fixed for ever, so that two nights compare bin by bin.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.columns import AnyColumn, Array, Coded, Columns, Tags, Texts
from core.schema import CATEGORY_SEPARATOR, DAY, EVENT_TYPES, SECOND, Column

FILE: Final = "profile.json"
DAYS: Final = 21  # enough for a night that makes up for a week and for two weeks before it
VALUES: Final = 80  # most frequent values kept of a coded column
COLUMNS: Final = 100  # of a table that are profiled
QUANTILES: Final = (0.01, 0.25, 0.5, 0.75, 0.99)
_LONGEST_VALUE: Final = 80
_OCTAVE: Final = 8  # bins
_ZERO: Final = 400  # bins between 0 and 1: down to 2 ** -50
_CHUNK: Final = 1 << 20
_NUMBERS: Final = (Column.PRICE, Column.QUANTITY, Column.VALUE, Column.POSITION)
_TIMES: Final = (Column.CREATED_AT, Column.AVAILABLE_FROM, Column.AVAILABLE_UNTIL)


def night(draft: Path, *, synthetic_time: bool = False) -> dict[str, Any]:
    """The profile of the prepared data set at `draft`, whose manifest need not be there yet.

    Args:
        draft: Folder with `events/` (with derived columns), `items/` and `users/`.
        synthetic_time: Only the order of events is real: their days say nothing and are left out.
    """
    tables = (Columns.open(draft / name) for name in ("events", "items", "users"))
    return of_tables(*tables, synthetic_time=synthetic_time)


def of_tables(events: Columns, items: Columns, users: Columns, *, synthetic_time: bool = False) -> dict[str, Any]:
    """The profile of tables as `core.prepared` describes them; plain JSON values."""
    found: dict[str, Any] = {"items": _table(items), "users": _table(users)}
    if not synthetic_time and events.rows:
        found["events"] = _events(events, items.rows)
    return found


def store(draft: Path, *, synthetic_time: bool = False) -> dict[str, Any]:
    """Write `night` into the artifact in the making; the same, as it will be read again."""
    (draft / FILE).write_text(json.dumps(night(draft, synthetic_time=synthetic_time), sort_keys=True) + "\n")
    found = load(draft)
    assert found is not None
    return found


def load(prepared: Path) -> dict[str, Any] | None:
    """The stored profile of a prepared artifact; None where an older Aisle left none."""
    path = prepared / FILE
    return dict(json.loads(path.read_text())) if path.exists() else None


def bins(values: Array) -> Array:
    """The fixed bin of each number, int64 `[n]`: 0 for 0, growing with the number, eight bins an octave.

    >>> bins(np.array([-1.0, 0.0, 1.0, 1.05, 2.0]))
    array([-401,    0,  401,  401,  409])
    """
    with np.errstate(divide="ignore"):
        octaves = np.floor(_OCTAVE * np.log2(np.abs(values)))
    return np.where(values == 0, 0, np.sign(values) * (np.clip(octaves, -_ZERO, _ZERO) + _ZERO + 1)).astype(np.int64)


def middle(bin_: int) -> float:
    """The number in the (geometric) middle of a bin."""
    return 0.0 if bin_ == 0 else float(np.sign(bin_) * 2.0 ** ((abs(bin_) - _ZERO - 0.5) / _OCTAVE))


def _histogram(values: Array) -> dict[str, int]:
    found, counts = np.unique(bins(values), return_counts=True)
    return {str(b): int(n) for b, n in zip(found, counts, strict=True)}


# --- events ---------------------------------------------------------------------------------------------------------------------


def _events(events: Columns, n_items: int) -> dict[str, Any]:
    times = events.numbers(Column.TIME)
    first, newest = int(times.min()), int(times.max())
    last = newest // DAY
    days = _Days(last, newest % DAY, n_items)
    for chunk in _chunks(events.numbers(Column.USER)):
        days.add(events, chunk)
    return {
        "first": _date(first // DAY),
        "last": _date(last),
        "clock": newest % DAY // SECOND,
        "days": days.result(),
        "until_clock": days.until_clock(),
    }


class _Days:
    """Sums for each of the newest days, over chunks that end where a person's events end."""

    def __init__(self, last: int, clock: int, n_items: int) -> None:
        self._first, self._clock = last - DAYS + 1, clock
        self._types = np.zeros((DAYS, len(EVENT_TYPES)), np.int64)
        self._early = np.zeros_like(self._types)
        self._people, self._sessions = np.zeros(DAYS, np.int64), np.zeros(DAYS, np.int64)
        self._items = np.zeros(n_items, np.uint32)  # a bit a day
        self._nulls = {c: np.zeros(DAYS, np.int64) for c in _NUMBERS}
        self._with = {c: np.zeros(DAYS, np.int64) for c in _NUMBERS}  # sessions that have a value
        self._bins: dict[str, list[Counter[int]]] = {c: [Counter() for _ in range(DAYS)] for c in _NUMBERS}

    def add(self, events: Columns, chunk: slice) -> None:
        """Events of some people."""
        time = np.asarray(events.numbers(Column.TIME)[chunk])
        day = time // DAY - self._first
        recent = np.flatnonzero(day >= 0)
        if len(recent) == 0:
            return
        day, clock = day[recent], time[recent] % DAY
        type_, user, item, session = (
            np.asarray(events.numbers(c)[chunk])[recent]
            for c in (Column.TYPE, Column.USER, Column.ITEM, Column.SESSION)
        )
        np.add.at(self._types, (day, type_), 1)
        early = clock <= self._clock
        np.add.at(self._early, (day[early], type_[early]), 1)
        self._people += _distinct_a_day(user, day)
        self._sessions += _distinct_a_day(session, day)
        np.bitwise_or.at(self._items, item, np.uint32(1) << day.astype(np.uint32))
        for c in _NUMBERS:
            self._add_numbers(c, np.asarray(events.numbers(c)[chunk], np.float64)[recent], day, session)

    def _add_numbers(self, name: Column, values: Array, day: Array, session: Array) -> None:
        there = values >= 0  # NaN and, in positions, -1: not sent
        self._with[name] += _distinct_a_day(session[there], day[there])
        self._nulls[name] += np.bincount(day[~there], minlength=DAYS)
        wide = 4 * _ZERO
        keys, counts = np.unique(day[there] * wide + bins(values[there]), return_counts=True)
        for key, n in zip(keys.tolist(), counts.tolist(), strict=True):
            self._bins[name][key // wide][key % wide] += n

    def result(self) -> dict[str, Any]:
        """The days that have events."""
        return {_date(self._first + d): self._day(d) for d in range(DAYS) if self._types[d].any()}

    def until_clock(self) -> dict[str, dict[str, int]]:
        """Events by type of each day, up to the time of day of the newest event."""
        return {_date(self._first + d): _by_type(self._early[d]) for d in range(DAYS) if self._types[d].any()}

    def _day(self, d: int) -> dict[str, Any]:
        numbers = {
            c.value: {
                "nulls": int(self._nulls[c][d]),
                "sessions": int(self._with[c][d]),
                "bins": {str(b): n for b, n in sorted(self._bins[c][d].items())},
            }
            for c in _NUMBERS
            if any(any(day) for day in self._bins[c])  # a column that the shop sends
        }
        items = int(((self._items >> np.uint32(d)) & 1).sum())
        distinct = {"people": int(self._people[d]), "items": items, "sessions": int(self._sessions[d])}
        return {"types": _by_type(self._types[d]), **distinct, "columns": numbers}


def _by_type(counts: Array) -> dict[str, int]:
    return {t.value: int(n) for t, n in zip(EVENT_TYPES, counts, strict=True) if n}


def _distinct_a_day(ids: Array, day: Array) -> Array:
    """How many different `ids` each day has, int64 `[DAYS]`."""
    pairs = np.unique(ids.astype(np.int64) * DAYS + day)
    return np.bincount(pairs % DAYS, minlength=DAYS)


def _chunks(users: Array) -> Iterator[slice]:
    at = 0
    while at < len(users):
        end = int(np.searchsorted(users, users[min(at + _CHUNK, len(users)) - 1], side="right"))
        yield slice(at, end)
        at = end


def _date(day: int) -> str:
    return (dt.date(1970, 1, 1) + dt.timedelta(days=int(day))).isoformat()


# --- items and users ------------------------------------------------------------------------------------------------------------


def _table(table: Columns) -> dict[str, Any]:
    """Every column over the rows that the shop's own table has; over all rows where there is no such table."""
    known = np.asarray(table.numbers("known")).astype(bool)
    rows = np.flatnonzero(known if known.any() else np.ones(table.rows, bool))
    names = [name for name in table if name not in ("known", Column.DELETED, Column.STOCK)]  # stock moves every day
    columns = {name: _column(name, table[name], rows) for name in names[:COLUMNS]}
    return {"rows": len(rows), "columns": columns, "left_out": len(names[COLUMNS:])}


def _column(name: str, column: AnyColumn, rows: Array) -> dict[str, Any]:
    match column:
        case Coded():
            return _coded(name, column, rows)
        case Tags():
            return _tags(column, rows)
        case Texts():
            lengths = np.diff(np.asarray(column.offsets))[rows].astype(np.float64)
            return {"kind": "text", "lengths": _number(np.where(lengths > 0, lengths, np.nan))} | {
                "nulls": int((lengths == 0).sum())
            }
    values = np.asarray(column[rows])
    if name in _TIMES:
        there = values[values >= 0]
        span = {"min": int(there.min()), "max": int(there.max())} if len(there) else {}
        return {"kind": "time", "nulls": len(values) - len(there), **span}
    if values.dtype == bool:
        counts = {text: int(n) for text, n in (("true", values.sum()), ("false", (~values).sum())) if n}
        return {"kind": "flag", "nulls": 0, "distinct": len(counts), "values": counts, "rest": 0, "unlisted": 0}
    return {"kind": "number", **_number(values.astype(np.float64))}


def _number(values: Array) -> dict[str, Any]:
    there = values[np.isfinite(values)]
    found: dict[str, Any] = {"nulls": len(values) - len(there), "distinct": len(np.unique(there))}
    if len(there):
        quantiles = np.quantile(there, QUANTILES)
        found |= {"min": float(there.min()), "max": float(there.max()), "quantiles": [float(q) for q in quantiles]}
    return found | {"bins": _histogram(there)}


def _coded(name: str, column: Coded, rows: Array) -> dict[str, Any]:
    codes = np.asarray(column.codes)[rows]
    counts = np.bincount(codes[codes >= 0], minlength=len(column.values))
    found = {"kind": "coded", "nulls": int((codes < 0).sum()), "distinct": int((counts > 0).sum())}
    if name == Column.CATEGORY:
        return found | _of_paths(counts, column.values)
    return found | _most_frequent(counts, column.values)


def _tags(column: Tags, rows: Array) -> dict[str, Any]:
    starts = np.asarray(column.starts)
    lengths = np.diff(starts)
    wanted = np.zeros(len(lengths), bool)
    wanted[rows] = True
    codes = np.asarray(column.codes)[np.repeat(wanted, lengths)]
    counts = np.bincount(codes, minlength=len(column.values))  # a tag stands once in a row
    found = {"kind": "tags", "nulls": int((lengths[rows] == 0).sum()), "distinct": int((counts > 0).sum())}
    return found | _most_frequent(counts, column.values)


def _most_frequent(counts: Array, values: Texts) -> dict[str, Any]:
    order = np.argsort(-counts, kind="stable")
    kept, left = order[:VALUES], counts[order[VALUES:]]
    kept = kept[counts[kept] > 0]
    named: Counter[str] = Counter()
    for code in kept.tolist():
        named[values[code][:_LONGEST_VALUE]] += int(counts[code])
    return {"values": dict(named), "rest": int(left.sum()), "unlisted": int(left.max(initial=0))}


def _of_paths(counts: Array, paths: Texts) -> dict[str, Any]:
    """Rows of each category and of those above it; `rest` counts what the kept top-level ones leave out."""
    found: Counter[str] = Counter()
    for code, path in enumerate(paths):
        if counts[code]:
            parts = path.split(CATEGORY_SEPARATOR)
            for depth in range(1, len(parts) + 1):
                found[CATEGORY_SEPARATOR.join(parts[:depth])[:_LONGEST_VALUE]] += int(counts[code])
    # the top level comes first: it is what a person looks at, and what the mix is made of
    ordered = sorted(found.items(), key=lambda p: (CATEGORY_SEPARATOR in p[0], -p[1], p[0]))
    kept, left = dict(ordered[:VALUES]), dict(ordered[VALUES:])
    tops = {path: n for path, n in found.items() if CATEGORY_SEPARATOR not in path}
    rest = sum(n for path, n in tops.items() if path not in kept)
    return {"values": kept, "rest": rest, "unlisted": max(left.values(), default=0), "all_tops": rest == 0}
