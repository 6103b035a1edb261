"""Sums over days as of any day, for many (row, day) questions at once. The arithmetic under all statistics of ranking/statistics.py.

A table has one entry for each (row, day) with something to add. Beside each entry stand the running sum and the decayed running sum of its row, up to
and with its day. As of day D that is one binary search for the row's last entry before D; a window is the difference of two such sums, a decayed sum is
that of the entry, faded to D.

Running sums are kept per row, in the order of time, not over the whole table: so an event can change nothing but later days of its own row, to the last
bit, and decayed sums never meet the huge anchors that one prefix sum over years would need.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Final

import numpy as np

from core.columns import Array
from ranking.statistics import WINDOWS, Statistic

_DAYS: Final = 1 << 21  # days lie within half of this around the epoch: years -900 to 4840
NO_ENTRY: Final = -1


def daily(rows: Array, days: Array, values: Array) -> tuple[Array, Array, Array]:
    """Sums for each distinct (row, day), in that order.

    Args:
        rows: Any non-negative integers `[n]`.
        days: Days since the epoch `[n]`.
        values: `[n, c]`.

    Returns:
        rows int64 `[m]`, days int32 `[m]`, sums float64 `[m, c]`.
    """
    order = np.lexsort((days, rows))
    rows, days = rows[order].astype(np.int64), days[order].astype(np.int32)
    new = np.ones(len(rows), bool)
    new[1:] = (rows[1:] != rows[:-1]) | (days[1:] != days[:-1])
    starts = np.flatnonzero(new)
    values = values[order].astype(np.float64)
    sums = np.add.reduceat(values, starts, axis=0) if len(starts) else values
    return rows[starts], days[starts], sums


class DayIndex:
    """Where the entries of each row are. `rows` int64 and `days` int32 `[n]`, sorted by (row, day), distinct."""

    def __init__(self, rows: Array, days: Array) -> None:
        self.rows, self.days = np.asarray(rows, np.int64), np.asarray(days, np.int32)
        new = np.ones(len(self.rows), bool)
        new[1:] = self.rows[1:] != self.rows[:-1]
        self.starts = np.flatnonzero(new)
        self.distinct = self.rows[self.starts]  # each row once
        self.group = np.cumsum(new) - 1  # of each entry
        self._keys = self.group * _DAYS + self.days

    def locate(self, rows: Array) -> Array:
        """The group of each row, NO_ENTRY for one without entries: int64 `[q]`."""
        rows = np.asarray(rows, np.int64)
        if not len(self.distinct):
            return np.full(len(rows), NO_ENTRY)
        at = np.minimum(np.searchsorted(self.distinct, rows), len(self.distinct) - 1)
        return np.where(self.distinct[at] == rows, at, NO_ENTRY)

    def before(self, groups: Array, days: Array) -> Array:
        """The last entry of each group before each day, else NO_ENTRY: int64 `[q]`."""
        at = np.searchsorted(self._keys, groups * _DAYS + np.asarray(days, np.int64)) - 1
        found = (groups >= 0) & (at >= 0)
        found &= self.group[at] == groups if len(self.group) else False
        return np.where(found, at, NO_ENTRY)


class AsOf:
    """What the days before each day asked about add up to, for q questions."""

    def __init__(self, series: DaySeries, rows: Array, days: Array) -> None:
        self.days = np.asarray(days, np.int64)
        self._series, self._groups = series, series.index.locate(rows)
        self._order = np.lexsort(
            (self.days, self._groups)
        )  # neighbours in the table are asked for in turn: thrice as fast
        self.at = self._before(0)  # the last entry before each day, else NO_ENTRY
        self._windows: dict[int, Array] = {}

    @cached_property
    def total(self) -> Array:
        """Sums of all days before: float64 `[q, c]`."""
        return self._series.totals[self.at]

    def window(self, width: int) -> Array:
        """Sums of the `width` days before: float64 `[q, c]`."""
        if width not in self._windows:
            self._windows[width] = self.total - self._series.totals[self._before(width)]
        return self._windows[width]

    @cached_property
    def faded(self) -> Array:
        """Decayed sums of all days before: float64 `[q, c]`."""
        age = np.where(self.at >= 0, self.days - self.last_days, 0)
        return self._series.fading[self.at] * np.exp2(-age / self._series.half_life)[:, None]

    @cached_property
    def first_days(self) -> Array:
        """The first day with an entry, meaningless where there is none before the day asked about: int64 `[q]`."""
        return self._series.first_days[self._groups]

    @cached_property
    def last_days(self) -> Array:
        """The last day with an entry before the day asked about, meaningless where there is none: int64 `[q]`."""
        return self._series.days[self.at]

    def changed(self, widths: tuple[int, ...]) -> Array:
        """The last day up to the one asked about on which something came or left a window (see `changes`), -1 where nothing ever did: int64 `[q]`."""
        at = [self._before(width) for width in (0, *widths)]
        days = [np.where(a >= 0, self._series.days[a] + 1 + w, -1) for a, w in zip(at, (0, *widths), strict=True)]
        return np.asarray(np.max(days, axis=0))

    def _before(self, width: int) -> Array:
        at = np.empty(len(self.days), np.int64)
        at[self._order] = self._series.index.before(self._groups[self._order], self.days[self._order] - width)
        return at


class DaySeries:
    """Entries with values, and their running sums; one row more than there are entries: zeros, which NO_ENTRY finds.

    Args:
        rows: Sorted by (row, day), distinct, int `[n]`.
        days: Days since the epoch, int32 `[n]`.
        values: `[n, c]`.
        half_life_days: Of the decayed sums.
    """

    def __init__(self, rows: Array, days: Array, values: Array, half_life_days: float) -> None:
        self.index, self.half_life = DayIndex(rows, days), half_life_days
        values = np.pad(np.asarray(values, np.float64), ((0, 1), (0, 0)))
        self.totals = _running(self.index, values, None)
        self.fading = _running(self.index, values, half_life_days)
        self.days = np.append(self.index.days, 0).astype(np.int64)
        self.first_days = np.append(self.index.days[self.index.starts], 0).astype(np.int64)

    def as_of(self, rows: Array, days: Array) -> AsOf:
        """Ask for many rows, each as of its day; an unknown row has nothing."""
        return AsOf(self, rows, days)


def _running(index: DayIndex, values: Array, half_life: float | None) -> Array:
    """Running sums within each group; place by place, all groups that are long enough at once."""
    out = values.copy()
    lengths = np.diff(np.append(index.starts, len(index.rows)))
    order = np.argsort(-lengths, kind="stable")
    starts, longest = index.starts[order], -lengths[order]
    for place in range(1, int(lengths.max()) if len(lengths) else 0):
        at = starts[: np.searchsorted(longest, -place)] + place  # groups with more than `place` entries
        before = out[at - 1]
        if half_life is not None:
            gap = index.days[at].astype(np.int64) - index.days[at - 1]
            before = before * np.exp2(-gap / half_life)[:, None]
        out[at] += before
    return out


def changes(index: DayIndex, widths: tuple[int, ...], until: int) -> tuple[Array, Array]:
    """The (row, day) on which the snapshot of a row changes other than by drifting: the day after an entry, and when it leaves a window.

    Args:
        index: The entries.
        widths: Of the windows, days.
        until: The last day of interest.

    Returns:
        rows int64 and days int32 `[m]`, sorted by (day, row), distinct.
    """
    group = np.tile(index.group, len(widths) + 1)
    day = np.concatenate([index.days.astype(np.int64) + 1 + w for w in (0, *widths)])
    early = day <= until
    keys = np.unique((day[early] + _DAYS // 2) * max(len(index.distinct), 1) + group[early])
    shifted, group = np.divmod(keys, max(len(index.distinct), 1))
    return index.distinct[group], (shifted - _DAYS // 2).astype(np.int32)


def activities(asked: AsOf, entity: str, columns: Mapping[str, int]) -> dict[str, Array]:
    """Each activity (name -> column of the series) over every window and decayed, by the name of its statistic."""
    sums = {f"{w}d": asked.window(w) for w in WINDOWS} | {"decayed": asked.faded}
    return {f"{entity}.{what}_{span}": of[:, c] for what, c in columns.items() for span, of in sums.items()}


def stacked(statistics: tuple[Statistic, ...], values: Mapping[str, Array], synthetic_time: bool) -> Array:
    """The values in the order of the list, float32 `[n, c]`; a timed one holds its default where the clock is invented."""
    out = np.empty((len(next(iter(values.values()))), len(statistics)), np.float32)
    for column, s in enumerate(statistics):
        out[:, column] = s.default if synthetic_time and s.timed else values[s.name]
    return out
