"""A filter over the items of a release: names become columns, texts become codes, and the tree a function from rows to bools.

A test of a value that is missing does not hold; `!=` and `NOT` hold wherever the test does not. Of a list, one value suffices.
"""

from __future__ import annotations

import functools
from bisect import bisect_left
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, NoReturn

import numpy as np

from core.columns import Array, Coded, Tags, Texts
from core.errors import nearest
from core.live_columns import LiveTexts
from core.schema import CATEGORY_SEPARATOR, DAY, Column
from serving.filters.syntax import All, Between, Exists, FilterError, Node, Not, OneOf, Some, Under, Value, fields
from serving.release import Release

AGE: Final = "age_days"  # since created_at
_ATTRIBUTE: Final = "attribute."
_TIMES: Final = (Column.CREATED_AT, Column.AVAILABLE_FROM, Column.AVAILABLE_UNTIL)
_HIDDEN: Final = ("known", Column.TITLE)
_FEW: Final = 4  # codes that are compared one by one

Rows = Array | slice
Holds = Callable[[Rows], Array]
"""Item rows int32 `[n]`, or the slice of all, to bool `[n]`."""


def changes_by_itself(node: Node) -> bool:
    """Whether what holds may change though no item was written: it reads the clock or what is available."""
    return any(name in (AGE, Column.AVAILABLE) for name in fields(node))


def field_names(release: Release) -> list[str]:
    """What a filter can speak of."""
    named = [
        str(name).removeprefix(_ATTRIBUTE)
        for name, column in release.items.items()
        if name not in _HIDDEN and (not isinstance(column, Texts))
    ]
    return sorted({*named, Column.ITEM_ID.value, AGE})


def bind(node: Node, release: Release, now: int) -> Holds:
    """The function of a tree, at `now` (microseconds).

    Raises:
        FilterError: The release has no such field, or the field does not hold what it is compared with.
    """
    match node:
        case Not(of):
            inner = bind(of, release, now)
            return lambda rows: ~inner(rows)
        case All(of):
            every = [bind(one, release, now) for one in of]
            return lambda rows: functools.reduce(np.logical_and, (holds(rows) for holds in every))
        case Some(of):
            some = [bind(one, release, now) for one in of]
            return lambda rows: functools.reduce(np.logical_or, (holds(rows) for holds in some))
        case _:
            return _test(node, release, now)


def _test(node: OneOf | Between | Under | Exists, release: Release, now: int) -> Holds:
    if node.field == Column.ITEM_ID:
        return _item_ids(node, release)
    if node.field == AGE:
        created = release.items.numbers(Column.CREATED_AT)
        return _numbers(node, lambda rows: np.where(created[rows] >= 0, (now - created[rows]) / DAY, np.nan))
    if node.field == Column.AVAILABLE:
        return _bools(node, release.available)
    name = next(
        (n for n in (node.field, _ATTRIBUTE + node.field) if n in release.items and n not in _HIDDEN),
        None,
    )
    column = None if name is None else release.items[name]
    if name in _TIMES and isinstance(column, np.ndarray):
        times = column
        return _numbers(node, lambda rows: np.where(times[rows] >= 0, times[rows], np.nan), _time)
    match column:
        case Coded():
            return _coded(node, column)
        case Tags():
            return _tagged(node, column)
        case np.ndarray() if column.ndim == 1:
            if column.dtype == bool:
                return _bools(node, column)
            numbers = column
            return _numbers(node, lambda rows: numbers[rows])
        case _:
            raise FilterError(f"unknown field {node.field!r}; {nearest(node.field, field_names(release))}", node.at)


def _misfit(node: OneOf | Between | Under | Exists, holds: str, expected: str) -> NoReturn:
    raise FilterError(f"field {node.field!r} holds {holds}: expected {expected}", node.at)


def _item_ids(node: OneOf | Between | Under | Exists, release: Release) -> Holds:
    if isinstance(node, Exists):
        return lambda rows: np.ones(_size(rows, release.items.rows), bool)
    if not isinstance(node, OneOf):
        _misfit(node, "texts", "=, != or IN")
    wanted = np.unique(release.item_ids.rows(_texts(node)))
    n = release.items.rows
    return lambda rows: np.isin(np.arange(n, dtype=np.int32)[rows] if isinstance(rows, slice) else rows, wanted)


def _numbers(
    node: OneOf | Between | Under | Exists,
    values: Callable[[Rows], Array],
    read: Callable[[OneOf | Between, Value], float] | None = None,
) -> Holds:
    read = read or _number
    match node:
        case Exists():
            return lambda rows: ~np.isnan(values(rows))
        case OneOf():
            wanted = [read(node, v) for v in node.values]
            return lambda rows: _any_equal(values(rows), wanted)
        case Between():
            low = -np.inf if node.low is None else read(node, node.low)
            high = np.inf if node.high is None else read(node, node.high)
            return lambda rows: _between(values(rows), low, high, node)
    _misfit(node, "numbers or times", "a comparison")


