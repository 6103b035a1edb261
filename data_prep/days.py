"""What happened to an item, or what a person did, on each day: a snapshot as of day D sums the days before D and cannot leak.

Counts are events as they came; `revenue` (and `spend`) is price times quantity of purchases minus that of returns, each on its own
day: a return takes its purchase back from the return's day on, never before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from core.columns import Array, Columns
from core.schema import DAY, EVENT_TYPES, EventType
from data_prep.appender import ColumnAppender, add_to_header
from data_prep.sums import KeyedSums, ascending, summed

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


@dataclass(frozen=True)
class EarlierDays:
    """The prepared data set of the night before in `folder`; `moved` are the days on which an event came or went, ascending."""

    folder: Path
    moved: Array


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
        keys, order = ascending(((users - users.min()).astype(np.int64) << 32 | items) * self._n_days + day)
        new = np.concatenate([[True], keys[1:] != keys[:-1]])
        facts[_TYPES + 1, order[new]] = 1
        for rows, table in ((items, ITEM_DAYS), (users, USER_DAYS)):
            self._sums[table].add(*summed(rows.astype(np.int64) * self._n_days + day, facts))

    def write(self, folder: Path, earlier: EarlierDays | None = None) -> dict[str, int]:
        """Write `item_days/` and `user_days/` under `folder`, with the days of `earlier` that did not move; rows of each."""
        if earlier is not None:
            return {table.name: self._write_among(folder, table, earlier) for table in self._sums}
        written = {}
        for table, sums in self._sums.items():
            with ColumnAppender(folder / table.name, table.dtypes) as out:
                for keys, values in sums.ranges():
                    out.append(self._columns(table, keys, values))
            written[table.name] = out.rows
        return written

    def _columns(self, table: DayTable, keys: Array, values: Array) -> dict[str, Array]:
        row, day = np.divmod(keys, self._n_days)
        return dict(zip(table.dtypes, (row, day + self._first, *values), strict=True))

    def _write_among(self, folder: Path, table: DayTable, earlier: EarlierDays) -> int:
        """Write the rows of the days that moved among those of the others, one column at a time; how many there are."""
        old = Columns.open(earlier.folder / table.name)
        parts = [self._columns(table, *part) for part in self._sums[table].ranges()]
        new = {c: np.concatenate([np.empty(0, d), *(p[c] for p in parts)]).astype(d) for c, d in table.dtypes.items()}
        stay = ~np.isin(old.numbers("day"), earlier.moved)
        staying = old.numbers(table.row)[stay].astype(np.int64) << 32 | old.numbers("day")[stay]
        coming = new[table.row].astype(np.int64) << 32 | new["day"]
        fresh = np.zeros(len(staying) + len(coming), bool)
        fresh[np.searchsorted(staying, coming) + np.arange(len(coming))] = True
        (folder / table.name).mkdir(parents=True)
        for name, dtype in table.dtypes.items():
            column = np.empty(len(fresh), dtype)
            column[~fresh], column[fresh] = old.numbers(name)[stay], new[name]
            np.save(folder / table.name / f"{name}.npy", column)
        add_to_header(folder / table.name, len(fresh), list(table.dtypes))
        return len(fresh)
