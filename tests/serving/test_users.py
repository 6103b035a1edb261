"""DeleteUser: online nothing is left at once, others keep theirs, and the wish waits for the files."""

# bazel: size=medium, imports=[cli.*]

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import redis as redis_py

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest
from core.erasure import Forgotten
from core.errors import InputError
from core.work import Work
from serving.client import Client, ServerError
from serving.config import ServingConfig
from serving.embedded_redis import EmbeddedRedis
from serving.forget import Wishes, forget, rewrite, sweep
from serving.keys import Keys
from serving.materialize import materialize
from serving.process import ServingProcess
from serving.release import Release
from tests.serving.conftest import options_for
from tests.serving.shop import END

KEYS = Keys("default")


def click(item: str, user: str = "", visitor: str = "", session: str = "", query: str = "") -> Event:
    return Event(event_type="click", item_id=item, user_id=user, visitor_id=visitor, session_id=session, query=query)


def page(ask: Client, user: str) -> tuple[str, list[str]]:
    answer = ask.recommend(RecommendRequest(user_id=user))
    return answer.level, [r.item_id for r in answer.results]


def stream(store: redis_py.Redis) -> list[dict[str, object]]:
    return [json.loads(fields[b"event"]) for _, fields in store.xrange(KEYS.events)]


def test_a_deleted_user_is_a_stranger_and_others_are_who_they_were(ask: Client, store: redis_py.Redis) -> None:
    ask.write_events([click("tea-2", "ann", session="s-1"), click("tea-3", "bob")])
    stranger, bob = page(ask, "nobody"), page(ask, "bob")
    assert page(ask, "ann") != stranger
    done = ask.delete_user("ann")
    assert page(ask, "ann") == stranger
    assert page(ask, "bob") == bob
    # one window is materialised; live lists of the user and of the session of the event
    assert (done.histories, done.live_lists, done.events) == (1, 2, 1)
    assert (done.streams_done, done.pending) == (True, True)
    assert [e["user_id"] for e in stream(store)] == ["bob"]
    assert Wishes(store, KEYS).pending() == {done.erasure_id: ("ann", "")}


