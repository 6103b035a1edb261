"""Who is refused: every method of every service, with no key, a wrong, expired, revoked or foreign one, without the right, and by TLS."""

# bazel: size=medium

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from aisle.v1 import admin_pb2, catalog_pb2, events_pb2, recommender_pb2, users_pb2
from benchmarks.certificates import Authority
from core.errors import ConfigError
from serving.access import NEEDS, REFLECTION, Access
from serving.api_keys import ApiKeys, load_keys, new_key
from serving.caller import ForbiddenError, Role, UnauthenticatedError
from serving.client import Client, ServerError
from serving.client_security import ClientSecurity
from serving.keys_file import add, remove
from serving.process import ServingProcess
from tests.serving.two_tenants import TwoTenants
from tests.waiting import until

_FILES = (recommender_pb2, events_pb2, users_pb2, catalog_pb2, admin_pb2)
METHODS = {
    f"/{service.full_name}/{method.name}": GetMessageClass(method.input_type)
    for file in _FILES
    for service in file.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
READ = {m for m in METHODS if m.startswith("/aisle.v1.Recommender/")}
ADMIN = {m for m in METHODS if m.startswith("/aisle.v1.Admin/")}
WRITE = METHODS.keys() - READ - ADMIN
OK = grpc.StatusCode.OK
UNAUTHENTICATED, PERMISSION_DENIED = grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> TwoTenants:
    return TwoTenants(tmp_path_factory.mktemp("shops"))


@pytest.fixture
def serving(shops: TwoTenants, redis_url: str) -> Iterator[Callable[..., ServingProcess]]:
    started: list[ServingProcess] = []

    def start(**protection: object) -> ServingProcess:
        started.append(ServingProcess(shops.options(redis_url, **protection)))
        started[-1].start()
        return started[-1]

    yield start
    for process in started:
        process.stop()


def status(channel: grpc.Channel, method: str, request: Any, **headers: str) -> grpc.StatusCode:
    """How a call ends."""
    call = channel.unary_unary(method, type(request).SerializeToString, lambda answer: answer)
    metadata = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    try:
        call(request, metadata=metadata, timeout=20)
    except grpc.RpcError as e:
        return e.code()
    return OK


def all_statuses(channel: grpc.Channel, **headers: str) -> dict[str, grpc.StatusCode]:
    return {method: status(channel, method, request(), **headers) for method, request in METHODS.items()}


def test_every_method_is_in_the_table() -> None:
    assert {m for m in NEEDS if not m.startswith("/grpc.")} == set(METHODS)
    health = {f"/grpc.health.v1.Health/{m.name}" for m in health_pb2.DESCRIPTOR.services_by_name["Health"].methods}
    assert {m for m, need in NEEDS.items() if need is None} == health
    assert (len(READ), len(WRITE), len(ADMIN)) >= (6, 5, 2)  # or what follows would prove nothing


def test_every_method_of_the_server_itself_is_in_the_table(serving: Callable[..., ServingProcess]) -> None:
    """What reflection says is served, which is what the server was given."""
    process = serving(reflection="open")
    with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
        describe = channel.stream_stream(
            REFLECTION,
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        (answer,) = list(describe(asked, timeout=20))
    served = {service.name for service in answer.list_services_response.service}
    assert {m.split("/")[1] for m in NEEDS} | {REFLECTION.split("/")[1]} == served


def test_a_method_that_nobody_listed_is_for_administrators() -> None:
    assert Access(None, ["north"]).needs("/aisle.v1.Recommender/New") is Role.ADMIN


def test_without_a_key_that_holds_nothing_answers(serving: Callable[..., ServingProcess], shops: TwoTenants) -> None:
    process = serving()
    good = shops.keys["north", "admin"]
    expired, entry = new_key("north", "admin", datetime.now(UTC) - timedelta(seconds=1))
    add(shops.keys_file, entry)
    remove_after, _ = entry.id, process
    try:
        other = serving()  # which knows the expired one from its start
        with grpc.insecure_channel(f"127.0.0.1:{other.port}") as channel:
            for headers in (
                {},
                {"authorization": ""},
                {"authorization": "Bearer "},
                {"authorization": f"Basic {good}"},
                {"authorization": f"Bearer {good[:-1]}"},
                {"authorization": f"Bearer {good}x"},
                {"x_api_key": good.replace("_", "-")},
                {"x_api_key": good.split("_")[1]},
                {"x_api_key": new_key("north", "admin")[0]},  # nobody wrote it into the file
                {"x_api_key": expired},
                {"x_aisle_tenant": "north"},
            ):
                assert set(all_statuses(channel, **headers).values()) == {UNAUTHENTICATED}, headers
    finally:
        remove(shops.keys_file, remove_after)


@pytest.mark.parametrize("role", ["read", "write", "admin"])
def test_a_role_opens_what_it_names_and_no_more(
    serving: Callable[..., ServingProcess], shops: TwoTenants, role: str
) -> None:
    process, mine = serving(), {"read": READ, "write": READ | WRITE, "admin": set(METHODS)}[role]
    with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        found = all_statuses(channel, authorization=f"Bearer {shops.keys['north', role]}")
    assert {m for m, code in found.items() if code is PERMISSION_DENIED} == METHODS.keys() - mine
    # what is let in fares as an empty request does: answered, or refused for a field that is missing
    assert {found[m] for m in mine} <= {OK, grpc.StatusCode.INVALID_ARGUMENT}


def test_a_key_of_another_tenant_opens_nothing(serving: Callable[..., ServingProcess], shops: TwoTenants) -> None:
    process = serving()
    foreign, entry = new_key("elsewhere", "admin")  # a tenant that this server does not answer for
    add(shops.keys_file, entry)
    try:
        other = serving()
        for port, headers in (
            (process.port, {"x_api_key": shops.keys["south", "admin"], "x_aisle_tenant": "north"}),
            (process.port, {"x_api_key": shops.keys["south", "admin"], "x_aisle_tenant": "nowhere"}),
            (other.port, {"x_api_key": foreign}),
        ):
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                assert set(all_statuses(channel, **headers).values()) == {PERMISSION_DENIED}
    finally:
        remove(shops.keys_file, entry.id)


def test_health_is_open_and_reflection_as_configured(serving: Callable[..., ServingProcess], shops: TwoTenants) -> None:
    process = serving(reflection="admin")
    check = health_pb2.HealthCheckRequest()
    describe = reflection_pb2.ServerReflectionRequest(list_services="")
    with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        assert status(channel, "/grpc.health.v1.Health/Check", check) is OK
        for key, expected in (("", UNAUTHENTICATED), ("read", PERMISSION_DENIED), ("admin", OK)):
            metadata = (("x-api-key", shops.keys["north", key]),) if key else ()
            call = channel.stream_stream(REFLECTION, type(describe).SerializeToString, lambda answer: answer)
            answers = call(iter([describe]), metadata=metadata, timeout=20)
            with contextlib.suppress(grpc.RpcError):
                list(answers)
            assert answers.code() is expected


def test_an_open_service_needs_the_name_of_a_tenant(serving: Callable[..., ServingProcess]) -> None:
    process = serving(keys="none")
    with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        assert set(all_statuses(channel).values()) == {PERMISSION_DENIED}
        assert set(all_statuses(channel, x_aisle_tenant="nowhere").values()) == {PERMISSION_DENIED}
        assert status(channel, "/aisle.v1.Admin/GetStatus", admin_pb2.GetStatusRequest(), x_aisle_tenant="south") is OK


def test_keys_come_and_go_without_a_restart(serving: Callable[..., ServingProcess], shops: TwoTenants) -> None:
    process = serving(refresh_seconds=0.02)
    text, entry = new_key("south", "read")
    said: list[str] = []

    def answers() -> bool:
        with Client(f"127.0.0.1:{process.port}", security=ClientSecurity(api_key=text)) as ask:
            try:
                return bool(ask.recommend(recommender_pb2.RecommendRequest(user_id="south-ann")).results)
            except ServerError as e:
                said.append(str(e))
                return False

    assert not answers()
    assert "this API key does not hold" in said[0]
    assert text not in said[0]
    add(shops.keys_file, entry)
    until(answers)
    remove(shops.keys_file, entry.id)
    until(lambda: not answers())


def test_a_keys_file_that_breaks_keeps_those_that_hold(
    serving: Callable[..., ServingProcess], shops: TwoTenants, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "keys.yaml"
    text, entry = new_key("north", "read")
    add(file, entry)
    process = serving(keys=str(file), refresh_seconds=0.02)
    file.write_text("keys: [{id: x}]")
    until(lambda: "the API keys stay as they were" in caplog.text)
    with Client(f"127.0.0.1:{process.port}", security=ClientSecurity(api_key=text)) as ask:
        assert ask.recommend(recommender_pb2.RecommendRequest(user_id="north-ann")).results
    assert text not in caplog.text


def test_a_key_is_known_by_its_hash_alone(tmp_path: Path) -> None:
    file = tmp_path / "keys.yaml"
    text, entry = new_key("north", "write", datetime(2100, 1, 1, tzinfo=UTC))
    add(file, entry)
    assert text not in file.read_text()
    assert text.split("_", 2)[2] not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    keys = load_keys(file)
    found = keys.find(text, time.time())
    assert found is not None
    assert (found.tenant, found.role) == ("north", Role.WRITE)
    moment = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    assert keys.find(text, moment - 1) is not None
    assert keys.find(text, moment) is None  # it expires at that moment, not after it
    assert keys.find("", 0) is None
    assert ApiKeys().find(text, 0) is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("keys: [{id: 0123456789abcdef}]", "keys[0]: missing key 'sha256'"),
        ("kees: []", "unknown key 'kees'; did you mean 'keys'?"),
        (
            "keys: [{id: 0123456789abcdef, sha256: '%s', tenant: a, role: root}]" % ("0" * 64),
            "'read', 'write' or 'admin'",
        ),
        (
            "keys: [{id: 0123456789abcdef, sha256: '%s', tenant: a, role: read, expires: 2030-01-01T00:00:00}]"
            % ("0" * 64),
            "timezone",
        ),
    ],
)
def test_a_keys_file_that_does_not_fit_is_one_line(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "keys.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="keys") as refused:
        load_keys(file)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


def test_metadata_is_read_as_it_comes() -> None:
    text, entry = new_key("north", "read")
    access = Access(lambda: ApiKeys([entry]), ["north", "south"])
    for metadata in (
        [("authorization", f"BEARER {text}")],
        [("x-api-key", text)],
        [("x-other", "a"), ("x-api-key", text)],
    ):
        assert access.check(Role.READ, metadata).tenant == "north"
    with pytest.raises(UnauthenticatedError):
        access.check(Role.READ, [("x-api-key", text.encode())])  # a binary header of another name would be bytes
    with pytest.raises(ForbiddenError, match="needs the role write; the API key has read"):
        access.check(Role.WRITE, [("x-api-key", text)])


def test_tls_refuses_who_does_not_show_a_certificate_that_holds(
    serving: Callable[..., ServingProcess], shops: TwoTenants, tmp_path: Path
) -> None:
    ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
    cert, key = ours.sign("server")
    process = serving(tls_cert=str(cert), tls_key=str(key), tls_client_ca=str(ours.file))
    shown = {
        "good": ours.sign("storefront"),
        "expired": ours.sign("old", expired=True),
        "foreign": theirs.sign("stranger"),
    }
    options = [("grpc.max_reconnect_backoff_ms", 50)]

    def opened(who: str, ca: Path = ours.file) -> grpc.Channel:
        pair = shown.get(who)
        security = ClientSecurity(str(ca), *(map(str, pair) if pair else ("", "")))
        return security.channel(f"127.0.0.1:{process.port}", options)

    header = f"Bearer {shops.keys['north', 'admin']}"
    with opened("good") as channel:
        assert set(all_statuses(channel, authorization=header).values()) == {OK, grpc.StatusCode.INVALID_ARGUMENT}
        assert set(all_statuses(channel).values()) == {UNAUTHENTICATED}  # a certificate is no key
    for channel in (
        opened("expired"),
        opened("foreign"),
        opened("nobody"),
        opened("good", theirs.file),  # here it is the caller who refuses
        grpc.insecure_channel(f"127.0.0.1:{process.port}", options),
    ):
        with channel:
            assert set(all_statuses(channel, authorization=header).values()) == {grpc.StatusCode.UNAVAILABLE}


def test_a_new_certificate_is_shown_without_a_restart(
    serving: Callable[..., ServingProcess], shops: TwoTenants, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = Authority(tmp_path, "old"), Authority(tmp_path, "new")
    cert, key = old.sign("server")
    process = serving(tls_cert=str(cert), tls_key=str(key), refresh_seconds=0.02)
    api_key = shops.keys["north", "read"]
    said: list[str] = []

    def trusted_by(ca: Path) -> bool:
        security = ClientSecurity(str(ca), api_key=api_key)
        with Client(f"127.0.0.1:{process.port}", timeout=20, security=security) as ask:
            try:
                return bool(ask.recommend(recommender_pb2.RecommendRequest(user_id="north-ann")).results)
            except ServerError as e:
                said.append(str(e))
                return False

    with Client(f"127.0.0.1:{process.port}", 20, ClientSecurity(str(old.file), api_key=api_key)) as stands:
        assert stands.recommend(recommender_pb2.RecommendRequest(user_id="north-ann")).results
        assert not trusted_by(new.file)
        assert "no TLS connection" in said[0]
        cert.write_bytes(b"half of a file")
        until(lambda: "the certificates stay as they were" in caplog.text)
        assert trusted_by(old.file)
        new.sign("server")  # over the files of the first
        until(lambda: trusted_by(new.file))
        # who is connected stays so
        assert stands.recommend(recommender_pb2.RecommendRequest(user_id="north-ann")).results


def test_a_key_of_another_certificate_is_one_line(serving: Callable[..., ServingProcess], tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    (cert, _), (_, key) = authority.sign("one"), authority.sign("two")
    with pytest.raises(ConfigError, match=r"tls_cert .*one.cert.pem.*key values mismatch"):
        serving(tls_cert=str(cert), tls_key=str(key))
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        serving(tls_cert=str(tmp_path / "nowhere.pem"), tls_key=str(key))
