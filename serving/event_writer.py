"""Writes events to Redis: into the live lists that the next answer reads, and into the stream that the nightly log is made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import redis

from core.ids import hash64
from core.schema import Column, EventType
from serving.config import EventsConfig
from serving.failures import Failure, StoreError
from serving.keys import Keys
from serving.online_state import Person
from serving.packing import LiveEvent, pack_live
from serving.redis_link import RedisLink, failure_of

_DAY_SECONDS = 86_400

# One call, one atomic step. Per event: KEYS its memory and its lists; ARGV the number of lists, the packed value and the JSON.
_WRITE = """
if redis.call('XLEN', KEYS[1]) >= tonumber(ARGV[4]) then return -1 end
local accepted, k, a = 0, 2, 5
while a <= #ARGV do
  local lists = tonumber(ARGV[a])
  if redis.call('SET', KEYS[k], '', 'NX', 'EX', ARGV[3]) then
    for i = k + 1, k + lists do
      redis.call('LPUSH', KEYS[i], ARGV[a + 1])
      redis.call('LTRIM', KEYS[i], 0, ARGV[1] - 1)
      redis.call('EXPIRE', KEYS[i], ARGV[2])
    end
    redis.call('XADD', KEYS[1], '*', 'event', ARGV[a + 2])
    accepted = accepted + 1
  end
  k, a = k + 1 + lists, a + 3
end
return accepted
"""


@dataclass(frozen=True)
class WrittenEvent:
    """One event as it is stored: the columns of the events table, those that are given."""

    type: EventType
    time: int  # microseconds
    person: Person
    columns: dict[str, Any]

    @property
    def item_id(self) -> str:
        """External id."""
        return str(self.columns[Column.ITEM_ID])

    @property
    def hash(self) -> int:
        """Of the event's id; without one, of everything it says."""
        named = self.columns.get(Column.EVENT_ID)
        return hash64(f"id:{named}" if named else "key:" + json.dumps(self.columns, sort_keys=True))


class EventWriter:
    """Stores events, each once."""

    def __init__(self, link: RedisLink, keys: Keys, config: EventsConfig) -> None:
        self._keys, self._config = keys, config
        self._script = link.writes.register_script(_WRITE)

    def write(self, events: Sequence[WrittenEvent]) -> int:
        """Store those that are new, all or none; how many that were.

        Raises:
            StoreError: Nothing is known to be stored. The same call may be made again.
        """
        c = self._config
        keys = [self._keys.events]
        live, dedup = (max(1, round(days * _DAY_SECONDS)) for days in (c.live_days, c.dedup_days))
        arguments: list[Any] = [c.live_per_person, live, dedup, c.stream_events]
        for event in events:
            lists = [self._keys.live(k) for k in event.person.live_keys]
            keys += [self._keys.event(event.hash), *lists]
            packed = pack_live(LiveEvent(event.hash, event.type.code, event.time, event.item_id))
            arguments += [len(lists), packed, json.dumps(event.columns, ensure_ascii=False, separators=(",", ":"))]
        try:
            accepted = int(self._script(keys=keys, args=arguments))
        except redis.RedisError as e:
            raise StoreError(failure_of(e), str(e)) from None
        if accepted < 0:
            raise StoreError(Failure.STREAM_FULL, f"{c.stream_events} events wait for the log; nothing was stored")
        return accepted
