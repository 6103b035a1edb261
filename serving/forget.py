"""Forgets people in Redis: histories, live lists, entries of the streams; and the wishes to be forgotten that wait for the files.

A wish is on disk before anything is removed, so that a crash half-way leaves it to be found. Nothing here is derived from an id when it is done: a
wish's name is a hash, and `fulfilled` replaces it by a mark before the append-only file is written anew, which is what takes the last bytes off
the disk.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import redis

from core.artifact import hash_json
from core.erasure import Forgotten, Verdict
from core.event_log import EVENT, PAGE
from core.schema import Column
from serving.feedback import forget_units
from serving.keys import Keys, session_key

_CHUNK: Final = 1_000
_FULFILLED: Final = b"fulfilled"
_PREAMBLE: Final = "aof-use-rdb-preamble"
_POLL_SECONDS: Final = 0.02


@dataclass
class Removed:
    """What was removed. `streams_done`: the streams were looked through to their ends."""

    histories: int = 0
    live_lists: int = 0
    events: int = 0
    pages: int = 0
    units: int = 0  # sessions that bandits had counted
    streams_done: bool = True
    sessions: set[str] = field(default_factory=set)  # of the entries removed


class Wishes:
    """The wishes of one tenant, in a hash: name -> JSON [user id, visitor id], or a mark once the files are done."""

    def __init__(self, store: redis.Redis, keys: Keys) -> None:
        self._store, self._key = store, keys.erasures

    def add(self, user_id: str, visitor_id: str) -> str:
        """Store a wish; its name."""
        name = hash_json([user_id, visitor_id])[:24]
        self._store.hset(self._key, name, json.dumps([user_id, visitor_id]))
        return name

    def pending(self) -> dict[str, tuple[str, str]]:
        """Wishes whose files are not done: name -> (user id, visitor id)."""
        return {n.decode(): tuple(json.loads(w)) for n, w in self._all().items() if w != _FULFILLED}

    def fulfilled(self, names: list[str]) -> None:
        """The files are done: nothing of these wishes stays but a mark, until `clear`."""
        if names:
            self._store.hset(self._key, mapping=dict.fromkeys(names, _FULFILLED))

    def marks(self) -> list[str]:
        """Wishes that wait for the append-only file alone."""
        return [n.decode() for n, w in self._all().items() if w == _FULFILLED]

    def clear(self, names: list[str]) -> None:
        """Take the marks away."""
        if names:
            self._store.hdel(self._key, *names)

    def _all(self) -> dict[bytes, bytes]:
        found: Any = self._store.hgetall(self._key)
        return dict(found)


def forget(store: redis.Redis, keys: Keys, gone: Forgotten, seconds: float | None = None) -> Removed:
    """Remove what Redis knows of people.

    Args:
        store: A client for writing.
        keys: Of the tenant.
        gone: Who.
        seconds: After so long the streams are left to another call; None: never.

    Raises:
        redis.RedisError: It is not known what was removed; call again.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    removed = Removed()
    windows: Any = store.zrange(keys.windows, 0, -1)
    removed.histories = _deleted(store, [keys.history(w.decode(), k) for w in windows for k in gone.keys])
    removed.events = _leave(store, keys.events, gone, removed, deadline)
    removed.pages = _leave(store, keys.shown, gone, removed, deadline)
    who = [*gone.keys, *(session_key(s) for s in sorted(removed.sessions))]
    removed.live_lists = _deleted(store, [keys.live(w) for w in who])
    removed.units = forget_units(store, keys, gone.keys, sorted(removed.sessions))
    return removed


def sweep(store: redis.Redis, gone: Forgotten) -> int:
    """Delete every key that has a forgotten id in its name, whoever wrote it (Feast too); how many. Walks through all keys, which takes its time."""
    return _deleted(store, [key for key in store.scan_iter(count=10_000) if gone.in_key(key)])


def start_rewrite(store: redis.Redis) -> None:
    """Have the append-only file written anew, in the background, unless that happens already."""
    try:
        store.bgrewriteaof()
    except redis.ResponseError as e:
        if "in progress" not in str(e):
            raise


