"""Backup, wipe, restore: Redis is as it was; a file that is not whole changes nothing."""

# bazel: size=medium

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest
from core.errors import ArtifactError, InputError, NotFoundError
from serving.backup import backup, check, restore
from serving.client import Client
from serving.keys import Keys
from tests.serving.shop import PURCHASES

T = "shop"
KEYS = Keys(T)


def silent(_: str) -> None:
    pass


def content(store: redis_py.Redis) -> dict[bytes, bytes]:
    """Every key as DUMP says it."""
    return {key: store.dump(key) for key in store.scan_iter()}


def filled(store: redis_py.Redis) -> None:
    """A key of each type, of two tenants."""
    store.set("aisle:shop:a", b"\x00\xff binary")
    store.rpush("aisle:shop:live:u:1:complete", b"1", b"2")  # somebody's id, not the marker of a window
    store.hset("aisle:shop:hash", mapping={"x": "1"})
    store.sadd("aisle:shop:set", "x", "y")
    store.zadd("aisle:shop:zset", {"x": 1.5})
    store.xadd("aisle:shop:events", {"e": "{}"}, id="5-1")
    store.xadd("aisle:shop:events", {"e": "{}"}, id="7-0")
    store.xdel("aisle:shop:events", "7-0")  # the stream remembers its last id
    store.set("aisle:shop2:a", "another tenant's")
    store.set("unrelated", "x")


def test_every_type_comes_back_and_nothing_else_is_touched(store: redis_py.Redis, tmp_path: Path) -> None:
    filled(store)
    before = content(store)
    done = backup(store, T, tmp_path / "b", silent)
    assert (done.keys, done.tenant, check(tmp_path / "b")) == (6, T, done)
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o600
    store.delete(*store.keys("aisle:shop:*"))
    back = restore(store, T, tmp_path / "b", silent)
    assert (back.keys, back.expired, back.removed) == (6, 0, 0)
    assert content(store) == before
    assert store.xinfo_stream("aisle:shop:events")["last-generated-id"] == b"7-0"


def test_times_to_live_go_on(store: redis_py.Redis, tmp_path: Path) -> None:
    """One that ends in an hour does so after the restore, and one whose time is over stays away."""
    store.set("aisle:shop:long", "x", px=3_600_000)
    store.set("aisle:shop:short", "x", px=80)
    store.set("aisle:shop:ever", "x")
    due = int(store.time()[0]) + 3_600
    backup(store, T, tmp_path / "b", silent)
    store.flushall()
    store.execute_command("DEBUG", "SLEEP", "0.1")  # of the Redis: the short one's time is over
    back = restore(store, T, tmp_path / "b", silent)
    assert (back.keys, back.expired) == (2, 1)
    assert abs(int(store.time()[0]) + store.pttl("aisle:shop:long") / 1e3 - due) < 5
    assert store.ttl("aisle:shop:ever") == -1


def test_a_keyspace_that_is_not_empty_is_left_alone_unless_told(store: redis_py.Redis, tmp_path: Path) -> None:
    filled(store)
    backup(store, T, tmp_path / "b", silent)
    before = content(store)
    store.set("aisle:shop:new", "x")
    with pytest.raises(InputError, match="has keys in this Redis already: --replace"):
        restore(store, T, tmp_path / "b", silent)
    assert store.get("aisle:shop:new") == b"x"
    assert restore(store, T, tmp_path / "b", silent, replace=True).removed == 7
    assert content(store) == before


def cut(data: bytes) -> bytes:
    return data[:-1]


