"""A person's statistics as of any day, from one small table of active days. Serving's batch and `materialize` read the same as training does.

user_activity/        column folder, sorted by (user, day), one row for each day on which a person did anything but see an impression:
                      user int32, day int32 (days since the epoch, UTC), and float64 events, purchases (less returns), spend (less returns), gain,
                      log_price (sum of log(1 + price) of purchases that state one) and priced (number of these)
user_activity.json    {"synthetic_time": bool}
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import numpy as np

from core.columns import Array, Columns
from core.errors import ArtifactError
from core.prepared import Prepared
from core.schema import DAY, Column, EventType
from ranking.day_statistics import DaySeries, activities, changes, daily, stacked
from ranking.statistics import USER_FACTS, USER_HALF_LIFE, USER_STATISTICS, WINDOWS, Statistic

ACTIVITY: Final = "user_activity"
HEADER: Final = f"{ACTIVITY}.json"
MEASURES: Final = ("events", "purchases", "spend", "gain", "log_price", "priced")
_EVENTS, _PURCHASES, _SPEND, _GAIN, _LOG_PRICE, _PRICED, _ACTIVE = range(7)
_ACTIVITIES: Final = {"events": _EVENTS, "purchases": _PURCHASES, "spend": _SPEND}


class UserStatistics:
    """Answers for many (person, day) at once. `activity` as above."""

    names: Final = USER_FACTS
    statistics: tuple[Statistic, ...] = USER_STATISTICS

    def __init__(self, activity: Columns, *, synthetic_time: bool) -> None:
        measures = [activity.numbers(m) for m in MEASURES]
        values = np.stack([*measures, np.ones(activity.rows)], axis=1)
        self._series = DaySeries(activity.numbers("user"), activity.numbers("day"), values, USER_HALF_LIFE)
        self.synthetic_time = synthetic_time

    @classmethod
    def open(cls, folder: Path) -> UserStatistics:
        """From the folder that `write_activity` wrote into: user state carries both of its parts."""
        try:
            header = json.loads((folder / HEADER).read_text())
        except FileNotFoundError:
            raise ArtifactError(f"{folder}: no {HEADER}: made by an older Aisle; publish again") from None
        return cls(Columns.open(folder / ACTIVITY), synthetic_time=bool(header["synthetic_time"]))

    @classmethod
    def of(cls, prepared: Prepared) -> UserStatistics:
        """From an opened prepared data set."""
        return cls(activity(prepared), synthetic_time=prepared.synthetic_time)

    def as_of(self, users: Array, days: Array) -> Array:
        """The statistics of each person as of 00:00 UTC of each day.

        Args:
            users: Rows of the user id map, int32 `[n]`; one who did nothing yet (or NO_ROW) gets the defaults.
            days: Days since the epoch, int32 `[n]`.

        Returns:
            float32 `[n, len(USER_FACTS)]`, finite.
        """
        users, days = np.asarray(users, np.int64), np.asarray(days, np.int64)
        asked = self._series.as_of(users, days)
        total, faded, month = asked.total, asked.faded, asked.window(30)
        values = activities(asked, "user", _ACTIVITIES) | {
            "user.events": total[:, _EVENTS],
            "user.purchases": total[:, _PURCHASES],
            "user.gain_decayed": faded[:, _GAIN],
            "user.active_days": total[:, _ACTIVE],
            "user.active_days_30d": month[:, _ACTIVE],
            "user.price_level": total[:, _LOG_PRICE] / np.maximum(total[:, _PRICED], 1),
            "user.tenure_days": np.where(asked.at >= 0, days - asked.first_days, -1.0),
            "user.recency_days": np.where(asked.at >= 0, days - asked.last_days, -1.0),
        }
        return stacked(USER_STATISTICS, values, self.synthetic_time)

    def stored_days(self, users: Array, days: Array) -> Array:
        """The day that each one's newest row in the feature table of that day is as of, -1 where there is none: int64 `[n]`."""
        return self._series.as_of(np.asarray(users, np.int64), np.asarray(days, np.int64)).changed(WINDOWS)

    def changes(self, until: int) -> tuple[Array, Array]:
        """The (person, day) up to `until` on which a snapshot changes other than by drifting, sorted by (day, person)."""
        return changes(self._series.index, WINDOWS, until)


def activity(prepared: Prepared) -> Columns:
    """The table of active days of a prepared data set."""
    days = Columns.open(prepared.path / "user_days")
    done = sum(days.numbers(t).astype(np.float64) for t in EventType if t != EventType.IMPRESSION)
    purchases = days.numbers(EventType.PURCHASE_COMPLETE).astype(np.float64) - days.numbers(EventType.RETURN)
    user, day, measured = daily(*_measured(prepared.events))
    counted = np.stack([done, purchases, days.numbers("spend")], axis=1)
    user, day, sums = daily(
        np.concatenate([days.numbers("user"), user]),
        np.concatenate([days.numbers("day"), day]),
        np.concatenate([np.pad(counted, ((0, 0), (0, 3))), np.pad(measured, ((0, 0), (3, 0)))]),
    )
    active = sums[:, _EVENTS] > 0
    columns = dict(zip(MEASURES, sums[active].T, strict=True))
    return Columns({"user": user[active].astype(np.int32), "day": day[active], **columns})


def write_activity(prepared: Prepared, folder: Path) -> None:
    """Write `user_activity/` and its header into `folder`: what `UserStatistics.open` needs and user state carries."""
    activity(prepared).write(folder / ACTIVITY)
    (folder / HEADER).write_text(json.dumps({"synthetic_time": prepared.synthetic_time}) + "\n")


def _measured(events: Columns) -> tuple[Array, Array, Array]:
    """user, day, and (gain, log price, priced) of every event that has any of them."""
    gain, price = events.numbers(Column.GAIN), events.numbers(Column.PRICE)
    bought = events.numbers(Column.TYPE) == EventType.PURCHASE_COMPLETE.code
    priced = bought & np.isfinite(price) & (price > 0)
    seen = events.numbers(Column.TYPE) == EventType.IMPRESSION.code
    at = np.flatnonzero(((gain > 0) | priced) & ~seen)
    log_price = np.where(priced[at], np.log1p(np.where(priced[at], price[at], 0).astype(np.float64)), 0.0)
    values = np.stack([gain[at].astype(np.float64), log_price, priced[at].astype(np.float64)], axis=1)
    return events.numbers(Column.USER)[at], (events.numbers(Column.TIME)[at] // DAY).astype(np.int32), values
