"""The log of what trended: the head of the trend, each so often once for all processes of a shop, in a bounded stream that `events sink` empties."""

from __future__ import annotations

import time

import orjson
import redis

from core.event_log import TREND, Snapshot
from core.schema import SECOND
from serving.config import TrendingConfig
from serving.keys import Keys
from serving.recent_counts import WINDOW_MINUTES
from serving.redis_link import RedisLink
from serving.trend import Trend

# The process that is first in a period logs for all; a second sending of what Redis took already finds the period taken.
_ADD = """
if not redis.call('SET', KEYS[2], '', 'NX', 'EX', ARGV[1]) then return 0 end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[2]) then return 0 end
redis.call('XADD', KEYS[1], '*', ARGV[3], ARGV[4])
return 1
"""


class TrendingLog:
    """Offers trends to the stream; for one thread."""

    def __init__(self, link: RedisLink, keys: Keys, config: TrendingConfig) -> None:
        self._redis, self._keys, self._config = link.writes, keys, config
        self._due = time.monotonic() + config.snapshot_seconds  # nothing is known yet of an hour that was not read

    def offer(self, trend: Trend, now: int) -> bool:
        """Log `trend` as of `now`, microseconds, if a snapshot is due and no other process has logged this period; whether it was.

        A Redis that is away or full goes without.
        """
        if trend.release is None or time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + self._config.snapshot_seconds
        period = now // max(1, round(self._config.snapshot_seconds * SECOND))
        # remembered for longer than clocks of two machines may differ
        remembered = max(3_600, round(2 * self._config.snapshot_seconds))
        keys = [self._keys.trending, self._keys.trending_period(period)]
        columns = orjson.dumps(columns_of(trend, now, self._keys.tenant, self._config.snapshot_items))
        try:
            return bool(self._redis.eval(_ADD, 2, *keys, remembered, self._config.stream_snapshots, TREND, columns))
        except redis.RedisError:
            return False


def columns_of(trend: Trend, now: int, tenant: str, most: int) -> dict[str, object]:
    """The columns of the log for a trend of a release: its first `most` items."""
    assert trend.release is not None
    rows = trend.order[:most]
    return {
        Snapshot.TIME.value: now,
        Snapshot.TENANT.value: tenant,
        Snapshot.RELEASE.value: trend.release.name,
        Snapshot.WINDOW_SECONDS.value: 60 * WINDOW_MINUTES,
        Snapshot.TRENDING.value: trend.items,
        Snapshot.ITEMS.value: [trend.release.item_ids[row] for row in rows.tolist()],
        Snapshot.VALUES.value: [float(v) for v in trend.values[rows]],
    }
