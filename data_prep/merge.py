"""Sorted event columns of the night before, minus what is gone, plus what is new: the same rows that sorting everything gives."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from core.columns import Array, Columns
from core.history import user_starts
from core.schema import Column
from data_prep.appender import add_to_header
from data_prep.events import ORDER


@dataclass(frozen=True)
class Change:
    """How the events of two nights differ: `gone` bool `[old rows]`, `fresh` bool `[new rows]`; the others follow in the same order."""

    before: Path
    gone: Array
    fresh: Array


def merged(before: Path, gone: Array, new: tuple[Columns, Columns], draft: Path) -> Change:
    """Write `events/` (without derived columns) and `carried/events/` of `draft`, one column at a time.

    Args:
        before: The prepared data set of the night before.
        gone: Its event rows that are no more, bool `[n]`.
        new: New rows, sorted: the columns of `events/` and those of `carried/events/`.
        draft: The artifact being written.
    """
    old = Columns.open(before / "events"), Columns.open(before / "carried" / "events")
    places = _places(*({n: c.numbers(n) for c in both for n in c if n in ORDER} for both in (old, new)))
    stay = ~gone
    places = np.concatenate([[0], np.cumsum(stay)])[places] + np.arange(len(places))
    fresh = np.zeros(int(stay.sum()) + len(places), bool)
    fresh[places] = True
    for folder, had, has in zip((draft / "events", draft / "carried" / "events"), old, new, strict=True):
        folder.mkdir(parents=True, exist_ok=True)
        for name in has:
            column = np.empty(len(fresh), has.numbers(name).dtype)
            column[~fresh] = had.numbers(name)[stay]
            column[fresh] = has.numbers(name)
            np.save(folder / f"{name}.npy", column)
        add_to_header(folder, len(fresh), list(has))
    return Change(before, gone, fresh)


def _places(old: dict[str, Array], new: dict[str, Array]) -> Array:
    """Before which row of `old` each row of `new` belongs, int64 `[m]`: a binary search within the user, all rows at once."""
    user = np.asarray(new[Column.USER])
    starts = user_starts(old[Column.USER], int(user.max(initial=-1)) + 1)
    low, high = np.array(starts[user]), np.array(starts[user + 1])
    open_ = np.flatnonzero(low < high)
    while len(open_):
        middle = (low[open_] + high[open_]) // 2
        less = _less(old, middle, new, open_)
        low[open_[less]] = middle[less] + 1
        high[open_[~less]] = middle[~less]
        open_ = open_[low[open_] < high[open_]]
    return low


def _less(old: dict[str, Array], a: Array, new: dict[str, Array], b: Array) -> Array:
    """Whether rows `a` of `old` come before rows `b` of `new`, bool `[k]`; the user is the same."""
    less, tied = np.zeros(len(a), bool), np.arange(len(a))
    for name in ORDER[1:]:
        x, y = _sortable(old[name][a[tied]]), _sortable(new[name][b[tied]])
        less[tied] = x < y
        tied = tied[x == y]
        if len(tied) == 0:
            break
    return less


def _sortable(column: Array) -> Array:
    """Floats as integers of the same order, in which NaN is the largest, as Spark has it."""
    if column.dtype != np.float32:
        return column
    bits = column.view(np.int32)
    return np.asarray(bits ^ ((bits >> 31) & np.int32(0x7FFFFFFF)))
