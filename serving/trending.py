"""What trends now: the gain of the last hour's events of each item, from the stream of every event of the shop, as an array in the process.

A thread of its own reads the stream in bounded pieces, from an hour ago on at the start, and puts a new `Trend` in place of the last one; requests
take the one that is there. While Redis is away nothing new comes in, and what is there leaves as its hour ends. An event counts at its own time, not
at that of its arrival: what was spooled, or is sent a day later, is no trend. `events sink` takes out of the stream what is in the log: a process
that starts, or that was cut off from Redis, misses what was taken meanwhile.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import redis

from core.columns import Array
from core.event_log import EVENT
from core.schema import EVENT_TYPES, Column, EventType
from serving.config import TrendingConfig
from serving.keys import Keys
from serving.recent_counts import WINDOW_MINUTES, RecentCounts
from serving.redis_link import RedisLink
from serving.release import Release
from serving.resident import Resident
from serving.trend import NOTHING, Trend
from serving.trending_log import TrendingLog

_LOG = logging.getLogger(__name__)
_CHUNK: Final = 200  # entries of one read: some 2 ms of this process's time, in which requests wait for the interpreter
_BREATH_SECONDS: Final = 0.01  # between two reads, for the requests
_MOST_ITEMS: Final = 1_000_000  # of the hour, known to the release or not
# an impression says what the shop did
_CODES: Final = {str(t): t.code for t in EVENT_TYPES if t is not EventType.IMPRESSION}


class Trending:
    """Keeps the trend of the resident release, and of those beside it (`beside`) that arms of experiments have."""

    def __init__(
        self,
        link: RedisLink,
        keys: Keys,
        config: TrendingConfig,
        resident: Resident,
        clock: Callable[[], int],
        beside: Callable[[], list[Release]] = list,
    ) -> None:
        self._redis, self._stream, self._config = link.writes, keys.events, config
        self._resident, self._clock = resident, clock
        self._log = TrendingLog(link, keys, config)
        self._trend, self._after = NOTHING, ""
        self._counts, self._rows = RecentCounts(_MOST_ITEMS), _Rows()
        self._beside, self._trends_beside, self._rows_beside = beside, dict[Path, Trend](), dict[Path, _Rows]()
        self._changed, self._read_at, self._away = False, time.monotonic(), False
        self._publishing = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trending", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        if self._config.enabled:
            self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self._config.enabled:
            self._thread.join()

    def of(self, release: Release) -> Trend:
        """What trends in `release`; nothing, for the moment in which another release takes its place."""
        trend = self._trend
        return trend if trend.is_of(release) else self._trends_beside.get(release.path, NOTHING)

    def lead(self, k: int) -> int:
        """How many of the first of k places what trends may take where nothing is known of the person."""
        return int(k * self._config.page_share)

    @property
    def runs(self) -> bool:
        """Whether it is looked for."""
        return self._config.enabled

    @property
    def items(self) -> int:
        """How many trend."""
        return self._trend.items

    @property
    def age_seconds(self) -> float:
        """Since the stream was last read to its end."""
        return time.monotonic() - self._read_at

    @property
    def counts(self) -> Array:
        """int32 `[n, event types]`: the events of the hour that are read, by item. For the thread that reads."""
        return self._counts.counts

    def read(self) -> bool:
        """Take one piece of the stream; whether there is more.

        Raises:
            redis.RedisError: Nothing was taken.
        """
        if not self._after:
            seconds, _ = self._redis.time()  # the clock that the ids are made by
            self._after = f"{(seconds - 60 * WINDOW_MINUTES) * 1000}-0"
        entries: Any = self._redis.xrange(self._stream, f"({self._after}", "+", count=_CHUNK)
        now = self._clock()
        with self._publishing:
            for _, fields in entries:
                self._changed |= self._take(fields, now)
        if entries:
            self._after = entries[-1][0].decode()
        if len(entries) < _CHUNK:
            self._read_at = time.monotonic()
        return len(entries) == _CHUNK

    def publish(self) -> None:
        """Put the trend of the release that answers now in the place of the last one, if anything is different."""
        with self._publishing:
            self._changed |= self._counts.advance(self._clock())
            release = self._resident.release
            self._publish_beside(release)
            if self._changed or not self._trend.is_of(release):
                rows = self._rows.of(release, self._counts)
                self._trend = Trend.of(release, rows, self._counts.counts, self._config.least_gain)
                self._changed = False

    def _publish_beside(self, main: Release) -> None:
        releases = {release.path: release for release in self._beside() if release.path != main.path}
        self._rows_beside = {path: self._rows_beside.get(path) or _Rows() for path in releases}
        trends, least = self._trends_beside, self._config.least_gain
        self._trends_beside = {
            path: trends[path]
            if path in trends and not self._changed
            else Trend.of(release, self._rows_beside[path].of(release, self._counts), self._counts.counts, least)
            for path, release in releases.items()
        }

    def _take(self, fields: dict[bytes, bytes], now: int) -> bool:
        """Count an entry; whether that changed anything. One that is not ours is the sink's to name."""
        try:
            event = orjson.loads(fields[EVENT.encode()])
            code, when = _CODES[event[Column.EVENT_TYPE]], int(event[Column.EVENT_TIME])
            item = str(event[Column.ITEM_ID])
        except (KeyError, ValueError, TypeError):
            return False
        return self._counts.add(item, code, when, now)

    def _run(self) -> None:
        published, pause = -np.inf, 0.0
        while not self._stopping.wait(pause):
            more = self._read_if_there()
            if not more or time.monotonic() >= published + self._config.refresh_seconds:
                self.publish()
                published = time.monotonic()
                self._log.offer(self._trend, self._clock())
            pause = _BREATH_SECONDS if more else self._config.refresh_seconds

    def _read_if_there(self) -> bool:
        try:
            more = self.read()
        except redis.RedisError as e:
            if not self._away:
                _LOG.warning("what trends is not brought up to date: %s", e)
            self._away = True
            return False
        if self._away:
            _LOG.warning("what trends is brought up to date again")
        self._away = False
        return more


class _Rows:
    """Rows of a release for the ids that are counted, each looked up once."""

    def __init__(self) -> None:
        self._release: Release | None = None
        self._tidied = 0
        self._rows = np.empty(0, np.int32)

    def of(self, release: Release, counts: RecentCounts) -> Array:
        """int32 `[ids]`; NO_ROW where the release does not know an item, or no longer has it."""
        if release is not self._release or counts.tidied != self._tidied:
            self._release, self._tidied, self._rows = release, counts.tidied, np.empty(0, np.int32)
        new = release.item_ids.rows(counts.ids[len(self._rows) :])
        self._rows = np.concatenate([self._rows, new])
        return self._rows
