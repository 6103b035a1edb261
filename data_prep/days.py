"""What happened to an item, or what a person did, on each day: a snapshot as of day D sums the days before D and cannot leak.

Counts are events as they came; `revenue` (and `spend`) is price times quantity of purchases minus that of returns, each on its own
day: a return takes its purchase back from the return's day on, never before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from core.columns import Array
from core.schema import DAY, EVENT_TYPES, EventType
from data_prep.appender import ColumnAppender
from data_prep.sums import KeyedSums, summed

_TYPES: Final = len(EVENT_TYPES)


@dataclass(frozen=True)
class DayTable:
    """Layout of one of the two tables: the row column, and what money and the distinct others are called."""

    name: str
    row: str
    money: str
    others: str

    @property
    def dtypes(self) -> dict[str, str]:
        """Columns in order: row and day, a count for each event type, money, distinct others of the day."""
        return {self.row: "int32", "day": "int32"} | dict.fromkeys([*EVENT_TYPES, self.money, self.others], "float32")


ITEM_DAYS: Final = DayTable("item_days", "item", "revenue", "users")
USER_DAYS: Final = DayTable("user_days", "user", "spend", "items")


def net_money(types: Array, prices: Array, quantities: Array) -> Array:
    """Price times quantity of each purchase, minus for each return, else 0; an unknown price counts nothing: float64 `[n]`."""
    sign = (types == EventType.PURCHASE_COMPLETE.code).astype(np.float64) - (types == EventType.RETURN.code)
    return np.asarray(sign * np.nan_to_num(prices.astype(np.float64)) * quantities)


class DaySums:
    """Collects both tables from chunks of events that hold all events of their users.

    Args:
        n_users: Rows of the user id map.
        n_items: Rows of the item id map.
        days: First and last day of the log, days since the epoch.
        spill: A folder for what does not fit in memory.
    """

    def __init__(self, n_users: int, n_items: int, days: tuple[int, int], spill: Path) -> None:
        self._first, self._n_days = days[0], days[1] - days[0] + 1
        self._sums = {
            ITEM_DAYS: KeyedSums(n_items * self._n_days, _TYPES + 2, spill),
            USER_DAYS: KeyedSums(n_users * self._n_days, _TYPES + 2, spill),
        }

    def add(self, users: Array, items: Array, times: Array, types: Array, money: Array) -> None:
        """Add a chunk, all arrays `[n]`: rows, microseconds, type codes, net money."""
        day = times // DAY - self._first
        facts = np.zeros((_TYPES + 2, len(users)))
        facts[types, np.arange(len(users))] = 1
        facts[_TYPES] = money
        # the first event of (user, item, day) counts the user for the item's day and the item for the user's
        order = np.lexsort((day, items, users))
        u, i, d = users[order], items[order], day[order]
        new = np.concatenate([[True], (u[1:] != u[:-1]) | (i[1:] != i[:-1]) | (d[1:] != d[:-1])])
        facts[_TYPES + 1, order[new]] = 1
        for rows, table in ((items, ITEM_DAYS), (users, USER_DAYS)):
            self._sums[table].add(*summed(rows.astype(np.int64) * self._n_days + day, facts))

    def write(self, folder: Path) -> dict[str, int]:
        """Write `item_days/` and `user_days/` under `folder`; rows of each."""
        written = {}
        for table, sums in self._sums.items():
            with ColumnAppender(folder / table.name, table.dtypes) as out:
                for keys, values in sums.ranges():
                    row, day = np.divmod(keys, self._n_days)
                    columns = dict(zip(list(table.dtypes)[2:], values, strict=True))
                    out.append({table.row: row, "day": day + self._first} | columns)
            written[table.name] = out.rows
        return written