def _any_equal(values: Array, wanted: list[float]) -> Array:
    found: Array = np.logical_or.reduce([values == _as(values, w) for w in wanted])
    return found


def _between(values: Array, low: float, high: float, node: Between) -> Array:
    least, most = _as(values, low), _as(values, high)
    above = values >= least if node.with_low or node.low is None else values > least
    below = values <= most if node.with_high or node.high is None else values < most
    found: Array = above & below
    return found


def _as(values: Array, number: float) -> Any:
    """In the precision of `values` (0.1 of an item is the float32 nearest to 0.1), beyond its range an infinity."""
    with np.errstate(over="ignore"):
        return values.dtype.type(number)


def _number(node: OneOf | Between, value: Value) -> float:
    if isinstance(value, bool | str):
        _misfit(node, "numbers", f"a number without quotes, found {value!r}")
    return value


def _time(node: OneOf | Between, value: Value) -> float:
    """Microseconds of an ISO text, UTC where it says nothing else."""
    try:
        if isinstance(value, str):
            read = datetime.fromisoformat(value)
            return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp() * 1e6
    except ValueError:
        pass
    _misfit(node, "times", f"a text such as '2026-11-27' or '2026-11-27T08:00:00+01:00', found {value!r}")


def _bools(node: OneOf | Between | Under | Exists, column: Array) -> Holds:
    if isinstance(node, Exists):
        return lambda rows: np.ones(_size(rows, len(column)), bool)
    if not isinstance(node, OneOf) or not all(isinstance(v, bool) for v in node.values):
        _misfit(node, "true or false", "= true or = false")
    wanted = set(node.values)
    return lambda rows: np.isin(column[rows], list(wanted))


def _coded(node: OneOf | Between | Under | Exists, column: Coded) -> Holds:
    codes = column.codes
    if isinstance(node, Exists):
        return lambda rows: codes[rows] >= 0
    wanted = _codes(node, column.values)
    if len(wanted) <= _FEW:
        return lambda rows: _equal_to(codes[rows], wanted)
    n = len(column.values)
    table = np.zeros(n + 2, bool)  # by code from 1: the first for what is missing, the last for values that came later
    table[wanted[wanted < n] + 1] = True

    def among(rows: Rows) -> Array:
        found: Array = table.take(codes[rows] + 1, mode="clip")
        return found

    return among


def _equal_to(codes: Array, wanted: Array) -> Array:
    found = np.zeros(len(codes), bool)
    for code in wanted.tolist():
        found |= codes == code
    return found


def _tagged(node: OneOf | Between | Under | Exists, column: Tags) -> Holds:
    wanted = None if isinstance(node, Exists) else _codes(node, column.values)

    def holds(rows: Rows) -> Array:
        rows = np.arange(len(column))[rows] if isinstance(rows, slice) else rows
        codes, owner = column.codes_of(rows)
        found = np.zeros(len(rows), bool)
        found[owner if wanted is None else owner[np.isin(codes, wanted)]] = True
        return found

    return holds


def _texts(node: OneOf) -> tuple[str, ...]:
    for value in node.values:
        if not isinstance(value, str):
            _misfit(node, "texts", f"a text in quotes, found {value!r}")
    return tuple(str(v) for v in node.values)


def _codes(node: OneOf | Between | Under, values: Texts) -> Array:
    """The codes of the values that the node speaks of, int32 ascending."""
    if isinstance(node, Between):
        _misfit(node, "texts", "=, !=, IN or UNDER")
    found: list[int] = []
    for text in _texts(node) if isinstance(node, OneOf) else node.paths:
        found += _span(values, text, text + "\0")
        if isinstance(node, Under):
            below = text + CATEGORY_SEPARATOR
            found += _span(values, below, below[:-1] + chr(ord(below[-1]) + 1))
    return np.unique(np.array(found, np.int32))


def _span(values: Texts, low: str, high: str) -> list[int]:
    """Codes of the values from `low` up to `high`: sorted ones by bisection, then those that came after the release."""
    known = len(values.offsets) - 1
    found = list(range(bisect_left(values, low, 0, known), bisect_left(values, high, 0, known)))
    later = values.changed.items() if isinstance(values, LiveTexts) else ()
    return found + [code for code, value in list(later) if low <= value < high]


def _size(rows: Rows, n: int) -> int:
    return n if isinstance(rows, slice) else len(rows)
