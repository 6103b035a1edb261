"""Loads the user state of a window into Redis: packed people first, the marker that the window is complete last."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import redis

from core.erasure import Forgotten
from core.errors import ArtifactError, EnvironmentGapError
from serving.forget import Wishes
from serving.keys import Keys
from serving.packing import MOST_ATTRIBUTES, People, pack_people
from serving.redis_link import address, client
from serving.user_state import UserState, state_id

_CHUNK_BYTES = 256 * 1024  # of one MSET: small enough that reads beside it keep their deadline
_BLOCK = 65_536  # people whose facts are computed at a time
_KEPT_WINDOWS = 2  # the newest: the release that answers, and the one to roll back to
_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class Materialized:
    """What was written."""

    users: int
    bytes: int
    seconds: float


def materialize(
    url: str, tenant: str, user_state: Path, window_end: int, expected: str, history_events: int
) -> Materialized:
    """Write the newest `history_events` events of every person, their attributes, and their facts as of the window's end; then drop windows no release needs.

    Args:
        url: Of the Redis.
        tenant: Whose keys.
        user_state: `WORK/user_state/<window_end>`.
        window_end: Of the release, microseconds.
        expected: `state_id` that the release names; another one is refused.
        history_events: As in the release's settings.
    """
    start = time.perf_counter()
    found = state_id(user_state)
    if found != expected:
        raise ArtifactError(
            f"{user_state}: user state {found[:12]}, but the release was made with {expected[:12] or 'none'}: publish again"
        )
    keys, store = Keys(tenant), client(url, _TIMEOUT_SECONDS, retries=0)
    window = keys.window(window_end, found)
    users = written = 0
    try:
        store.zadd(keys.windows, {window: time.time()})
        # the files may still hold who asked to be forgotten
        gone = frozenset(Forgotten.of(Wishes(store, keys).pending().values()).keys)
        for chunk in _chunks(keys, window, UserState.open(user_state, history_events), gone):
            store.mset(chunk)
            users += len(chunk)
            written += sum(map(len, chunk.values()))
        about = {"users": users, "bytes": written, "history_events": history_events, "user_state": found}
        store.set(keys.complete(window), json.dumps(about))
        _prune(store, keys, window)
    except redis.RedisError as e:
        raise EnvironmentGapError(f"Redis at {address(url)}: {e}") from None
    return Materialized(users, written, round(time.perf_counter() - start, 2))


def is_materialized(url: str, tenant: str, window_end: int, state: str, history_events: int) -> bool:
    """Whether the window is there, complete and with long enough histories."""
    try:
        marker = client(url, _TIMEOUT_SECONDS, retries=0).get(
            Keys(tenant).complete(Keys(tenant).window(window_end, state))
        )
    except redis.RedisError as e:
        raise EnvironmentGapError(f"Redis at {address(url)}: {e}") from None
    return isinstance(marker, bytes) and json.loads(marker)["history_events"] >= history_events


def _chunks(keys: Keys, window: str, state: UserState, gone: frozenset[str]) -> Iterator[dict[str, bytes]]:
    chunk: dict[str, bytes] = {}
    size = 0
    for key, value in _people(state, gone):
        chunk[keys.history(window, key)] = value
        size += len(value)
        if size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = {}, 0
    if chunk:
        yield chunk


def _people(state: UserState, gone: frozenset[str]) -> Iterator[tuple[str, bytes]]:
    """Person key and packed value of everybody who did anything or says anything of themselves, and is not `gone`."""
    told = np.stack([state.told.starts[:-1], state.told.starts[1:]], 1)
    told[:, 1] = np.minimum(told[:, 1], told[:, 0] + MOST_ATTRIBUTES)
    for start in range(0, len(state.ids), _BLOCK):
        stop = min(start + _BLOCK, len(state.ids))
        rows = np.arange(start, stop)
        facts, days = state.facts.at_window_end(rows)
        events, runs = state.histories.block(start, stop)
        some = (runs[:, 1] > runs[:, 0]) | (told[start:stop, 1] > told[start:stop, 0])
        people = People(start, events, runs, days, facts, state.told.tokens, told[start:stop])
        for key, value, there in zip(
            state.ids.texts.of_rows(rows), pack_people(people), some & state.ids.alive[start:stop], strict=True
        ):
            if there and key not in gone:
                yield key, value


def _prune(store: redis.Redis, keys: Keys, present: str) -> None:
    """Remove all windows but the newest few and the one just written."""
    found: Any = store.zrevrange(keys.windows, 0, -1)
    newest_first = [w.decode() for w in found]
    for window in set(newest_first[_KEPT_WINDOWS:]) - {present}:
        store.delete(keys.complete(window))
        some: list[bytes] = []
        for key in store.scan_iter(match=f"{window}:*", count=10_000):
            some.append(key)
            if len(some) == 1_000:
                store.unlink(*some)
                some = []
        if some:
            store.unlink(*some)
        store.zrem(keys.windows, window)
