"""Two shops behind one server: nothing of one is reached from the other."""

# bazel: size=medium, imports=[cli.*]

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aisle.v1.catalog_pb2 import Item
from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import (
    ExplainRequest,
    RankRequest,
    RecommendRequest,
    SimilarItemsRequest,
)
from core.errors import AisleError, ConfigError, NotFoundError
from serving.client import Client, ServerError
from serving.client_security import ClientSecurity
from serving.process import ServingProcess
from serving.tenants_file import load_tenants
from tests.serving.served import Served
from tests.serving.shop import TITLES
from tests.serving.two_tenants import NAMES, TwoTenants
from tests.waiting import until

PEOPLE = ("ann", "bob", "cid", "stranger")


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> TwoTenants:
    return TwoTenants(tmp_path_factory.mktemp("shops"))


@pytest.fixture
def process(shops: TwoTenants, redis_url: str) -> Iterator[ServingProcess]:
    started = ServingProcess(shops.options(redis_url))
    started.start()
    yield started
    started.stop()


def client_of(shops: TwoTenants, port: int | str, name: str, role: str = "admin") -> Client:
    address = f"127.0.0.1:{port}" if isinstance(port, int) else port
    return Client(address, timeout=20, security=ClientSecurity(api_key=shops.keys[name, role]))


@pytest.fixture
def asking(shops: TwoTenants, process: ServingProcess) -> Iterator[dict[str, Client]]:
    clients = {name: client_of(shops, process.port, name) for name in NAMES}
    yield clients
    for client in clients.values():
        client.close()


def one_call(ask: Client, name: str, kind: str, person: str, item: str) -> Any:
    """A call of some kind that speaks of the tenant's own ids."""
    user, thing = f"{name}-{person}", f"{name}-{item}"
    page = RecommendRequest(user_id=user, page_size=8, context_item_ids=[thing], session_id=f"{name}-visit")
    match kind:
        case "recommend":
            return ask.recommend(page)
        case "batch":
            return ask.recommend_batch([page, page])
        case "similar":
            return ask.similar(SimilarItemsRequest(item_ids=[thing]))
        case "rank":
            return ask.rank(RankRequest(user_id=user, item_ids=[f"{name}-{i}" for i in TITLES]))
        case "explain":
            return ask.explain(ExplainRequest(request=page, item_id=thing))
        case "preview":
            return ask.preview_rules(page)
        case "event":
            return ask.write_events([Event(event_type="click", item_id=thing, user_id=user, event_id=f"{user} {item}")])
        case "upsert":
            return ask.upsert_items([Item(item_id=f"{name}-new", title=f"{name}-title", category=name)])
        case "availability":
            return ask.set_availability([thing], True)
        case "forget":
            return ask.delete_user(user)
        case "status":
            return ask.status()
    raise AssertionError(kind)


KINDS = [
    "recommend",
    "batch",
    "similar",
    "rank",
    "explain",
    "preview",
    "event",
    "upsert",
    "availability",
    "forget",
    "status",
]  # every kind of call


def held(store: redis_py.Redis, key: bytes) -> bytes:
    """What a key of Redis holds, as bytes."""
    kind = store.type(key)
    reading: dict[bytes, Any] = {
        b"string": lambda: store.get(key),
        b"list": lambda: store.lrange(key, 0, -1),
        b"hash": lambda: store.hgetall(key),
        b"zset": lambda: store.zrange(key, 0, -1),
        b"stream": lambda: store.xrange(key),
    }
    return repr(reading[kind]()).encode()


@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES), st.sampled_from(KINDS), st.sampled_from(PEOPLE), st.sampled_from(sorted(TITLES))
        ),
        min_size=4,
        max_size=16,
    )
)
def test_no_answer_key_or_line_of_one_has_an_id_of_the_other(
    asking: dict[str, Client],
    store: redis_py.Redis,
    caplog: pytest.LogCaptureFixture,
    calls: list[tuple[str, str, str, str]],
) -> None:
    caplog.set_level(logging.DEBUG, "serving")
    other = {"north": "south-", "south": "north-"}
    for name, kind, person, item in calls:
        answer = str(one_call(asking[name], name, kind, person, item))
        assert other[name] not in answer
    for key in store.keys("*"):
        (tenant,) = (n for n in NAMES if key.startswith(f"aisle:{n}:".encode()))
        assert other[tenant].encode() not in key + held(store, key)
    # the server's words: of no tenant's people and items at all
    assert [r.message for r in caplog.records if any(f"{n}-{p}" in r.getMessage() for n in NAMES for p in PEOPLE)] == []


def test_the_property_could_fail(asking: dict[str, Client], store: redis_py.Redis) -> None:
    """Answers do carry ids of their own, and so does Redis."""
    for kind in ("recommend", "similar", "rank", "explain", "preview"):
        assert "north-" in str(one_call(asking["north"], "north", kind, "ann", "tea-1")), kind
    one_call(asking["north"], "north", "event", "ann", "tea-1")
    assert any(b"north-ann" in held(store, key) for key in store.keys("aisle:north:*"))


def test_ids_of_the_other_shop_are_unknown(asking: dict[str, Client]) -> None:
    ask = asking["north"]
    found = ask.recommend(RecommendRequest(user_id="south-ann", context_item_ids=["south-tea-1"]))
    assert found.missing_ids == ["south-tea-1"]
    # a stranger here, however well the other shop knows her
    assert found.level == ask.recommend(RecommendRequest(user_id="nobody")).level
    assert {r.item_id.split("-")[0] for r in found.results} == {"north"}
    # nothing goes with an item that is not there, but what is popular here
    alike = ask.similar(SimilarItemsRequest(item_ids=["south-tea-1"]))
    assert alike.missing_ids == ["south-tea-1"]
    assert "south-" not in str(alike.results)


