import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.columns import Columns
from core.history import Histories, History, user_starts
from core.schema import Column
from ranking.user_facts import NAMES, NEVER, Snapshot
from serving.failures import Failure, StoreError
from serving.packing import (
    SCHEMA,
    LiveEvent,
    PackedPerson,
    People,
    pack_live,
    pack_people,
    pack_person,
    unpack_live,
    unpack_person,
)

# Two events: items 5 and 300 at 1 and 258 microseconds, types 7 and 2, gains 1.0 (0x3f800000) and 0.5 (0x3f000000).
HISTORY = History(
    np.array([5, 300], np.int32),
    np.array([1, 258], np.int64),
    np.array([7, 2], np.int8),
    np.array([1.0, 0.5], np.float32),
)
# The snapshot of day 400 (0x190): 0.0, 1.0 (0x3f800000), 2.0 (0x40000000), then 1.0 for the rest of the seven facts.
SNAPSHOT = Snapshot(400, np.array([0, 1, 2, 1, 1, 1, 1], np.float32))
TOLD = np.array([1, 0x0102030405060708], np.uint64)  # tokens of attributes
PACKED = bytes.fromhex(
    "0300 0200 2a000000"  # version 3, padding, two attributes, user row 42
    "90010000 02000000"  # day 400, two events
    "0100000000000000 0807060504030201"  # attributes
    "0100000000000000 0201000000000000"  # times
    "05000000 2c010000"  # items
    "0000803f 0000003f"  # gains
    "00000000 0000803f 00000040 0000803f 0000803f 0000803f 0000803f"  # facts
    "07 02"  # types
)


def test_golden_bytes_of_a_person() -> None:
    assert pack_person(PackedPerson(42, HISTORY, SNAPSHOT, TOLD)) == PACKED
    user, history, snapshot, told = unpack_person(PACKED)
    assert (told.tolist(), told.dtype) == (TOLD.tolist(), TOLD.dtype)
    assert (user, snapshot.day) == (42, 400)
    assert snapshot.facts.tolist() == SNAPSHOT.facts.tolist()
    for name in ("items", "times", "types", "gains"):
        assert getattr(history, name).tolist() == getattr(HISTORY, name).tolist()
        assert getattr(history, name).dtype == getattr(HISTORY, name).dtype


def test_golden_bytes_of_a_live_event() -> None:
    event = LiveEvent(hash=0x0102030405060708, type=3, time=258, item_id="é1")
    packed = bytes.fromhex("02 03 0807060504030201 0201000000000000") + b"\xc3\xa91"
    assert pack_live(event) == packed
    assert unpack_live(packed) == event


def test_another_layout_is_another_schema() -> None:
    assert (
        SCHEMA == "2cbdb098"
    )  # part of every key: whoever changes the layout or what the facts are changes this, and VERSION with the layout


def test_a_person_may_have_neither_events_nor_facts_nor_attributes() -> None:
    nothing = PackedPerson(7, History(), Snapshot(NEVER, np.zeros(len(NAMES), np.float32)))
    unpacked = unpack_person(pack_person(nothing))
    assert (len(unpacked.history), unpacked.snapshot.day, len(unpacked.attributes)) == (0, NEVER, 0)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3)), min_size=1, max_size=8), st.integers(1, 4))
def test_people_of_a_block_are_packed_as_each_alone(counts: list[tuple[int, int]], limit: int) -> None:
    rng = np.random.default_rng(7)
    users = np.repeat(np.arange(len(counts), dtype=np.int32), [events for events, _ in counts])
    columns = Columns(
        {
            Column.USER: users,
            Column.ITEM: rng.integers(0, 99, len(users)).astype(np.int32),
            Column.TIME: np.arange(len(users), dtype=np.int64),
            Column.TYPE: rng.integers(0, 9, len(users)).astype(np.int8),
            Column.GAIN: rng.random(len(users)).astype(np.float32),
        }
    )
    histories = Histories(columns, user_starts(users, len(counts)), limit)
    told = np.concatenate([[0], np.cumsum([attributes for _, attributes in counts])])
    tokens = rng.integers(0, 1 << 60, told[-1]).astype(np.uint64)
    days, facts = rng.integers(0, 99, len(counts)), rng.random((len(counts), len(NAMES))).astype(np.float32)
    for first in range(len(counts)):
        events, runs = histories.block(first, len(counts))
        cuts = np.stack([told[first:-1], told[first + 1 :]], 1)
        packed = pack_people(People(first, events, runs, days[first:], facts[first:], tokens, cuts))
        for user, value in enumerate(packed, first):
            snapshot, own = Snapshot(int(days[user]), facts[user]), tokens[told[user] : told[user + 1]]
            assert value == pack_person(PackedPerson(user, histories.before(user), snapshot, own))


@pytest.mark.parametrize(
    "value", [b"", PACKED[:-1], b"\x02" + PACKED[1:], PACKED[:7]], ids=["empty", "cut", "version 2", "half a header"]
)
def test_a_person_of_another_shape_is_refused(value: bytes) -> None:
    with pytest.raises(StoreError, match=r"expected version 3") as refused:
        unpack_person(value)
    assert refused.value.failure == Failure.STATE_UNREADABLE


@pytest.mark.parametrize("value", [b"", b"\x02" * 18, b"\x07" + b"\0" * 30], ids=["empty", "no item", "version 7"])
def test_a_live_event_of_another_shape_is_refused(value: bytes) -> None:
    with pytest.raises(StoreError, match=r"expected version 2"):
        unpack_live(value)