def middle(data: bytes) -> bytes:
    return data[: len(data) // 2]


def flip(data: bytes) -> bytes:
    return data[:-60] + bytes([data[-60] ^ 1]) + data[-59:]


def longer(data: bytes) -> bytes:
    return data + b"x"


def foreign(data: bytes) -> bytes:
    return b"REDIS0009" + data


def newer(data: bytes) -> bytes:
    return data.replace(b"AISLE-REDIS 1\n", b"AISLE-REDIS 2\n")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "truncated"),
        (middle, "truncated"),
        (flip, "checksum does not fit|truncated|behind its end"),
        (longer, "goes on behind its end"),
        (foreign, "no backup that"),
        (newer, "format 2, this Aisle reads 1"),
        (lambda _: b"", "no backup that"),
    ],
)
def test_a_file_that_is_not_whole_changes_nothing(
    store: redis_py.Redis, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    filled(store)
    backup(store, T, tmp_path / "b", silent)
    (tmp_path / "b").write_bytes(damage((tmp_path / "b").read_bytes()))
    before = content(store)
    with pytest.raises(ArtifactError, match=message):
        restore(store, T, tmp_path / "b", silent, replace=True)
    assert content(store) == before


def test_what_there_is_not(store: redis_py.Redis, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nothing to back up"):
        backup(store, T, tmp_path / "b", silent)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotFoundError, match="no such backup"):
        restore(store, T, tmp_path / "b", silent)
    filled(store)
    backup(store, T, tmp_path / "b", silent)
    with pytest.raises(InputError, match="is of tenant 'shop', expected 'other'"):
        restore(store, "other", tmp_path / "b", silent)


def window(store: redis_py.Redis, name: str, marker: str | None) -> None:
    store.zadd(KEYS.windows, {name: 1})
    store.set(KEYS.history(name, "u:ann"), "x")
    if marker is not None:
        store.set(KEYS.complete(name), marker)


def test_a_window_that_came_or_went_meanwhile_is_not_whole(store: redis_py.Redis, tmp_path: Path) -> None:
    """During the scan `young` is completed and `old` is removed: neither's marker is in the backup, that of `steady` is."""
    young, old, steady = (KEYS.window(n, "state") for n in range(3))
    for name, marker in ((young, None), (old, "{}"), (steady, "{}")):
        window(store, name, marker)

    class Busy:
        """The Redis, on which another process works while keys are read."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def scan_iter(self, **options: Any) -> Any:
            yield from store.scan_iter(**options)
            store.set(KEYS.complete(young), "{}")
            store.delete(KEYS.complete(old))

    busy: Any = Busy()
    backup(busy, T, tmp_path / "b", silent)
    store.flushall()
    restore(store, T, tmp_path / "b", silent)
    markers = {key.decode() for key in store.scan_iter(match="*:complete")}
    assert markers == {KEYS.complete(steady)}
    assert store.zcard(KEYS.windows) == 3


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.binary(max_size=12), st.lists(st.binary(max_size=30), min_size=1, max_size=3), min_size=1))
def test_whatever_the_keys_hold(
    store: redis_py.Redis, tmp_path_factory: pytest.TempPathFactory, lists: dict[bytes, list[bytes]]
) -> None:
    store.flushall()
    for key, values in lists.items():
        store.rpush(b"aisle:shop:" + key, *values)
    before, file = content(store), tmp_path_factory.mktemp("b") / "b"
    backup(store, T, file, silent)
    store.flushall()
    restore(store, T, file, silent)
    assert content(store) == before


def test_wiped_and_restored_the_server_answers_as_before(
    ask: Client, store: redis_py.Redis, config: Any, tmp_path: Path
) -> None:
    """Histories and what people did since, of everybody in the shop; without them answers are degraded."""
    ask.write_events([Event(event_type="click", user_id=f"{n}", item_id="tea-2", session_id="s") for n in range(5)])
    users = [key.removeprefix("u:") for key in PURCHASES if key.startswith("u:")] + ["a stranger"]

    def pages() -> list[tuple[str, list[tuple[str, float]], str]]:
        answers = [ask.recommend(RecommendRequest(user_id=user, page_size=12)) for user in users]
        return [(a.level, [(r.item_id, r.score) for r in a.results], a.fallback_reason) for a in answers]

    before = pages()
    backup(store, config.tenant, tmp_path / "b", silent)
    store.flushall()
    assert pages() != before
    restore(store, config.tenant, tmp_path / "b", silent)
    assert pages() == before