def test_what_one_does_the_other_does_not_see(asking: dict[str, Client]) -> None:
    north, south = asking["north"], asking["south"]
    same = Event(event_type="click", item_id="north-tea-1", user_id="shared", event_id="shared")
    assert north.write_events([same]).accepted == 1
    assert south.write_events([same]).accepted == 1  # no duplicate: it is another shop's event
    assert south.write_events([same]).duplicates == 1
    north.delete_user("shared")
    assert south.write_events([same]).duplicates == 1  # still known there
    assert (north.status().events_accepted, south.status().events_accepted) == (1, 1)


def test_a_page_token_of_one_opens_nothing_of_the_other(asking: dict[str, Client]) -> None:
    request = RecommendRequest(user_id="ann", page_size=3, list_size=9)
    first = asking["north"].recommend(request)
    request.page_token = first.next_page_token
    assert asking["north"].recommend(request).results
    with pytest.raises(AisleError, match="is none that this server gave out"):
        asking["south"].recommend(request)


def test_a_tenant_loads_releases_of_its_own_alone(asking: dict[str, Client], shops: TwoTenants) -> None:
    north, south = shops.works["north"], shops.works["south"]
    link = north.releases / "borrowed"
    link.symlink_to(south.current.resolve())
    try:
        for path in (
            south.current,
            link,
            north.releases / ".." / ".." / ".." / "south" / "work" / "releases" / "current",
        ):
            with pytest.raises(ServerError, match=r"PERMISSION_DENIED.*not one of the releases of tenant north"):
                asking["north"].load_release(str(path))
    finally:
        link.unlink()
    another = north.releases / "another"
    shutil.copytree(north.current.resolve(), another)
    assert asking["north"].load_release(str(another)).release == "another"
    assert asking["south"].status().release != "another"


def test_beyond_the_bound_the_one_unused_for_longest_is_closed(shops: TwoTenants, redis_url: str) -> None:
    process = ServingProcess(shops.options(redis_url, open_tenants=1))
    process.start()
    try:
        tenants = process._tenants
        assert tenants.open_parts("south") is None
        for name, other in (("south", "north"), ("north", "south")):
            with client_of(shops, process.port, name) as ask:

                def answered(ask: Client = ask) -> bool:
                    try:
                        return bool(ask.recommend(RecommendRequest(user_id="x")).results)
                    except ServerError as e:
                        assert "is being opened" in str(e)  # noqa: PT017
                        return False

                until(answered)
                until(lambda other=other: tenants.open_parts(other) is None)  # type: ignore[misc]
    finally:
        process.stop()


def test_served_by_workers_that_load_together(shops: TwoTenants, tmp_path: Path) -> None:
    north = shops.works["north"]
    server = Served(
        *("--tenants", str(shops.tenants_file), "--keys", str(shops.keys_file), "--work", str(tmp_path)),
        *("--workers", "2"),
    )
    try:
        another = north.releases / "together"
        shutil.copytree(
            north.current.resolve(), another, ignore=shutil.ignore_patterns(".tmp-*")
        )  # its stamp is being written
        with client_of(shops, server.address, "north") as ask:
            assert ask.load_release(str(another)).workers == 2
        said: dict[str, set[str]] = {"north": set(), "south": set()}
        pids: set[int] = set()

        def both_asked() -> bool:
            for name in NAMES:
                with client_of(shops, server.address, name) as ask:  # a connection of its own goes to either worker
                    status = ask.status()
                said[name].add(status.release)
                pids.add(status.pid)
            return len(pids) == 2

        until(both_asked)
        assert said["north"] == {"together"}
        assert said["south"] == {shops.works["south"].current.resolve().name}
    finally:
        server.stop()


def test_the_command_line_speaks_to_one_tenant(shops: TwoTenants, process: ServingProcess) -> None:
    command = [sys.executable, "-m", "cli", "recommend", "--server", f"127.0.0.1:{process.port}", "--user", "south-ann"]
    for name in NAMES:
        done = subprocess.run(
            command,
            env={**os.environ, "AISLE_API_KEY": shops.keys[name, "read"]},
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        assert {r["item_id"].split("-")[0] for r in found["results"]} == {name}
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert "an API key is needed" in refused.stderr
    assert "AISLE_API_KEY" in refused.stderr


@pytest.mark.parametrize(
    ("tenants", "error", "problem"),
    [
        ({}, ConfigError, "tenants"),
        ({"a": {"release": "nowhere"}}, NotFoundError, "tenants.a.release"),
        ({"A b": {"release": "north"}}, ConfigError, "tenants.A b"),
        ({"a": {"release": "north"}}, ConfigError, "name its `work`"),
        (
            {"a": {"release": "north", "work": "w"}, "b": {"release": "south", "work": "w"}},
            ConfigError,
            "share the work",
        ),
        ({"a": {"release": "north", "work": "w", "relase": "x"}}, ConfigError, "relase"),
    ],
)
def test_a_tenants_file_that_does_not_fit_is_one_line(
    shops: TwoTenants, tmp_path: Path, tenants: dict[str, Any], error: type[AisleError], problem: str
) -> None:
    for name in NAMES:
        (tmp_path / name).mkdir()
    file = tmp_path / "tenants.yaml"
    file.write_text(yaml.safe_dump({"tenants": tenants}))
    with pytest.raises(error) as refused:
        load_tenants(file)
    assert problem in str(refused.value)
