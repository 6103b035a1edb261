"""Histories: what a person did before a moment, from memory-mapped columns sorted by person and time.

Time is the law: `Histories.before(user, time)` returns events strictly before `time`, whatever the store holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from core.columns import Array, Columns
from core.ids import NO_ROW
from core.schema import Column


def _none(dtype: str) -> Array:
    return np.empty(0, dtype)


@dataclass(frozen=True)
class History:
    """Events of one person, oldest first, all arrays `[h]`."""

    items: Array = field(default_factory=lambda: _none("int32"))  # item rows
    times: Array = field(default_factory=lambda: _none("int64"))  # microseconds
    types: Array = field(default_factory=lambda: _none("int8"))  # event type codes
    gains: Array = field(default_factory=lambda: _none("float32"))

    def __len__(self) -> int:
        return len(self.items)

    def newest(self, n: int) -> History:
        """The last n events."""
        return self if n >= len(self) else History(self.items[-n:], self.times[-n:], self.types[-n:], self.gains[-n:])


@dataclass(frozen=True)
class Query:
    """A request in rows: who, when, and what is known of them. The one input of sources and features, offline and online."""

    time: int  # microseconds
    user: int = NO_ROW  # row of the user id map; NO_ROW for a stranger
    history: History = field(default_factory=History)  # strictly before `time`
    context: Array = field(default_factory=lambda: _none("int32"))  # item rows on the page the person looks at
    placement: str = ""
    facts: Array | None = None  # float32 [ranking.user_facts.NAMES]: the person's snapshot; None: absent or expired
    attributes: Array = field(
        default_factory=lambda: _none("uint64")
    )  # [a], hashed tokens of what the person says of themselves

    @cached_property
    def notes(self) -> dict[Any, Any]:
        """What one source has worked out of the query and others need too, by what it is."""
        return {}


class Histories:
    """Event columns sorted by (user, time), with the start of each user's events.

    Columns: user int32, item int32, time int64, type int8, gain float32 `[events]`; `starts` int64 `[users + 1]`.
    """

    def __init__(self, events: Columns, starts: Array, limit: int | None = None) -> None:
        self._items, self._times = events.numbers(Column.ITEM), events.numbers(Column.TIME)
        self._types, self._gains = events.numbers(Column.TYPE), events.numbers(Column.GAIN)
        self._starts, self._limit = starts, limit

    @classmethod
    def open(cls, folder: Path, limit: int | None = None) -> Histories:
        """Open an events column folder; `limit` keeps the newest events of each answer."""
        events = Columns.open(folder)
        users = events.numbers(Column.USER)
        return cls(events, user_starts(users, int(users[-1]) + 1 if len(users) else 0), limit)

    @property
    def users(self) -> int:
        """Number of user rows that the store knows."""
        return len(self._starts) - 1

    def before(self, user: int, time: int | None = None) -> History:
        """The events of `user` strictly before `time` (None: all there are). An unknown user has none."""
        if not 0 <= user < self.users:
            return History()
        start, stop = int(self._starts[user]), int(self._starts[user + 1])
        if time is not None:
            stop = start + int(np.searchsorted(self._times[start:stop], time, side="left"))
        if self._limit is not None:
            start = max(start, stop - self._limit)
        return History(
            self._items[start:stop], self._times[start:stop], self._types[start:stop], self._gains[start:stop]
        )

    def block(self, first: int, last: int) -> tuple[History, Array]:
        """All events of the users `first` to `last` - 1, and where those of each begin and end there: int64 `[last - first, 2]`."""
        start, stop = int(self._starts[first]), int(self._starts[last])
        begin, end = self._starts[first:last] - start, self._starts[first + 1 : last + 1] - start
        if self._limit is not None:
            begin = np.maximum(begin, end - self._limit)
        every = History(
            self._items[start:stop], self._times[start:stop], self._types[start:stop], self._gains[start:stop]
        )
        return every, np.stack([begin, end], 1)


def user_starts(users: Array, n_users: int) -> Array:
    """Where each user's run begins in a sorted user column: int64 `[n_users + 1]`."""
    return np.searchsorted(users, np.arange(n_users + 1)).astype(np.int64)
