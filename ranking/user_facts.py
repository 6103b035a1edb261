"""The snapshot of a person that the ranker reads: some of the declared user statistics as of one day, for as long as they say anything.

The law, the same offline and online: the snapshot is as of 00:00 UTC of the day of the request, or of the end of the release's window where that
comes first. `batch` and training evaluate it for that day; `materialize` writes the row of the window's end, which is that day for every request
that a server can get.

A person's row **expires** when, at the moment of the request, the newest row of the `user` table (the last day on which a value changed) is older
than the table's time to live: exactly what the training join marks as `user__expired`. Somebody who did nothing before the snapshot has no row.
Both hold the defaults, and `user.expired` says so.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from core.artifact import hash_json
from core.columns import Array
from core.prepared import Prepared
from core.schema import DAY
from ranking.feature_list import USER
from ranking.statistics import ENTITIES, USER_FACTS
from ranking.user_statistics import UserStatistics

EXPIRED: Final = "user.expired"
NAMES: Final = tuple(f.name for f in USER if f.name != EXPIRED)
"""Columns of a snapshot, in order: float32 each."""
SCHEMA: Final = hash_json([asdict(f) for f in USER])
"""Hex sha256 of what the columns are: rows of other declarations are never read as these."""
TTL: Final = ENTITIES["user"].ttl_days * DAY
"""Microseconds."""
NEVER: Final = -1
"""The day of a row that is not there."""

_COLUMNS: Final = np.array([USER_FACTS.index(name) for name in NAMES])


class Snapshot(NamedTuple):
    """One person's row."""

    day: int  # the last day on which it changed, since the epoch; NEVER: there is none
    facts: Array  # float32 [len(NAMES)], as of the snapshot's day

    def at(self, time: int) -> Array | None:
        """The facts as a request at `time` (microseconds) sees them; None: there are none, or they expired."""
        return None if self.day == NEVER or time - self.day * DAY > TTL else self.facts


class UserFacts:
    """Snapshots of people as of any request, from their table of active days.

    Args:
        statistics: Of the same user rows.
        window_end: Of the release, microseconds; None where requests are answered by what was known at their own moment, as in training.
    """

    def __init__(self, statistics: UserStatistics, window_end: int | None = None) -> None:
        self._statistics, self._window_end = statistics, window_end

    @classmethod
    def open(cls, folder: Path, window_end: int | None = None) -> UserFacts:
        """From the folder that `user_statistics.write_activity` wrote into."""
        return cls(UserStatistics.open(folder), window_end)

    @classmethod
    def of(cls, prepared: Prepared, window_end: int | None = None) -> UserFacts:
        """From a prepared data set."""
        return cls(UserStatistics.of(prepared), window_end)

    def at(self, user: int, time: int) -> Array | None:
        """What a request of `user` (row; NO_ROW is nobody) at `time` sees: float32 `[len(NAMES)]`; None: absent or expired."""
        day = (time if self._window_end is None else min(time, self._window_end)) // DAY
        facts, days = self.as_of(np.array([user]), np.array([day]))
        return Snapshot(int(days[0]), facts[0]).at(time)

    def at_window_end(self, users: Array) -> tuple[Array, Array]:
        """`as_of` the day of the window's end: what every request after it sees until it expires."""
        assert self._window_end is not None
        return self.as_of(users, np.full(len(users), self._window_end // DAY))

    def as_of(self, users: Array, days: Array) -> tuple[Array, Array]:
        """Snapshots of many people (int32 `[n]`) as of 00:00 UTC of days since the epoch (int32 `[n]`).

        Returns:
            float32 `[n, len(NAMES)]`, and int64 `[n]`: the day of each row, NEVER where there is none. With an invented clock nobody has one.
        """
        facts = self._statistics.as_of(users, days)[:, _COLUMNS]
        if self._statistics.synthetic_time:
            return facts, np.full(len(facts), NEVER)
        return facts, self._statistics.stored_days(users, days)