def test_the_command_tells_what_went(server: ServingProcess, ask: Client) -> None:
    ask.write_events([click("tea-2", "ann")])
    command = [sys.executable, "-m", "cli", "users", "delete", "--server", f"127.0.0.1:{server.port}"]
    done = subprocess.run([*command, "--user", "ann"], capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(done.stdout.splitlines()[-1])
    assert {k: told[k] for k in ("histories", "live_lists", "events", "pages", "pending")} == {
        "histories": 1,
        "live_lists": 1,
        "events": 1,
        "pages": 0,
        "pending": True,
    }
    refused = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert refused.returncode == 2
    assert "user_id: is required, or visitor_id" in refused.stderr.splitlines()[-1]


def test_asking_again_changes_nothing(ask: Client, store: redis_py.Redis) -> None:
    first, second = ask.delete_user("ann", "web-1"), ask.delete_user("ann", "web-1")
    assert second.erasure_id == first.erasure_id
    assert (second.histories, second.live_lists, second.events, second.pages) == (0, 0, 0, 0)
    assert list(Wishes(store, KEYS).pending().values()) == [("ann", "web-1")]


def test_who_comes_back_is_not_refused(ask: Client) -> None:
    ask.delete_user("ann")
    assert ask.write_events([click("tea-2", "ann")]).accepted == 1
    assert page(ask, "ann") != page(ask, "nobody")


def test_a_visitor_leaves_the_events_of_others(ask: Client, store: redis_py.Redis) -> None:
    ask.write_events([click("tea-1", "bob", "browser-1"), click("tea-2", "", "browser-1"), click("tea-3", "bob")])
    assert ask.delete_user(visitor_id="browser-1").events == 1
    kept = [(e["item_id"], e["user_id"], e.get("visitor_id")) for e in stream(store)]
    assert kept == [("tea-3", "bob", None), ("tea-1", "bob", None)]  # what was changed comes last


def test_an_event_of_another_that_names_the_user_is_kept_without_the_name(ask: Client, store: redis_py.Redis) -> None:
    ask.write_events([click("tea-1", "bob", query="gifts for erika-99")])
    assert ask.delete_user("erika-99").events == 0
    (event,) = stream(store)
    assert event["user_id"] == "bob"
    assert "query" not in event


def test_pages_served_to_the_user_leave_their_stream(
    shop: Work, redis_url: str, config: ServingConfig, store: redis_py.Redis
) -> None:
    every_page = config.model_copy(update={"log": config.log.model_copy(update={"share": 1.0})})
    server = ServingProcess(options_for(shop, redis_url, every_page))
    server.start()
    with Client(f"127.0.0.1:{server.port}", timeout=20) as ask:
        for user in ("ann", "bob"):
            page(ask, user)
    server.stop()  # writes what waits
    assert store.xlen(KEYS.shown) == 2
    assert forget(store, KEYS, Forgotten.of([("ann", "")])).pages == 1
    ((_, fields),) = store.xrange(KEYS.shown)
    assert json.loads(fields[b"page"])["user_id"] == "bob"


def test_a_window_loaded_before_the_files_are_done_has_no_place_for_them(
    ask: Client, shop: Work, store: redis_py.Redis, redis_url: str
) -> None:
    ask.delete_user("ann")
    release = Release.open(shop.current)
    users = materialize(redis_url, "default", shop.user_state(END), END, release.state_id, 100).users
    assert len(list(store.scan_iter(match="aisle:default:*:h:u:bob"))) == 1
    assert list(store.scan_iter(match="aisle:default:*:h:u:ann")) == []
    assert users == 23  # of 24 people


def test_one_of_the_ids_is_needed(ask: Client) -> None:
    with pytest.raises(InputError, match="user_id: is required, or visitor_id"):
        ask.delete_user()
    with pytest.raises(InputError, match="at most 256 are allowed"):
        ask.delete_user("x" * 257)


def test_a_redis_that_may_forget_the_wish_is_refused(ask: Client, store: redis_py.Redis) -> None:
    ask.write_events([click("tea-2", "ann")])
    store.config_set("appendfsync", "everysec")
    try:
        with pytest.raises(ServerError, match="UNAVAILABLE: redis-not-durable"):
            ask.delete_user("ann")
    finally:
        store.config_set("appendfsync", "always")
    assert len(stream(store)) == 1


def test_without_redis_nothing_is_promised(shop: Work, config: ServingConfig) -> None:
    process = ServingProcess(options_for(shop, "unix:///nowhere/redis.sock", config))
    process.start()
    with (
        Client(f"127.0.0.1:{process.port}", timeout=20) as ask,
        pytest.raises(ServerError, match="UNAVAILABLE: redis-unreachable"),
    ):
        ask.delete_user("ann")
    process.stop()


def test_streams_longer_than_one_read_are_looked_through(store: redis_py.Redis) -> None:
    pipeline = store.pipeline()
    for n in range(2_500):
        event = {"event_type": "click", "item_id": "tea-1", "user_id": f"user-{n % 1000:03d}"}
        pipeline.xadd(KEYS.events, {"event": json.dumps(event)})
    pipeline.execute()
    removed = forget(store, KEYS, Forgotten.of([("user-007", "")]))
    assert removed.events == 3  # numbers 7, 1007 and 2007
    assert store.xlen(KEYS.events) == 2_497
    assert forget(store, KEYS, Forgotten.of([("user-008", "")]), seconds=0).streams_done is False


def test_every_key_with_the_name_goes(store: redis_py.Redis) -> None:
    for key in ("features:user-1234", "x:user-12345", "y"):
        store.set(key, "1")
    assert sweep(store, Forgotten.of([("user-1234", "")])) == 1
    assert sorted(store.keys()) == [b"x:user-12345", b"y"]


def test_the_append_only_file_forgets(store: redis_py.Redis, redis_of_session: EmbeddedRedis) -> None:
    """A stream's deleted entry lives on in its node, beside the entries that stay; the file that is written anew has none of it."""
    for user in ("keeper-0001", "erika-0099", "keeper-0002"):
        store.xadd(KEYS.events, {"event": json.dumps({"user_id": user, "item_id": "tea-1"})})
    forget(store, KEYS, Forgotten.of([("erika-0099", "")]))
    log = redis_of_session.folder / "appendonly.aof"
    assert b"erika-0099" in log.read_bytes()
    assert rewrite(store, 20)
    assert b"erika-0099" not in log.read_bytes()
    assert b"keeper-0002" in log.read_bytes()  # as text: what is not found would have been seen
