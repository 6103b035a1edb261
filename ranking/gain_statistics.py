"""Decayed gain of (one, other) as of any day: what a person likes by category and brand, and what a cohort takes. What they mean: ranking/statistics.py.

Only sums that add up are kept for each pair; the shares (`affinity`, `popularity`) follow from two of them, both as of the same day.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.columns import Array, Coded
from core.prepared import Prepared
from core.schema import DAY, Column, EventType
from ranking.day_statistics import DaySeries, changes, daily
from ranking.statistics import COHORT_HALF_LIFE, COHORT_PRIOR, USER_HALF_LIFE

EVERYBODY: Final = "all"


class GainStatistics:
    """Decayed gain for each (row, other). A single key is (row, 0) with `width` 1.

    Args:
        rows: int `[e]`, of events with positive gain.
        others: int `[e]`, in [0, width).
        width: Number of others.
        days: Days since the epoch `[e]`.
        gains: `[e]`.
        half_life_days: Of the decay.
        synthetic_time: Whether all answers are 0.
    """

    def __init__(
        self,
        rows: Array,
        others: Array,
        width: int,
        days: Array,
        gains: Array,
        *,
        half_life_days: float,
        synthetic_time: bool,
    ) -> None:
        self.width, self._synthetic = max(width, 1), synthetic_time
        keys = np.asarray(rows, np.int64) * self.width + others
        self._series = DaySeries(*daily(keys, days, np.asarray(gains)[:, None]), half_life_days)

    def as_of(self, rows: Array, others: Array, days: Array) -> Array:
        """Decayed gain of each (row, other) before 00:00 UTC of each day: float32 `[n]`; 0 for a negative row or other."""
        rows, others = np.asarray(rows, np.int64), np.asarray(others, np.int64)
        known = (rows >= 0) & (others >= 0)
        faded = self._series.as_of(np.where(known, rows * self.width + others, -1), days).faded[:, 0]
        return np.zeros(len(rows), np.float32) if self._synthetic else faded.astype(np.float32)

    def changes(self, until: int) -> tuple[Array, Array, Array]:
        """The (row, other, day) up to `until` on which a gain was added the day before, sorted by (day, row, other)."""
        keys, days = changes(self._series.index, (), until)
        rows, others = np.divmod(keys, self.width)
        return rows, others, days


@dataclass(frozen=True)
class Gains:
    """Events with positive gain, all `[e]`."""

    user: Array
    item: Array
    day: Array
    gain: Array
    type: Array

    @classmethod
    def of(cls, prepared: Prepared) -> Gains:
        """Of a prepared data set."""
        e = prepared.events
        at = np.flatnonzero(e.numbers(Column.GAIN) > 0)
        user, item, time, gain, kind = (
            np.asarray(e.numbers(c)[at]) for c in (Column.USER, Column.ITEM, Column.TIME, Column.GAIN, Column.TYPE)
        )
        return cls(user, item, (time // DAY).astype(np.int32), gain, kind)


def tastes(prepared: Prepared, column: str) -> GainStatistics:
    """A person's decayed gain by `category` or `brand` of the items; rows are people, others are codes of the item column."""
    values, g = prepared.items[column], Gains.of(prepared)
    assert isinstance(values, Coded)
    code = values.codes[g.item]
    at = np.flatnonzero((code >= 0) & (g.type != EventType.IMPRESSION.code))
    return GainStatistics(
        g.user[at],
        code[at],
        len(values.values),
        g.day[at],
        g.gain[at],
        half_life_days=USER_HALF_LIFE,
        synthetic_time=prepared.synthetic_time,
    )


@dataclass(frozen=True)
class Cohorts:
    """Popularity within cohorts. `names[c]` is cohort c: `all`, `category=<of the item>`, `<attribute>=<of the person>`."""

    names: tuple[str, ...]
    totals: GainStatistics  # (cohort, 0)
    items: GainStatistics  # (cohort, item)

    @classmethod
    def of(cls, prepared: Prepared, attributes: tuple[str, ...]) -> Cohorts:
        """Cohorts by category and by those of the `attributes` that the users table has as single texts."""
        g = Gains.of(prepared)
        names, cohort, event = [EVERYBODY], [np.zeros(len(g.item), np.int64)], [np.arange(len(g.item))]
        sources = [("category", prepared.items[Column.CATEGORY], g.item)]
        sources += [(a, prepared.users[c], g.user) for a in attributes if (c := f"attribute.{a}") in prepared.users]
        for name, column, rows in sources:
            if isinstance(column, Coded):
                code = column.codes[rows]
                event.append(np.flatnonzero(code >= 0))
                cohort.append(code[event[-1]].astype(np.int64) + len(names))
                names += [f"{name}={value}" for value in column.values]
        which, at = np.concatenate(cohort), np.concatenate(event)

        def summed(others: Array, width: int) -> GainStatistics:
            return GainStatistics(
                which,
                others,
                width,
                g.day[at],
                g.gain[at],
                half_life_days=COHORT_HALF_LIFE,
                synthetic_time=prepared.synthetic_time,
            )

        return cls(tuple(names), summed(np.zeros(len(at), np.int64), 1), summed(g.item[at], len(prepared.item_ids)))

    def popularity(self, cohorts: Array, items: Array, days: Array) -> Array:
        """Each item's share of its cohort's decayed gain, smoothed: float32 `[n]`."""
        item, total = self.items.as_of(cohorts, items, days), self.totals.as_of(cohorts, np.zeros_like(items), days)
        return np.asarray(item / (total + np.float32(COHORT_PRIOR)))


def affinity(taste: Array, gain: Array) -> Array:
    """A taste's share of the person's decayed gain (`user.gain_decayed`), both as of the same day: float32 `[n]`."""
    return np.asarray(np.divide(taste, gain, out=np.zeros_like(taste), where=gain > 0))
