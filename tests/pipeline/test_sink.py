"""The sink: what waits in a real Redis becomes Parquet, each entry once, wherever it is interrupted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import redis as redis_py

from core.errors import BusyError, InputError
from core.event_log import EVENT_KINDS, PAGES, SNAPSHOTS
from core.schema import DAY, HOUR
from pipeline.sink import Sink, locked
from serving.config import load_serving
from serving.embedded_redis import EmbeddedRedis
from serving.event_writer import EventWriter, WrittenEvent
from serving.keys import Keys
from serving.redis_link import RedisLink, client

KEYS = Keys("default")
# 2023-11-14 22:13:20 UTC; an hour and 46 minutes 40 s later begins the 15th
START = 1_700_000_000_000_000


@pytest.fixture(scope="module")
def redis_of_module(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path_factory.mktemp("redis"))
    server.launch()
    server.wait()
    yield server
    server.stop()


@pytest.fixture
def store(redis_of_module: EmbeddedRedis) -> redis_py.Redis:
    """An empty Redis."""
    connected = client(redis_of_module.url, 5, retries=0)
    connected.flushall()
    return connected


def event(n: int, **more: Any) -> dict[str, Any]:
    """One an hour."""
    base = {"event_type": "click", "event_time": START + n * HOUR, "item_id": f"i-{n}", "user_id": "ann"}
    return base | {"event_id": f"e-{n}"} | more


def put(url: str, *events: dict[str, Any]) -> None:
    """As the server does."""
    config = load_serving()
    EventWriter(RedisLink(url, config.redis), KEYS, config.events).write([WrittenEvent.of(e) for e in events])


def add(store: redis_py.Redis, *events: dict[str, Any]) -> None:
    for e in events:
        store.xadd(KEYS.events, {"event": json.dumps(e)})


def sink(store: redis_py.Redis, data: Path, batch: int = 1000, said: list[str] | None = None) -> Sink:
    return Sink(store, KEYS, data, batch, (said if said is not None else []).append)


def drain(store: redis_py.Redis, data: Path, batch: int = 1000, said: list[str] | None = None) -> Sink:
    with locked(data):
        one = sink(store, data, batch, said)
        one.drain()
    return one


def files(data: Path, table: str = "events") -> list[Path]:
    return sorted(p for p in (data / table).rglob("*") if p.is_file())


def logged(data: Path, table: str = "events") -> list[dict[str, Any]]:
    return [row for f in files(data, table) for row in pq.ParquetFile(f).read().to_pylist()]


def test_events_lie_in_the_day_they_happened_with_every_column_of_the_contract(
    store: redis_py.Redis, redis_of_module: EmbeddedRedis, tmp_path: Path
) -> None:
    full = {
        "visitor_id": "web-1",
        "session_id": "s-1",
        "quantity": 2.0,
        "price": 0.5,
        "currency": "GBP",
        "position": 3,
        "placement": "home",
        "query": "grün",
        "attribution_token": "r.1",
        "value": -1.5,
    }
    put(redis_of_module.url, event(1, **full), event(2), event(3), event(26))
    ids = [id.decode() for id, _ in store.xrange(KEYS.events)]
    done = drain(store, tmp_path)
    # hours 1 is on the 14th, 2 (00:13) and 3 on the 15th, 26 (00:13) on the 16th
    assert [str(f.relative_to(tmp_path)) for f in files(tmp_path)] == [
        f"events/day=2023-11-{d}/part-{ids[0]}-{ids[-1]}.parquet" for d in (14, 15, 16)
    ]
    assert done.moved.rows == {"events": 4, "recommendations": 0, "shadows": 0, "trending": 0}
    assert (done.moved.files, done.positions["events"]) == (3, ids[-1])
    rows = logged(tmp_path)
    assert list(rows[0]) == list(EVENT_KINDS)
    assert rows[0].pop("event_time").timestamp() * 1e6 == START + HOUR
    assert rows[0] == {k: v for k, v in event(1, **full).items() if k != "event_time"}
    assert rows[1]["visitor_id"] is None
    assert store.xlen(KEYS.events) == 0
    assert drain(store, tmp_path).moved.rows == {"events": 0, "recommendations": 0, "shadows": 0, "trending": 0}


def test_the_next_run_goes_on_where_the_last_one_was(store: redis_py.Redis, tmp_path: Path) -> None:
    add(store, *(event(n) for n in range(7)))
    assert drain(store, tmp_path, batch=3).moved.rows["events"] == 7  # 3, 3 and 1
    add(store, event(7))
    assert drain(store, tmp_path).moved.rows["events"] == 1
    assert sorted(r["event_id"] for r in logged(tmp_path)) == [f"e-{n}" for n in range(8)]


class Killed(BaseException):
    """Stands for SIGKILL: nothing of ours catches it."""


def test_interrupted_at_any_step_every_entry_is_there_once(
    store: redis_py.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the k-th time that something becomes visible or durable, for every k there is, then run again: the same files."""
    replace, left = os.replace, [0]

    def counted(a: Any, b: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise Killed
        replace(a, b)

    monkeypatch.setattr("core.atomic.os.replace", counted)
    names: set[tuple[str, ...]] = set()
    for step in range(1, 20):
        store.flushall()
        data = tmp_path / str(step)
        for n in range(4):  # two days, two batches of two
            store.xadd(KEYS.events, {"event": json.dumps(event(n))}, id=f"{100 + n}-0")
        left[0] = step
        try:
            drain(store, data, batch=2)
        except Killed:
            left[0] = 0
            add_late = event(9)
            store.xadd(
                KEYS.events, {"event": json.dumps(add_late)}, id="200-0"
            )  # must not join the batch that was cut short
            drain(store, data, batch=2)
            assert sorted(r["event_id"] for r in logged(data)) == ["e-0", "e-1", "e-2", "e-3", "e-9"]
            names.add(tuple(str(f.relative_to(data)) for f in files(data)))
            assert store.xlen(KEYS.events) == 0
        else:
            break
    # per batch: the plan, the files (hours 0 and 1 on the 14th; 2 and 3 on the 15th: one each), the position; so 2 x 3 steps
    assert step == 7
    assert len(names) == 1


def test_killed_before_redis_forgets_nothing_is_written_again(store: redis_py.Redis, tmp_path: Path) -> None:
    add(store, event(1), event(2))
    entries = store.xrange(KEYS.events)
    drain(store, tmp_path)
    before = {f: f.stat().st_ino for f in files(tmp_path)}
    for id, fields in entries:  # as if the trim had not happened
        store.delete(KEYS.events)
        store.xadd(KEYS.events, fields, id=id)
    assert drain(store, tmp_path).moved.rows["events"] == 0
    assert {f: f.stat().st_ino for f in files(tmp_path)} == before
    assert store.xlen(KEYS.events) == 0


def test_what_a_killed_writer_left_is_swept(store: redis_py.Redis, tmp_path: Path) -> None:
    folder = tmp_path / "events" / "day=2023-11-14"
    folder.mkdir(parents=True)
    (folder / ".tmp-1234-part-1-0-2-0.parquet").write_bytes(b"half")
    drain(store, tmp_path)
    assert list(folder.iterdir()) == []


def test_entries_that_left_redis_meanwhile_are_said(
    store: redis_py.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(store, event(1), event(2))
    calls: list[Path] = []

    def dies(path: Path, *_: object) -> None:
        calls.append(path)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("pipeline.sink.write_parquet", dies)
        with pytest.raises(Killed):
            drain(store, tmp_path)
    store.xdel(KEYS.events, store.xrange(KEYS.events)[0][0])  # somebody was forgotten, say
    said: list[str] = []
    drain(store, tmp_path, said=said)
    assert [r["event_id"] for r in logged(tmp_path)] == ["e-2"]
    assert said == [
        "aisle:default:events: 1 of the 2 entries of a batch that was cut short are gone from Redis (deleted, or lost by a Redis "
        "that is not durable)"
    ]


def test_two_sinks_at_once_are_impossible(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(BusyError, match=f"process {os.getpid()} moves events here"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_another_redis_is_not_taken_for_this_one(store: redis_py.Redis, tmp_path: Path) -> None:
    add(store, event(1))
    drain(store, tmp_path)
    store.flushall()
    store.xadd(KEYS.events, {"event": json.dumps(event(2))}, id="5-0")  # a clock that went back
    with pytest.raises(InputError, match="but aisle:default:events in Redis only to 5-0"):
        drain(store, tmp_path)
    assert store.xlen(KEYS.events) == 1


def test_a_log_is_of_one_tenant(store: redis_py.Redis, tmp_path: Path) -> None:
    add(store, event(1))
    drain(store, tmp_path)
    with pytest.raises(InputError, match="this log is of aisle:default:events, not of aisle:other:events"):
        Sink(store, Keys("other"), tmp_path, 10, print)


@pytest.mark.parametrize("fields", [{"x": "y"}, {"event": "{"}, {"event": "[1]"}, {"event": '{"item_id": "a"}'}])
def test_an_entry_that_is_none_stops_it_with_its_name(
    store: redis_py.Redis, tmp_path: Path, fields: dict[str, str]
) -> None:
    store.xadd(KEYS.events, fields, id="7-1")
    with pytest.raises(InputError, match=r"entry 7-1: not written by Aisle .*redis-cli XDEL aisle:default:events 7-1"):
        drain(store, tmp_path)
    store.xdel(KEYS.events, "7-1")
    add(store, event(1))
    drain(store, tmp_path)
    assert [r["event_id"] for r in logged(tmp_path)] == ["e-1"]


def test_a_damaged_state_is_one_line(store: redis_py.Redis, tmp_path: Path) -> None:
    add(store, event(1))
    drain(store, tmp_path)
    (tmp_path / "_sink" / "events.json").write_text('{"stream": 1')
    with pytest.raises(InputError, match=r"events.json: not the state of a sink"):
        sink(store, tmp_path)


def test_pages_keep_their_columns_and_bytes(store: redis_py.Redis, tmp_path: Path) -> None:
    features = np.arange(6, dtype="<f4").reshape(2, 3)
    page = {"time": START, "window_end": START - DAY, "request_id": "r-1", "items": ["a", "b"], "positions": [1, 2]}
    page |= {
        "scores": [0.5, 0.25],
        "labels": {"shelf": "top"},
        "degraded": False,
        "n_features": 3,
        "feature_schema": "f",
    }
    rows = np.array([4, 7], "<i4")
    store.xadd(KEYS.shown, {"page": json.dumps(page), "candidates": rows.tobytes(), "features": features.tobytes()})
    store.xadd(KEYS.shown, {"page": json.dumps({"time": START + DAY, "request_id": "r-2", "items": []})})
    done = drain(store, tmp_path)
    assert done.moved.rows == {"events": 0, "recommendations": 2, "shadows": 0, "trending": 0}
    assert [f.parent.name for f in files(tmp_path, "recommendations")] == ["day=2023-11-14", "day=2023-11-15"]
    first, second = logged(tmp_path, "recommendations")
    assert list(first) == [str(c) for c in PAGES]
    assert (first["items"], first["positions"], first["scores"]) == (["a", "b"], [1, 2], [0.5, 0.25])
    assert (first["labels"], first["candidates"]) == ([("shelf", "top")], [4, 7])
    np.testing.assert_array_equal(np.frombuffer(first["features"], "<f4").reshape(-1, first["n_features"]), features)
    assert (second["request_id"], second["features"], second["user_id"], second["labels"]) == ("r-2", None, None, None)
    assert store.xlen(KEYS.shown) == 0


def test_copies_of_shadows_are_no_recommendations(store: redis_py.Redis, tmp_path: Path) -> None:
    page = {"time": START, "request_id": "r-1", "items": ["a"], "experiments": ["canary=other@0:0.1"]}
    store.xadd(KEYS.shadows, {"page": json.dumps(page)})
    assert drain(store, tmp_path).moved.rows == {"events": 0, "recommendations": 0, "shadows": 1, "trending": 0}
    (row,) = logged(tmp_path, "shadows")
    assert (row["request_id"], row["experiments"], row["user_id"]) == ("r-1", ["canary=other@0:0.1"], None)


def test_what_trended_is_written_once(store: redis_py.Redis, tmp_path: Path) -> None:
    head = {"tenant": "default", "release": "r-1", "window_seconds": 3600}
    snapshot = head | {"time": START, "trending": 3, "items": ["a", "b"], "values": [2.5, 1.0]}
    store.xadd(KEYS.trending, {"trend": json.dumps(snapshot)}, id="7-0")
    store.xadd(KEYS.trending, {"trend": json.dumps(head | {"time": START + DAY, "trending": 0, "items": []})})
    assert drain(store, tmp_path).moved.rows == {"events": 0, "recommendations": 0, "shadows": 0, "trending": 2}
    written = files(tmp_path, "trending")
    assert [f.parent.name for f in written] == ["day=2023-11-14", "day=2023-11-15"]
    rows = logged(tmp_path, "trending")
    assert list(rows[0]) == [str(c) for c in SNAPSHOTS]
    assert rows[0].pop("time").timestamp() * 1e6 == START
    assert rows[0] == {k: v for k, v in snapshot.items() if k != "time"}
    assert (rows[1]["items"], rows[1]["values"]) == ([], None)
    # the sink died before Redis forgot them: an entry that is in the log does not come again
    store.delete(KEYS.trending)
    store.xadd(KEYS.trending, {"trend": json.dumps(snapshot)}, id="7-0")
    store.xadd(KEYS.trending, {"trend": json.dumps(snapshot | {"time": START + 2 * DAY})})
    assert drain(store, tmp_path).moved.rows["trending"] == 1
    assert [r["time"].day for r in logged(tmp_path, "trending")] == [14, 15, 16]


def test_following_moves_whole_batches_and_what_has_waited(store: redis_py.Redis, tmp_path: Path) -> None:
    waits: list[int] = []

    def wait(seconds: float) -> bool:
        """The world goes on while it waits: after a look, two more events; then nothing but time."""
        if not seconds:
            return False
        waits.append(store.xlen(KEYS.events))
        if len(waits) == 1:
            add(store, event(3), event(4))
        return len(waits) == 3

    add(store, event(1))
    with locked(tmp_path):
        sink(store, tmp_path, batch=3).follow(3600, wait, print)
    # one event is no batch of 3 and not an hour old; three are a batch
    assert waits == [1, 0, 0]
    assert len(logged(tmp_path)) == 3
    add(store, event(5))
    with locked(tmp_path):
        sink(store, tmp_path, batch=3).follow(0, lambda seconds: bool(seconds), print)
    assert len(logged(tmp_path)) == 4


def test_following_waits_for_a_redis_that_is_away(tmp_path: Path) -> None:
    server, said = EmbeddedRedis(tmp_path / "redis"), list[str]()
    with locked(tmp_path / "data"):
        moving = Sink(client(server.url, 1, retries=0), KEYS, tmp_path / "data", 10, said.append)

        def wait(seconds: float) -> bool:
            """Redis comes up as soon as it is missed."""
            if len(said) == 1 and server.pid is None:
                server.launch()
                server.wait()
                add(client(server.url, 5, retries=0), event(1))
            return bool(seconds) and moving.moved.rows["events"] == 1

        moving.follow(0, wait, said.append)
    server.stop()
    assert [line.split(":")[0] for line in said] == ["waiting for Redis", "Redis is back"]
    assert len(logged(tmp_path / "data")) == 1
