"""Item statistics as of any day, from the prepared `item_days/` and the prices in `events/`. What they mean: ranking/statistics.py."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from core.columns import Array, Columns
from core.prepared import Prepared
from core.schema import DAY, Column, EventType
from ranking.day_statistics import AsOf, DayIndex, DaySeries, activities, changes, stacked
from ranking.statistics import (
    CONVERSION_PRIOR,
    ITEM_FACTS,
    ITEM_HALF_LIFE,
    ITEM_STATISTICS,
    RETURN_PRIOR,
    TREND_FLOOR,
    WINDOWS,
    Statistic,
)

_VIEWS: Final = (EventType.DETAIL_PAGE_VIEW, EventType.CLICK)
# columns of the series
_VIEW, _CART, _NET, _BOUGHT, _RETURNED, _EVENTS = range(6)
_ACTIVITIES: Final = {"views": _VIEW, "carts": _CART, "purchases": _NET}


class ItemStatistics:
    """Answers for many (item, day) at once.

    Args:
        item_days: The prepared table.
        prices: Number columns item, day, price: the newest price that an event of the day states; sorted by (item, day).
        created: Creation times of all items, int64 microseconds `[items]`, -1: unknown.
        synthetic_time: Whether timed statistics hold their defaults.
    """

    names: Final = ITEM_FACTS
    statistics: tuple[Statistic, ...] = ITEM_STATISTICS

    def __init__(self, item_days: Columns, prices: Columns, created: Array, *, synthetic_time: bool) -> None:
        self._series = DaySeries(
            item_days.numbers("item"), item_days.numbers("day"), _counts(item_days), ITEM_HALF_LIFE
        )
        self._prices = DayIndex(prices.numbers("item"), prices.numbers("day"))
        self._price = prices.numbers("price")
        self._created = np.asarray(created)
        self._synthetic = synthetic_time

    @classmethod
    def open(cls, prepared: Path) -> ItemStatistics:
        """From a prepared data set."""
        return cls.of(Prepared(prepared))

    @classmethod
    def of(cls, prepared: Prepared) -> ItemStatistics:
        """From an opened prepared data set."""
        created = prepared.items.numbers(Column.CREATED_AT)
        item_days = Columns.open(prepared.path / "item_days")
        return cls(item_days, newest_prices(prepared.events), created, synthetic_time=prepared.synthetic_time)

    def as_of(self, rows: Array, days: Array) -> Array:
        """The statistics of each item as of 00:00 UTC of each day.

        Args:
            rows: Item rows, int32 `[n]`; one that has no events yet (or NO_ROW) gets the defaults.
            days: Days since the epoch, int32 `[n]`.

        Returns:
            float32 `[n, len(ITEM_FACTS)]`, finite.
        """
        rows, days = np.asarray(rows, np.int64), np.asarray(days, np.int64)
        asked = self._series.as_of(rows, days)
        week, month, total = asked.window(7), asked.window(30), asked.total
        values = activities(asked, "item", _ACTIVITIES) | {
            "item.conversion": _smoothed(month[:, _BOUGHT], month[:, _VIEW], CONVERSION_PRIOR),
            "item.return_rate": _smoothed(total[:, _RETURNED], total[:, _BOUGHT], RETURN_PRIOR),
            "item.trend": np.log2((week[:, _EVENTS] / 7 + TREND_FLOOR) / (month[:, _EVENTS] / 30 + TREND_FLOOR)),
            "item.price": self._price_before(rows, days),
            "item.age_days": self._age(asked, rows, days),
        }
        return stacked(ITEM_STATISTICS, values, self._synthetic)

    def changes(self, until: int) -> tuple[Array, Array]:
        """The (item, day) up to `until` on which an item's snapshot changes other than by drifting, sorted by (day, item)."""
        return changes(self._series.index, WINDOWS, until)

    def _price_before(self, rows: Array, days: Array) -> Array:
        at = self._prices.before(self._prices.locate(rows), days)
        return np.where(at >= 0, self._price[at], 0.0) if len(self._price) else np.zeros(len(rows))

    def _age(self, asked: AsOf, rows: Array, days: Array) -> Array:
        """Days since the first event; since the creation for an item that had been created before that."""
        seen = asked.at >= 0
        first = asked.first_days
        known = seen & (rows >= 0) & (rows < len(self._created))
        created = self._created_days[np.where(known, rows, 0)] if len(self._created) else first
        first = np.where(known, np.minimum(first, created), first)
        return np.where(seen, days - first, -1.0)

    @cached_property
    def _created_days(self) -> Array:
        return np.where(self._created >= 0, self._created // DAY, np.iinfo(np.int64).max)


def newest_prices(events: Columns) -> Columns:
    """item, day, price float32: the last price stated on each day an item's price was stated; the dearest of one moment. Sorted by (item, day)."""
    price = events.numbers(Column.PRICE)
    stated = np.flatnonzero(np.isfinite(price) & (price > 0))
    item, time, price = (np.asarray(events.numbers(c)[stated]) for c in (Column.ITEM, Column.TIME, Column.PRICE))
    order = np.lexsort((price, time, item))
    item, day, price = item[order], (time[order] // DAY).astype(np.int32), price[order]
    last = np.ones(len(item), bool)
    last[:-1] = (item[1:] != item[:-1]) | (day[1:] != day[:-1])
    return Columns({"item": item[last], "day": day[last], "price": price[last]})


def _counts(days: Columns) -> Array:
    """The columns of the series, float64 `[n, 6]`."""
    bought, returned = (days.numbers(t).astype(np.float64) for t in (EventType.PURCHASE_COMPLETE, EventType.RETURN))
    views = sum(days.numbers(t).astype(np.float64) for t in _VIEWS)
    done = sum(days.numbers(t).astype(np.float64) for t in EventType if t != EventType.IMPRESSION)
    return np.stack([views, days.numbers(EventType.ADD_TO_CART), bought - returned, bought, returned, done], axis=1)


def _smoothed(part: Array, whole: Array, prior: tuple[float, float]) -> Array:
    """A share, drawn to the prior, at most 1."""
    share, strength = prior
    return np.asarray(np.minimum((part + share * strength) / (whole + strength), 1.0))
