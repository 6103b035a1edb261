"""Random requests for any method: hypothesis strategies made from the descriptors of the protos, so that a new field or method needs nothing here.

Four kinds: messages whose fields hold what means something to the service, most of which are answered; messages with edge values and noise in
them; messages whose bytes were changed (flipped, cut, repeated, texts that are no UTF-8); and bytes alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor, MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

_DEPTH: Final = 3  # of messages within messages
_LONG: Final = (50, 51, 256, 500, 501, 1_000, 1_001)  # around the limits of lists
_WHOLE: Final = {
    FieldDescriptor.TYPE_INT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SINT32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_SFIXED32: (-(2**31), 2**31 - 1),
    FieldDescriptor.TYPE_UINT32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_FIXED32: (0, 2**32 - 1),
    FieldDescriptor.TYPE_INT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SINT64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_SFIXED64: (-(2**63), 2**63 - 1),
    FieldDescriptor.TYPE_UINT64: (0, 2**64 - 1),
    FieldDescriptor.TYPE_FIXED64: (0, 2**64 - 1),
}
_FLOATS: Final = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-308, 1e38, 1e308, math.inf, -math.inf, math.nan)
_NASTY: Final = (
    "\0",
    "a\0b",
    "\u202e",
    "é" * 128,
    "\U0001f375",
    "x" * 256,
    "x" * 257,
    "x" * 5_000,
    " ",
    "\n",
    "%s",
    "../..",
    "*",
)


@dataclass(frozen=True)
class Words:
    """Texts that mean something to the service under test."""

    any: tuple[str, ...]  # for every field
    of_field: Mapping[str, tuple[str, ...]]  # by the name of a field: nothing else but noise goes there
    bounded: frozenset[
        str
    ]  # files of protos whose texts come from a bounded set: what they say is kept, and memory is to stay flat


def requests(method: MethodDescriptor, words: Words) -> st.SearchStrategy[bytes]:
    """What may be sent to `method`, in bytes."""
    mild, wild = (messages(method.input_type, words, m).map(lambda m: m.SerializeToString()) for m in (True, False))
    return st.one_of(mild, mild, mild, wild, wild, mutated(mild), mutated(wild), st.binary(max_size=100))


def messages(kind: Descriptor, words: Words, mild: bool, depth: int = _DEPTH) -> st.SearchStrategy[Message]:
    """Messages of a kind with any of their fields; `mild`: with values that a caller could mean."""
    fields = {f.name: _values(f, words, mild, depth) for f in kind.fields if f.message_type is None or depth > 0}

    def made(given: Mapping[str, Any]) -> Message:
        message = GetMessageClass(kind)()
        for name, value in given.items():
            _put(message, name, value)
        return message

    return st.fixed_dictionaries({}, optional=fields).map(made)


def _put(message: Message, name: str, value: Any) -> None:
    if isinstance(value, dict):
        target = getattr(message, name)
        for key, one in value.items():
            if isinstance(one, Message):
                target[key].CopyFrom(one)
            else:
                target[key] = one
    elif isinstance(value, list):
        getattr(message, name).extend(value)
    elif isinstance(value, Message):
        getattr(message, name).CopyFrom(value)
    else:
        setattr(message, name, value)


def _values(field: FieldDescriptor, words: Words, mild: bool, depth: int) -> st.SearchStrategy[Any]:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        keys, values = (_values(kind.fields_by_name[n], words, mild, depth - 1) for n in ("key", "value"))
        return st.dictionaries(keys, values, max_size=3)
    one = _single(field, words, mild, depth)
    if not field.is_repeated:
        return one
    return (
        st.lists(one, max_size=3)
        if mild
        else st.one_of(st.lists(one, max_size=4), st.lists(one, max_size=4), _long_lists(one))
    )


def _long_lists(one: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    return st.tuples(st.lists(one, min_size=1, max_size=3), st.sampled_from(_LONG)).map(
        lambda some: (some[0] * some[1])[: some[1]]
    )


def _single(field: FieldDescriptor, words: Words, mild: bool, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return messages(field.message_type, words, mild, depth - 1)
    if field.type == FieldDescriptor.TYPE_STRING:
        return _texts(field, words, mild)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=50)
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    if field.enum_type is not None:
        return st.sampled_from([v.number for v in field.enum_type.values] + ([] if mild else [99]))
    if mild:
        return st.integers(0, 20)
    if field.type in _WHOLE:
        least, most = _WHOLE[field.type]
        edges = [n for n in (least, -1, 0, 1, 10, 500, 501, most) if least <= n <= most]
        return st.one_of(st.sampled_from(edges), st.integers(least, most))
    assert field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE), field.full_name
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return st.one_of(st.sampled_from(_FLOATS), st.floats())
    return st.one_of(st.sampled_from([f for f in _FLOATS if not 1e39 < abs(f) < math.inf]), st.floats(width=32))


def _texts(field: FieldDescriptor, words: Words, mild: bool) -> st.SearchStrategy[str]:
    known = st.sampled_from(words.of_field.get(field.name, words.any))
    if mild:
        return known
    if field.containing_type is not None and field.containing_type.file.name in words.bounded:
        return st.one_of(known, known, known, st.sampled_from(_NASTY))
    return st.one_of(known, known, st.sampled_from(_NASTY), st.text(max_size=30))


def mutated(whole: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes that were a message."""
    changes = st.lists(
        st.tuples(st.sampled_from(_CHANGES), st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=4
    )

    def changed(given: tuple[bytes, Sequence[tuple[Any, int, int]]]) -> bytes:
        data = bytearray(given[0])
        for change, at, byte in given[1]:
            change(data, at % (len(data) + 1), byte)
        return bytes(data)

    return st.tuples(whole, changes).map(changed)


def _flip(data: bytearray, at: int, byte: int) -> None:
    data[at : at + 1] = bytes([byte])


def _cut(data: bytearray, at: int, _: int) -> None:
    del data[at:]


def _insert(data: bytearray, at: int, byte: int) -> None:
    data[at:at] = bytes([byte])


def _repeat(data: bytearray, at: int, byte: int) -> None:
    data[at:at] = data[at : at + 1 + byte % 50]


def _spoil_text(data: bytearray, at: int, byte: int) -> None:
    """Letters become bytes that no UTF-8 has; the lengths still fit."""
    for n in range(at, min(at + 1 + byte % 10, len(data))):
        if 0x61 <= data[n] <= 0x7A:
            data[n] = 0xFF


_CHANGES: Final = (_flip, _cut, _insert, _repeat, _spoil_text)
