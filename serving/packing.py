"""The packed values in Redis: little-endian, a version byte first.

    history   version u8, 3 zero bytes, user row i32, then h times i64, h items i32, h gains f32, h types i8: 8 + 17 h bytes, oldest event first
    live      version u8, type i8, event hash u64, time i64, then the item's external id in UTF-8

A history is columnar and its columns are aligned, so that reading it copies nothing. Items are rows of the permanent id map there (which only
grows), but external ids in live events, which may name items that no release knows yet.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final, NamedTuple

import numpy as np

from core.history import History
from serving.failures import Failure, StoreError

VERSION: Final = 1
_HISTORY: Final = struct.Struct("<B3xi")
_LIVE: Final = struct.Struct("<BbQq")
_COLUMNS: Final = (("times", "<i8"), ("items", "<i4"), ("gains", "<f4"), ("types", "<i1"))
_EVENT_BYTES: Final = 17
SCHEMA: Final = hashlib.blake2b(
    repr((VERSION, _HISTORY.format, _LIVE.format, _COLUMNS)).encode(), digest_size=4
).hexdigest()


class LiveEvent(NamedTuple):
    """An event written since the last night."""

    hash: int  # of its id, 64 bits
    type: int  # code of the event type
    time: int  # microseconds
    item_id: str


def pack_history(user: int, history: History) -> bytes:
    """The value of a person with user row `user`."""
    columns = (getattr(history, name).astype(dtype, copy=False).tobytes() for name, dtype in _COLUMNS)
    return _HISTORY.pack(VERSION, user) + b"".join(columns)


def unpack_history(value: bytes) -> tuple[int, History]:
    """User row and history; the arrays are views of `value`."""
    n, odd = divmod(len(value) - _HISTORY.size, _EVENT_BYTES)
    if odd or n < 0 or value[0] != VERSION:
        raise _unreadable("history", value)
    columns, at = {}, _HISTORY.size
    for name, dtype in _COLUMNS:
        columns[name] = np.frombuffer(value, dtype, n, at)
        at += columns[name].nbytes
    return _HISTORY.unpack_from(value)[1], History(**columns)


def pack_live(event: LiveEvent) -> bytes:
    """The value of one live event."""
    return _LIVE.pack(VERSION, event.type, event.hash, event.time) + event.item_id.encode()


def unpack_live(value: bytes) -> LiveEvent:
    """The event behind one value."""
    if len(value) <= _LIVE.size or value[0] != VERSION:
        raise _unreadable("live event", value)
    _, kind, hash, time = _LIVE.unpack_from(value)
    return LiveEvent(hash, kind, time, value[_LIVE.size :].decode())


def _unreadable(what: str, value: bytes) -> StoreError:
    start = value[:1].hex() or "nothing"
    return StoreError(
        Failure.STATE_UNREADABLE, f"a {what} of {len(value)} bytes that starts with {start}, expected version {VERSION}"
    )
