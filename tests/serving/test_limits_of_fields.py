"""Every field of every request has a limit: texts by their bytes, lists and maps by their entries.

The fields are found by walking the descriptors, so that no new one is forgotten.
"""

# bazel: size=medium

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from aisle.v1 import admin_pb2, catalog_pb2, events_pb2, recommender_pb2, users_pb2
from core.work import Work
from serving.client import violations
from serving.config import ServingConfig
from serving.process import ServingProcess
from tests.serving.conftest import changed, options_for

_LONG = "x" * 2_000_000
_MANY = 20_001
METHODS = {
    f"/{service.full_name}/{method.name}": method.input_type
    for file in (recommender_pb2, events_pb2, users_pb2, catalog_pb2, admin_pb2)
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}


def paths(message: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every field at every depth."""
    for field in message.fields:
        if field.message_type is not None and field.message_type not in [f.message_type for f in before]:
            yield from paths(field.message_type, (*before, field))
        if field.is_repeated or field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            yield (*before, field)


def filled(message: Message, path: tuple[Any, ...], many: bool) -> Message:
    """`message` with too much in the field at the end of `path`."""
    at: Any = message
    for field in path[:-1]:
        inner = getattr(at, field.name)
        if field.message_type.GetOptions().map_entry:
            return _mapped(message, inner, field, path[-1])
        at = inner.add() if field.is_repeated else inner
    field = path[-1]
    value = getattr(at, field.name)
    if not field.is_repeated:
        setattr(at, field.name, _LONG)
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        for n in range(_MANY):
            _set(value, field.message_type, str(n))
    elif field.message_type is not None:
        for _ in range(_MANY):
            value.add().SetInParent()
    elif field.type == FieldDescriptor.TYPE_STRING:
        value.extend(["a"] * _MANY if many else [_LONG])
    else:
        value.extend([1] * _MANY)
    return message


def _mapped(message: Message, values: Any, field: Any, which: Any) -> Message:
    """A map with a key, or a value, that is too long."""
    if which.name == "key":
        _set(values, field.message_type, _LONG)
    elif which.containing_type is field.message_type:
        values["a"] = _LONG
    else:  # a field of a message that is a value
        inner = getattr(values["a"], which.name)
        inner.extend([1.0] * _MANY if which.type != FieldDescriptor.TYPE_STRING else [_LONG])
    return message


def _set(values: Any, entry: Any, key: str) -> None:
    if entry.fields_by_name["value"].message_type is None:
        values[key] = ""
    else:
        values[key].SetInParent()


CASES = [
    pytest.param(
        method, path, many, id=f"{method.split('/')[-1]}:{'.'.join(f.name for f in path)}{'*' if many else ''}"
    )
    for method, message in METHODS.items()
    for path in paths(message)
    for many in ((False, True) if path[-1].is_repeated and path[-1].type == FieldDescriptor.TYPE_STRING else (False,))
]


@pytest.fixture(scope="module")
def channel(
    tmp_path_factory: pytest.TempPathFactory, shop: Work, redis_of_session: Any, config: ServingConfig
) -> Iterator[grpc.Channel]:
    # longer messages than by default, so that it is the fields that are refused
    process = ServingProcess(
        options_for(shop, redis_of_session.url, changed(config, "protection", message_kb=64_000, shed=False))
    )
    process.start()
    with grpc.insecure_channel(f"127.0.0.1:{process.port}", [("grpc.max_send_message_length", -1)]) as connected:
        yield connected
    process.stop()


@pytest.mark.parametrize(("method", "path", "many"), CASES)
def test_too_much_is_refused_by_name(channel: grpc.Channel, method: str, path: tuple[Any, ...], many: bool) -> None:
    request = filled(GetMessageClass(METHODS[method])(), path, many)
    call = channel.unary_unary(method, lambda message: message.SerializeToString(), lambda answer: answer)
    with pytest.raises(grpc.RpcError) as refused:
        call(request, timeout=20)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    named = {where for where, _ in violations(refused.value)}
    assert any(path[0].name in where for where in named), named


def test_the_walk_finds_what_it_should() -> None:
    names = {".".join(f.name for f in path) for path in paths(METHODS["/aisle.v1.Recommender/BatchRecommend"])}
    assert {"requests", "requests.user_id", "requests.labels", "requests.caps.attribute"} <= names
    assert len(CASES) > 60


def test_a_longer_message_is_refused_before_it_is_read(shop: Work, redis_url: str, config: ServingConfig) -> None:
    process = ServingProcess(options_for(shop, redis_url, changed(config, "protection", message_kb=1)))
    process.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{process.port}") as connected:
            call: Any = connected.unary_unary("/aisle.v1.Recommender/Recommend", lambda data: data, lambda data: data)
            ok = recommender_pb2.RecommendRequest(user_id="ann").SerializeToString()
            assert call(ok, timeout=20)
            with pytest.raises(grpc.RpcError) as refused:
                call(b"\x0a\x82\x10" + 2050 * b"x", timeout=20)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    finally:
        process.stop()
