"""The log of recommendations: pages go through a bounded queue and a thread to a bounded stream in Redis. No answer waits for it or fails by it."""

from __future__ import annotations

import queue
import threading
import uuid
from dataclasses import dataclass, replace
from typing import Any

import orjson
import redis

from aisle.v1 import recommender_pb2 as pb
from core import event_log
from core.columns import Array
from core.event_log import Page
from core.ids import NO_ROW
from serving.config import LogConfig
from serving.keys import Keys
from serving.redis_link import RedisLink
from serving.release import Release
from serving.tally import Tally

_BATCH = 200
_LINGER_SECONDS = 1.0  # every write costs Redis a flush to disk, during which no history can be read: pages go together
_RETRY_SECONDS = 0.5

# Per page: its JSON, its candidates and its features, empty where there are none. A batch that comes a second time, because the first answer was lost,
# changes nothing. It answers how many pages were taken: all or none.
_ADD = """
if redis.call('GET', KEYS[2]) == ARGV[2] then return tonumber(ARGV[3]) end
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[1]) then return 0 end
for a = 4, #ARGV, 3 do
  if ARGV[a + 1] == '' then redis.call('XADD', KEYS[1], '*', 'page', ARGV[a])
  else redis.call('XADD', KEYS[1], '*', 'page', ARGV[a], 'candidates', ARGV[a + 1], 'features', ARGV[a + 2]) end
end
redis.call('SET', KEYS[2], ARGV[2], 'EX', 3600)
return tonumber(ARGV[3])
"""


@dataclass(frozen=True)
class Shown:
    """A page as it was answered."""

    time: int  # microseconds: the clock of the request
    release: Release
    page_size: int
    request: pb.RecommendRequest
    response: pb.RecommendResponse
    personal: bool  # else no id of a person may be written down
    user: int  # row, NO_ROW for a stranger
    candidates: Array | None = None  # int32 [n]
    features: Array | None = None  # float32 [n, F], where a ranker read them
    live: tuple[int, ...] = ()  # hashes of the live events that the history was joined with
    pool: tuple[str, ...] = ()  # ids of the items from which an explored page was drawn, in their usual order
    experiments: tuple[str, ...] = ()  # the arms that it was given (experiments.assign.said)


class ShownLog:
    """Takes pages from many threads."""

    def __init__(
        self,
        link: RedisLink,
        keys: Keys,
        config: LogConfig,
        tally: Tally,
        explored_features: float = 0.0,
        stream: str | None = None,
    ) -> None:
        """`explored_features`: the share of explored pages that are logged with features, where it is more than that of all.

        `stream`: another one than that of pages that were shown.
        """
        self._redis, self._keys, self._config, self._tally = link.writes, keys, config, tally
        self._explored_features = max(explored_features, config.features_share)
        self._queue: queue.Queue[Shown] = queue.Queue(config.queue_pages)
        self._stream = stream or keys.shown
        self._me, self._batches = f"{self._stream}:{uuid.uuid4().hex}", 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shown-log", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, if Redis is there, and end."""
        self._stopping.set()
        self._thread.join()

    def offer(self, shown: Shown) -> None:
        """Note a page, if it is one of the share that is logged. Never waits; what does not fit is dropped and counted."""
        name = shown.response.request_id
        if not event_log.sampled("page", name, self._config.share):
            return
        share = self._explored_features if shown.response.explored else self._config.features_share
        if not event_log.sampled("features", name, share):
            shown = replace(shown, candidates=None, features=None)
        try:
            self._queue.put_nowait(shown)
        except queue.Full:
            self._tally.add("pages", "dropped")

    def _run(self) -> None:
        while batch := self._next():
            arguments: list[Any] = [part for shown in batch for part in self._packed(shown)]
            self._batches += 1
            while (taken := self._add(arguments, len(batch))) is None and not self._stopping.wait(_RETRY_SECONDS):
                pass
            self._tally.add("pages", "logged" if taken else "dropped", len(batch))

    def _next(self) -> list[Shown]:
        """What came in a while, or a whole batch; empty at the end."""
        batch: list[Shown] = []
        while not batch:
            last = self._stopping.wait(0 if self._queue.qsize() >= _BATCH else _LINGER_SECONDS)
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            if last:
                break
        return batch

    def _add(self, arguments: list[Any], n: int) -> int | None:
        """How many pages Redis took; None: it is not known to have taken any."""
        head = [self._config.stream_pages, self._batches, n]
        try:
            return int(self._redis.eval(_ADD, 2, self._stream, self._me, *head, *arguments))
        except redis.RedisError:
            return None

    def _packed(self, shown: Shown) -> tuple[bytes, bytes, bytes]:
        candidates = b"" if shown.candidates is None else shown.candidates.astype("<i4").tobytes()
        features = b"" if shown.features is None else shown.features.astype("<f4").tobytes()
        return orjson.dumps(columns_of(shown, self._keys.tenant)), candidates, features


def columns_of(shown: Shown, tenant: str) -> dict[str, Any]:
    """The columns of the log that are not bytes; those without a value are left out."""
    asked, answered = shown.request, shown.response
    results = answered.results
    columns: dict[str, Any] = {
        Page.TIME: shown.time,
        Page.REQUEST_ID: answered.request_id,
        Page.ATTRIBUTION_TOKEN: answered.attribution_token,
        Page.TENANT: tenant,
        Page.RELEASE: answered.release,
        Page.WINDOW_END: shown.release.window_end,
        Page.PLACEMENT: asked.placement,
        Page.LEVEL: answered.level,
        Page.DEGRADED: answered.degraded,
        Page.FALLBACK_REASON: answered.fallback_reason,
        Page.PAGE_SIZE: shown.page_size,
        Page.EXCLUDE_SEEN: asked.exclude_seen,
        Page.EXCLUDE_ITEM_IDS: list(asked.exclude_item_ids),
        Page.CONTEXT_ITEM_IDS: list(asked.context_item_ids),
        Page.LABELS: dict(asked.labels),
        Page.ITEMS: [r.item_id for r in results],
        Page.POSITIONS: [r.rank for r in results],
        Page.SCORES: [r.score for r in results],
        Page.SOURCES: [r.source for r in results],
        Page.PROPENSITIES: [r.propensity for r in results],
        Page.EXPLORED: answered.explored,
        Page.POOL: list(shown.pool),
        Page.EXPERIMENTS: list(shown.experiments),
    }
    if shown.personal:
        columns |= {Page.USER_ID: asked.user_id, Page.VISITOR_ID: asked.visitor_id, Page.SESSION_ID: asked.session_id}
    if shown.candidates is not None and shown.personal and shown.user != NO_ROW:
        columns[Page.USER_ROW] = shown.user
    if shown.candidates is not None:
        columns[Page.LIVE_EVENTS] = list(shown.live)
    if shown.features is not None and shown.release.scorer is not None:
        columns[Page.FEATURE_SCHEMA] = shown.release.scorer.header["schema"]
        columns[Page.N_FEATURES] = shown.features.shape[1]
    return {str(name): value for name, value in columns.items() if value != ""}