def rewrite(store: redis.Redis, seconds: float) -> bool:
    """Have the append-only file written anew from now on and wait for it; False where Redis keeps none.

    A stream keeps the bytes of a deleted entry until its whole node is gone, and so does a file that begins with a snapshot: it is written as commands.

    Raises:
        redis.RedisError: Redis cannot, or not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    if not store.info("persistence")["aof_enabled"]:
        return False
    _wait(store, deadline)  # one that began before would carry the old bytes along
    settings: Any = store.config_get(_PREAMBLE)
    before = settings.get(_PREAMBLE, "no")
    if before != "no":
        store.config_set(_PREAMBLE, "no")
    try:
        store.bgrewriteaof()
        status = _wait(store, deadline)
    finally:
        if before != "no":
            store.config_set(_PREAMBLE, before)
    if status != "ok":
        raise redis.RedisError("the append-only file could not be written anew; see the log of Redis")
    return True


def _wait(store: redis.Redis, deadline: float) -> str:
    """Until no rewrite runs or is about to; how the last one went."""
    while True:
        info: Any = store.info("persistence")
        if not info["aof_rewrite_in_progress"] and not info["aof_rewrite_scheduled"]:
            return str(info["aof_last_bgrewrite_status"])
        if time.monotonic() > deadline:
            raise redis.TimeoutError("Redis writes its append-only file anew for too long")
        time.sleep(_POLL_SECONDS)


def _leave(store: redis.Redis, stream: str, gone: Forgotten, removed: Removed, deadline: float | None) -> int:
    """Take people out of a stream; how many entries were theirs."""
    dropped = 0
    for entries in _chunks(store, stream):
        out = store.pipeline(transaction=True)
        for entry, fields in entries:
            row = _row(fields, gone)
            verdict = gone.verdict_of(row)
            if verdict is Verdict.DROP:
                dropped += 1
                removed.sessions |= {str(row[Column.SESSION_ID])} if row.get(Column.SESSION_ID) else set()
            elif verdict is Verdict.BLANK:
                # an entry cannot be changed: a copy that does not name them takes its place at the end
                out.xadd(stream, _blanked(fields, gone))
            if verdict is not Verdict.KEEP:
                out.xdel(stream, entry)
        if len(out):
            out.execute()
        if deadline is not None and time.monotonic() > deadline:
            removed.streams_done = False
            break
    return dropped


def _chunks(store: redis.Redis, stream: str) -> Iterator[list[tuple[bytes, dict[bytes, bytes]]]]:
    """The entries that are there now, oldest first."""
    newest: Any = store.xrevrange(stream, count=1)
    after, end = "-", newest[0][0] if newest else b""
    while end:
        entries: Any = store.xrange(stream, after, end, count=_CHUNK)
        if not entries:
            return
        yield entries
        after = f"({entries[-1][0].decode()}"


def _row(fields: dict[bytes, bytes], gone: Forgotten) -> dict[str, Any]:
    """What an entry says; empty where it cannot name one of `gone`, which is most of them."""
    return {
        column: cell
        for value in _documents(fields).values()
        if any(form in value for form in gone.forms)
        for column, cell in json.loads(value).items()
    }


def _documents(fields: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The JSON among the fields of an entry."""
    return {name: value for name, value in fields.items() if name.decode() in (EVENT, PAGE)}


def _blanked(fields: dict[bytes, bytes], gone: Forgotten) -> dict[bytes, bytes]:
    written = {
        name: json.dumps(gone.blanked(json.loads(value)), ensure_ascii=False, separators=(",", ":")).encode()
        for name, value in _documents(fields).items()
    }
    return fields | written


def _deleted(store: redis.Redis, names: list[Any]) -> int:
    """How many of the keys there were."""
    chunks = (names[at : at + _CHUNK] for at in range(0, len(names), _CHUNK))
    return sum(int(store.delete(*chunk)) for chunk in chunks)
