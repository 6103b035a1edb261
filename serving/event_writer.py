"""Writes events to Redis: into the live lists that the next answer reads, and into the stream that the nightly log is made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import redis

from core.ids import hash64
from core.schema import Column, EventType
from serving.config import EventsConfig
from serving.failures import Failure, StoreError
from serving.feedback import FUNCTIONS, Feedback
from serving.keys import Keys
from serving.online_state import Person
from serving.packing import LiveEvent, pack_live
from serving.redis_link import DURABILITY, RedisLink, failure_of, is_durable

_DAY_SECONDS = 86_400
_FULL_RETRY_SECONDS = 5.0  # a sink needs a moment to make room

# One call, one atomic step. Per event: KEYS its memory, its lists, and two per bandit that learns from it; ARGV the number of lists, the packed value, the
# JSON, the number of bandits, and four for each. It answers how many events were new, and the newest id of the stream.
_WRITE = (
    FUNCTIONS
    + """
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[4]) then return {-1, ''} end
local accepted, k, a = 0, 2, 5
while a <= #ARGV do
  local lists, bandits = tonumber(ARGV[a]), tonumber(ARGV[a + 3])
  if redis.call('SET', KEYS[k], '', 'NX', 'EX', ARGV[3]) then
    for i = k + 1, k + lists do
      redis.call('LPUSH', KEYS[i], ARGV[a + 1])
      redis.call('LTRIM', KEYS[i], 0, ARGV[1] - 1)
      redis.call('EXPIRE', KEYS[i], ARGV[2])
    end
    redis.call('XADD', KEYS[1], '*', 'event', ARGV[a + 2])
    for i = 0, bandits - 1 do
      local keys, said = k + lists + 1 + 2 * i, a + 4 + 4 * i
      rewarded(KEYS[keys], KEYS[keys + 1], ARGV[said], ARGV[said + 1], ARGV[said + 2], ARGV[said + 3])
    end
    accepted = accepted + 1
  end
  k, a = k + 1 + lists + 2 * bandits, a + 4 + 4 * bandits
end
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
return {accepted, newest[1] and newest[1][1] or '0-0'}
"""
)


@dataclass(frozen=True)
class WrittenEvent:
    """One event as it is stored: the columns of the events table, those that are given."""

    type: EventType
    time: int  # microseconds
    person: Person
    columns: dict[str, Any]

    @classmethod
    def of(cls, columns: dict[str, Any]) -> Self:
        """From the columns alone."""
        who = Person(*(columns.get(c, "") for c in (Column.USER_ID, Column.VISITOR_ID, Column.SESSION_ID)))
        return cls(EventType(columns[Column.EVENT_TYPE]), columns[Column.EVENT_TIME], who, columns)

    @property
    def item_id(self) -> str:
        """External id."""
        return str(self.columns[Column.ITEM_ID])

    @property
    def hash(self) -> int:
        """Of the event's id; without one, of everything it says."""
        named = self.columns.get(Column.EVENT_ID)
        return hash64(f"id:{named}" if named else "key:" + json.dumps(self.columns, sort_keys=True))


@dataclass(frozen=True)
class Stored:
    """What a write left in Redis."""

    accepted: int  # events that were new
    durable: bool  # Redis says that a confirmed write is on disk
    run: str  # the run of the Redis process
    newest: str  # stream id: the events lie at or before it


_OF_REDIS: Final = frozenset({Failure.REDIS_UNREACHABLE, Failure.REDIS_TIMEOUT, Failure.REDIS_ERROR})


class EventWriter:
    """Stores events in Redis, each once."""

    def __init__(self, link: RedisLink, keys: Keys, config: EventsConfig, feedback: Feedback | None = None) -> None:
        """`feedback`: what bandits learn from events."""
        self._feedback = feedback
        self._keys, self._config, self._redis, self._breaker = keys, config, link.writes, link.writing
        self._durable = (
            False  # as of the last answer: a Redis that is not known to be durable is asked before it is given anything
        )

    def write(self, events: Sequence[WrittenEvent]) -> int:
        """Store those that are new, all or none, on disk; how many that were.

        Raises:
            StoreError: Nothing is known to be stored. The same call may be made again.
        """
        self._breaker.check()
        try:
            if not self._durable and not is_durable(self._redis.config_get(DURABILITY)):
                raise StoreError(Failure.NOT_DURABLE, "")
            stored = self.store(events)
        except redis.RedisError as e:
            self._breaker.failed(failure_of(e))
            raise StoreError(failure_of(e), str(e)) from None
        except StoreError as e:
            if e.failure in _OF_REDIS:
                self._breaker.failed(e.failure)
            raise
        self._breaker.worked()
        if not stored.durable:
            raise StoreError(Failure.NOT_DURABLE, "")
        return stored.accepted

    def store(self, events: Sequence[WrittenEvent]) -> Stored:
        """Store those that are new, all or none, as well as this Redis does.

        Raises:
            StoreError: Nothing is known to be stored.
        """
        keys, arguments = self._arguments(events)
        # asked in the same breath: an answer from before a restart would say nothing of this write
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.config_get(DURABILITY).info("server").eval(_WRITE, len(keys), *keys, *arguments)
        try:
            settings, server, (accepted, newest) = pipeline.execute()
        except redis.RedisError as e:
            self._durable = False
            raise StoreError(failure_of(e), str(e)) from None
        self._durable = is_durable(settings)
        if accepted < 0:
            full = StoreError(
                Failure.STREAM_FULL, f"{self._config.stream_events} events wait for the log; nothing was stored"
            )
            full.retry_seconds = _FULL_RETRY_SECONDS
            raise full
        return Stored(accepted, self._durable, str(server["run_id"]), newest.decode())

    def logged(self, stored: Stored) -> bool | None:
        """Whether the log has all that `stored` left in the stream; None: Redis restarted since, and may have lost some of it.

        Raises:
            StoreError: Redis failed.
        """
        try:
            server, oldest = (
                self._redis.pipeline(transaction=False)
                .info("server")
                .xrange(self._keys.events, "-", stored.newest, count=1)
                .execute()
            )
        except redis.RedisError as e:
            raise StoreError(failure_of(e), str(e)) from None
        # only the sink takes entries out of the stream, after they are on disk
        return None if str(server["run_id"]) != stored.run else not oldest

    def _arguments(self, events: Sequence[WrittenEvent]) -> tuple[list[str], list[Any]]:
        c, keys = self._config, [self._keys.events]
        live, dedup = (max(1, round(days * _DAY_SECONDS)) for days in (c.live_days, c.dedup_days))
        arguments: list[Any] = [c.live_per_person, live, dedup, c.stream_events]
        for event in events:
            lists = [self._keys.live(k) for k in event.person.live_keys]
            keys += [self._keys.event(event.hash), *lists]
            packed = pack_live(LiveEvent(event.hash, event.type.code, event.time, event.item_id))
            rewards = [] if self._feedback is None else self._feedback.of(event.hash, event.time, event.columns)
            arguments += [len(lists), packed, json.dumps(event.columns, ensure_ascii=False, separators=(",", ":"))]
            arguments.append(len(rewards))
            for reward in rewards:
                keys += reward.keys
                arguments += reward.arguments
        return keys, arguments
