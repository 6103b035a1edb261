import numpy as np
import pytest

from core.history import History
from serving.failures import Failure, StoreError
from serving.packing import SCHEMA, LiveEvent, pack_history, pack_live, unpack_history, unpack_live

# Two events: items 5 and 300 at 1 and 258 microseconds, types 7 and 2, gains 1.0 (0x3f800000) and 0.5 (0x3f000000).
HISTORY = History(
    np.array([5, 300], np.int32),
    np.array([1, 258], np.int64),
    np.array([7, 2], np.int8),
    np.array([1.0, 0.5], np.float32),
)
PACKED = bytes.fromhex(
    "01000000 2a000000"  # version 1, padding, user row 42
    "0100000000000000 0201000000000000"  # times
    "05000000 2c010000"  # items
    "0000803f 0000003f"  # gains
    "07 02"  # types
)


def test_golden_bytes_of_a_history() -> None:
    assert pack_history(42, HISTORY) == PACKED
    user, history = unpack_history(PACKED)
    assert user == 42
    for name in ("items", "times", "types", "gains"):
        assert getattr(history, name).tolist() == getattr(HISTORY, name).tolist()
        assert getattr(history, name).dtype == getattr(HISTORY, name).dtype


def test_golden_bytes_of_a_live_event() -> None:
    event = LiveEvent(hash=0x0102030405060708, type=3, time=258, item_id="é1")
    packed = bytes.fromhex("01 03 0807060504030201 0201000000000000") + b"\xc3\xa91"
    assert pack_live(event) == packed
    assert unpack_live(packed) == event


def test_another_layout_is_another_schema() -> None:
    assert SCHEMA == "d9d28700"  # part of every key: whoever changes the layout changes VERSION, and this


def test_an_empty_history_is_one_without_events() -> None:
    assert len(unpack_history(pack_history(7, History()))[1]) == 0


@pytest.mark.parametrize(
    "value", [b"", PACKED[:-1], b"\x02" + PACKED[1:], PACKED[:7]], ids=["empty", "cut", "version 2", "half a header"]
)
def test_a_history_of_another_shape_is_refused(value: bytes) -> None:
    with pytest.raises(StoreError, match=r"expected version 1") as refused:
        unpack_history(value)
    assert refused.value.failure == Failure.STATE_UNREADABLE


@pytest.mark.parametrize("value", [b"", b"\x01" * 18, b"\x07" + b"\0" * 30], ids=["empty", "no item", "version 7"])
def test_a_live_event_of_another_shape_is_refused(value: bytes) -> None:
    with pytest.raises(StoreError, match=r"expected version 1"):
        unpack_live(value)
