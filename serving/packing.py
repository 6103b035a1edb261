"""The packed values in Redis: little-endian, a version byte first.

    person    version u8, a zero byte, number of attributes a u16, user row i32, day of the snapshot i32 (-1: none), number of events h u32, then a
              attributes u64 (hashed tokens, core.tokens); of the events, oldest first, h times i64, h items i32, h gains f32; the snapshot's F facts
              f32 (ranking.user_facts.NAMES); h types i8: 16 + 8 a + 17 h + 4 F bytes
    live      version u8, type i8, event hash u64, time i64, then the item's external id in UTF-8

One value has all that the night knows of a person, because one GET is cheaper than two. It is columnar and its columns are aligned, so that reading
copies nothing. Items are rows of the permanent id map there (which only grows), but external ids in live events, which may name items that no release
knows yet. The declarations of the facts are part of the schema, and it of every key: other facts are other keys, never misread.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final, NamedTuple

import numpy as np

from core.columns import Array
from core.history import History
from ranking import user_facts
from ranking.user_facts import NAMES, Snapshot
from serving.failures import Failure, StoreError

VERSION: Final = 2  # of live events
PERSON_VERSION: Final = 3
MOST_ATTRIBUTES: Final = (1 << 16) - 1
_PERSON: Final = struct.Struct("<BxHiiI")
_LIVE: Final = struct.Struct("<BbQq")
_FACTS: Final = "facts"
_COLUMNS: Final = (("times", "<i8"), ("items", "<i4"), ("gains", "<f4"), (_FACTS, "<f4"), ("types", "<i1"))
_EVENT_BYTES: Final = 17
_FACTS_BYTES: Final = 4 * len(NAMES)
SCHEMA: Final = hashlib.blake2b(
    repr((VERSION, PERSON_VERSION, _PERSON.format, _LIVE.format, _COLUMNS, user_facts.SCHEMA)).encode(), digest_size=4
).hexdigest()


NO_ATTRIBUTES: Final = np.empty(0, np.uint64)


class LiveEvent(NamedTuple):
    """An event written since the last night."""

    hash: int  # of its id, 64 bits
    type: int  # code of the event type
    time: int  # microseconds
    item_id: str


class PackedPerson(NamedTuple):
    """What the night knew of a person."""

    user: int  # row
    history: History
    snapshot: Snapshot
    attributes: Array = NO_ATTRIBUTES  # uint64 [a], at most MOST_ATTRIBUTES


class People(NamedTuple):
    """m people of neighbouring rows; their events and attributes lie one after another."""

    first: int  # row of the first
    events: History  # of all of them
    runs: Array  # int64 [m, 2]: where the events of each begin and end
    days: Array  # int [m], of the snapshots
    facts: Array  # float32 [m, F]
    attributes: Array  # uint64, of all of them
    told: Array  # int64 [m, 2]: where the attributes of each begin and end, at most MOST_ATTRIBUTES apart


def pack_person(person: PackedPerson) -> bytes:
    """The value of a person."""
    user, history, (day, facts), attributes = person
    runs, told = np.array([[0, len(history)]]), np.array([[0, len(attributes)]])
    return pack_people(People(user, history, runs, np.array([day]), facts[None], attributes, told))[0]


def pack_people(people: People) -> list[bytes]:
    """The value of each. A column becomes bytes once for all of them: numpy, asked for every person, takes longer than Redis."""
    first, events, runs, days, facts, attributes, told = people
    times, items, gains, known, types = (
        (facts if name == _FACTS else getattr(events, name)).astype(dtype, copy=False).tobytes()
        for name, dtype in _COLUMNS
    )
    tokens, width = attributes.astype("<u8", copy=False).tobytes(), 4 * facts.shape[1]
    return [
        b"".join(
            (
                _PERSON.pack(PERSON_VERSION, d - c, user, day, b - a),
                tokens[8 * c : 8 * d],
                times[8 * a : 8 * b],
                items[4 * a : 4 * b],
                gains[4 * a : 4 * b],
                known[width * (user - first) : width * (user - first + 1)],
                types[a:b],
            )
        )
        for user, (a, b), (c, d), day in zip(
            range(first, first + len(runs)), runs.tolist(), told.tolist(), days.tolist(), strict=True
        )
    ]


def unpack_person(value: bytes) -> PackedPerson:
    """What `pack_person` packed; the arrays are views of `value`."""
    if len(value) < _PERSON.size or value[0] != PERSON_VERSION:
        raise _unreadable("person", value, PERSON_VERSION)
    _, a, user, day, h = _PERSON.unpack_from(value)
    times = _PERSON.size + 8 * a
    if len(value) != times + _EVENT_BYTES * h + _FACTS_BYTES:
        raise _unreadable("person", value, PERSON_VERSION)
    items = times + 8 * h
    gains = items + 4 * h
    facts = gains + 4 * h
    types = facts + _FACTS_BYTES
    history = History(
        items=np.frombuffer(value, "<i4", h, items),
        times=np.frombuffer(value, "<i8", h, times),
        types=np.frombuffer(value, "<i1", h, types),
        gains=np.frombuffer(value, "<f4", h, gains),
    )
    attributes = np.frombuffer(value, "<u8", a, _PERSON.size) if a else NO_ATTRIBUTES
    return PackedPerson(user, history, Snapshot(day, np.frombuffer(value, "<f4", len(NAMES), facts)), attributes)


def pack_live(event: LiveEvent) -> bytes:
    """The value of one live event."""
    return _LIVE.pack(VERSION, event.type, event.hash, event.time) + event.item_id.encode()


def unpack_live(value: bytes) -> LiveEvent:
    """The event behind one value."""
    if len(value) <= _LIVE.size or value[0] != VERSION:
        raise _unreadable("live event", value, VERSION)
    _, kind, hash, time = _LIVE.unpack_from(value)
    return LiveEvent(hash, kind, time, value[_LIVE.size :].decode())


def _unreadable(what: str, value: bytes, version: int) -> StoreError:
    start = value[:1].hex() or "nothing"
    return StoreError(
        Failure.STATE_UNREADABLE, f"a {what} of {len(value)} bytes that starts with {start}, expected version {version}"
    )
