"""What trends within the hour: from a real stream to an array, to pages of a real server, and to the log."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import redis as redis_py

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest
from core.ids import IdMap
from core.schema import DAY, HOUR, MINUTE, EventType
from core.work import Work
from serving.batch import Batch, BatchQuery
from serving.client import Client
from serving.config import ServingConfig, load_serving
from serving.embedded_redis import EmbeddedRedis
from serving.event_writer import EventWriter, WrittenEvent
from serving.keys import Keys
from serving.process import ServingProcess
from serving.recommender_service import wall_clock
from serving.redis_link import RedisLink
from serving.release import Release
from serving.resident import Resident
from serving.trend import NOTHING
from serving.trending import Trending
from serving.trending_log import TrendingLog
from tests.serving.conftest import changed, options_for
from tests.serving.shop import END, SOLD_OUT, make_shop
from tests.waiting import until

KEYS = Keys("default")
PATIENT = changed(load_serving(), "redis", write_deadline_ms=5_000.0)
SETTINGS = PATIENT.trending
STRANGER = RecommendRequest(page_size=6)


@pytest.fixture(scope="module")
def release(shop: Work) -> Release:
    return Release.open(shop.current)


class Clock:
    """Set by hand."""

    def __init__(self) -> None:
        self.now = wall_clock()

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def trending(url: str, release: Release, clock: Clock, **settings: object) -> Trending:
    """Without its thread: tests call `read` and `publish`."""
    link = RedisLink(url, PATIENT.redis)
    return Trending(link, KEYS, SETTINGS.model_copy(update=settings), Resident(release, ""), clock)


def write(url: str, *events: tuple[str, str, int]) -> None:
    """As the server does: type, item, time."""
    columns = [
        {"event_type": kind, "item_id": item, "event_time": when, "user_id": f"u-{n}", "event_id": f"{item}-{when}-{n}"}
        for n, (kind, item, when) in enumerate(events)
    ]
    EventWriter(RedisLink(url, PATIENT.redis), KEYS, PATIENT.events).write([WrittenEvent.of(c) for c in columns])


def best(one: Trending, release: Release) -> list[str]:
    return [release.item_ids[row] for row in one.of(release).order.tolist()]


def test_the_array_holds_the_gain_of_the_hour(redis_url: str, release: Release, clock: Clock) -> None:
    now = clock.now
    one = trending(redis_url, release, clock)
    write(
        redis_url,
        *[("purchase-complete", "tea-2", now)] * 2,
        *[("detail-page-view", "cup-1", now - n * MINUTE) for n in range(10)],
        ("add-to-cart", "pot-1", now),
        ("add-to-cart", "pot-1", now - 2 * HOUR),
        *[("impression", "tea-5", now)] * 3,
        ("return", "tea-5", now),
        ("purchase-complete", "not-an-item", now),
    )
    assert not one.read()
    one.publish()
    trend, at = one.of(release), release.item_ids.row
    # purchases count 1, views 0.1, a cart 0.4; the older one, impressions and a return count nothing
    expected = np.zeros(len(release.item_ids), np.float32)
    expected[[at("tea-2"), at("cup-1"), at("pot-1")]] = 2, 1, 0.4
    np.testing.assert_allclose(trend.values, expected, atol=1e-6)
    assert trend.values.dtype == np.float32
    assert not trend.values.flags.writeable
    # 0.4 is less than the 1.0 that makes a trend
    assert (best(one, release), trend.items) == (["tea-2", "cup-1"], 2)
    assert trend.events(at("tea-2")) == {EventType.PURCHASE_COMPLETE: 2}
    assert trend.events(at("pot-1")) == {}
    clock.now += HOUR - 5 * MINUTE  # the views are those of now to nine minutes before; the older five have left
    one.publish()
    assert best(one, release) == ["tea-2"]
    clock.now += 6 * MINUTE
    one.publish()
    assert not one.of(release).values.any()


def test_a_stream_is_read_in_pieces_each_event_once(redis_url: str, release: Release, clock: Clock) -> None:
    one, at = trending(redis_url, release, clock), release.item_ids.row("tea-1")
    write(redis_url, *[("click", "tea-1", clock.now)] * 450)
    assert [one.read() for _ in range(4)] == [True, True, False, False]
    write(redis_url, *[("click", "tea-1", clock.now - 1)] * 10)
    one.read()
    one.publish()
    assert one.of(release).events(at) == {EventType.CLICK: 460}


def test_a_stream_that_the_sink_emptied_is_no_trouble(
    redis_url: str, release: Release, clock: Clock, store: redis_py.Redis
) -> None:
    one = trending(redis_url, release, clock)
    write(redis_url, ("purchase-complete", "tea-1", clock.now))
    one.read()
    store.xtrim(KEYS.events, maxlen=0)
    store.xadd(KEYS.events, {"event": "{"})
    store.xadd(KEYS.events, {"event": '{"event_type": "invented", "item_id": "tea-1", "event_time": 5}'})
    write(redis_url, ("purchase-complete", "tea-2", clock.now))
    one.read()
    one.publish()
    assert best(one, release) == ["tea-1", "tea-2"]
    started = trending(redis_url, release, clock)  # later: what was taken is not known to it
    started.read()
    started.publish()
    assert best(started, release) == ["tea-2"]


def test_another_release_brings_other_rows_and_items_that_were_unknown(
    redis_url: str, release: Release, clock: Clock
) -> None:
    ids = [release.item_ids[row] for row in range(len(release.item_ids))]
    few = replace(release, item_ids=IdMap.of([i for i in reversed(ids) if i != "tea-1"]), path=Path("few"))
    resident = Resident(few, "")
    one = Trending(RedisLink(redis_url, PATIENT.redis), KEYS, SETTINGS, resident, clock)
    write(redis_url, *[("purchase-complete", "tea-1", clock.now)] * 2, ("purchase-complete", "cup-1", clock.now))
    one.read()
    one.publish()
    assert best(one, few) == ["cup-1"]
    assert one.of(release) is NOTHING
    resident._held = release
    assert one.of(release) is NOTHING  # until the rows are those of the new one
    one.publish()
    assert best(one, release) == ["tea-1", "cup-1"]
    assert one.of(release).values[release.item_ids.row("tea-1")] == 2


def test_without_redis_what_is_there_grows_old(tmp_path: Path, release: Release, clock: Clock) -> None:
    server = EmbeddedRedis(tmp_path / "redis")
    server.launch()
    server.wait()
    one = trending(server.url, release, clock)
    write(server.url, ("purchase-complete", "tea-1", clock.now))
    one.read()
    server.stop()
    with pytest.raises(redis_py.RedisError):
        one.read()
    one.publish()
    assert best(one, release) == ["tea-1"]
    clock.now += HOUR
    one.publish()
    assert best(one, release) == []


@pytest.fixture
def lively(config: ServingConfig) -> ServingConfig:
    """With trends, looked for at once."""
    return changed(config, "trending", enabled=True, refresh_seconds=0.01)


@pytest.fixture
def ask(shop: Work, redis_url: str, lively: ServingConfig) -> Iterator[Client]:
    process = ServingProcess(options_for(shop, redis_url, lively))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as connected:
        yield connected
    process.stop()


def bought(item: str, times: int) -> list[Event]:
    return [Event(event_type="purchase-complete", item_id=item, user_id=f"other-{n}") for n in range(times)]


def first(ask: Client, asked: RecommendRequest = STRANGER) -> tuple[str, str, list[str]]:
    result = ask.recommend(asked).results[0]
    return result.item_id, result.source, list(result.reasons)


def test_what_others_do_is_where_a_strangers_page_begins(ask: Client, shop: Work) -> None:
    known = RecommendRequest(user_id="ann", page_size=6)
    before, anns = ask.recommend(STRANGER), ask.recommend(known)
    batch = Batch(shop.current, shop.user_state(END))
    plain = batch.rendered(BatchQuery("q", "nobody", wall_clock()), 6, exclude_seen=False)
    # nothing happened: the same page as ever, offline and online
    assert [r.item_id for r in before.results] == plain.item_ids
    assert [r.source for r in before.results] == list(plain.sources)
    assert "cup-1" not in plain.item_ids

    ask.write_events(bought("cup-1", 3) + bought("tea-1", 2) + bought(SOLD_OUT, 9) + bought("cup-2", 1))
    until(lambda: ask.status().trending.items == 4)
    assert ask.status().trending.age_seconds < 20
    after = ask.recommend(STRANGER)
    assert after.level == "popular"
    # half of six places at most; what is sold out trends in vain; then the page as it was
    assert [(r.item_id, r.source) for r in after.results[:3]] == [(i, "trending") for i in ("cup-1", "tea-1", "cup-2")]
    assert [list(r.reasons) for r in after.results[:3]] == [
        [f"bought {times} in the last hour"] for times in ("3 times", "twice", "once")
    ]
    assert [r.item_id for r in after.results[3:]] == plain.item_ids[:3]
    scores = [r.score for r in after.results]
    assert scores == sorted(scores, reverse=True)
    assert first(ask, RecommendRequest(page_size=6, exclude_item_ids=["cup-1"]))[0] == "tea-1"

    # whoever is known is answered as before, and so is a batch
    assert list(ask.recommend(known).results) == list(anns.results)
    again = batch.rendered(BatchQuery("q", "nobody", wall_clock()), 6, exclude_seen=False)
    assert (again.item_ids, again.sources) == (plain.item_ids, plain.sources)


def test_a_swap_of_the_release_keeps_the_trend(ask: Client, tmp_path: Path) -> None:
    ask.write_events(bought("cup-1", 3))
    until(lambda: first(ask)[0] == "cup-1")
    later = make_shop(tmp_path, end=END + DAY, sales=2)
    ask.load_release(str(later.current))
    found = ask.recommend(STRANGER)
    assert found.release == later.current.resolve().name
    assert (found.results[0].item_id, found.results[0].source) == ("cup-1", "trending")


def test_redis_is_killed_and_pages_go_on(shop: Work, lively: ServingConfig, tmp_path: Path) -> None:
    redis = EmbeddedRedis(tmp_path / "redis")
    redis.launch()
    redis.wait()
    process = ServingProcess(options_for(shop, redis.url, lively))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        ask.write_events(bought("cup-1", 3))
        until(lambda: first(ask)[0] == "cup-1")
        pid = redis.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert first(ask) == ("cup-1", "trending", ["bought 3 times in the last hour"])
        redis.wait()  # its keeper starts it again, from its files

        def tried() -> bool:
            """It may take a moment until the server has a connection again."""
            return ask.status().redis.state == "up" and ask.status().redis.durable

        until(tried)
        ask.write_events(bought("tea-1", 4))
        until(lambda: first(ask)[0] == "tea-1")
        assert ask.recommend(STRANGER).results[1].item_id == "cup-1"  # 3, each of them counted once
        assert ask.recommend(STRANGER).results[1].reasons == ["bought 3 times in the last hour"]
    process.stop()
    redis.stop()


def snapshots(store: redis_py.Redis) -> int:
    return int(store.xlen(KEYS.trending))


def test_a_snapshot_a_period_for_all_processes(
    redis_url: str, release: Release, clock: Clock, store: redis_py.Redis
) -> None:
    often = SETTINGS.model_copy(update={"snapshot_seconds": 1e-6, "stream_snapshots": 2, "snapshot_items": 1})
    link = RedisLink(redis_url, PATIENT.redis)
    one = trending(redis_url, release, clock)
    write(redis_url, *[("purchase-complete", "tea-1", clock.now)] * 2, ("purchase-complete", "cup-1", clock.now))
    one.read()
    one.publish()
    logs = [TrendingLog(link, KEYS, often) for _ in range(3)]
    assert [log.offer(one.of(release), clock.now) for log in logs] == [True, False, False]
    assert logs[1].offer(one.of(release), clock.now + MINUTE)
    assert not logs[2].offer(one.of(release), clock.now + 2 * MINUTE)  # full
    assert snapshots(store) == 2
    assert not TrendingLog(link, KEYS, SETTINGS).offer(one.of(release), clock.now + 3 * MINUTE)  # not due for a minute
    assert not logs[0].offer(NOTHING, clock.now + 3 * MINUTE)
    away = TrendingLog(RedisLink("unix:///nowhere/redis.sock", PATIENT.redis), KEYS, often)
    assert not away.offer(one.of(release), clock.now)


def test_two_servers_log_what_trends(
    shop: Work, redis_url: str, lively: ServingConfig, store: redis_py.Redis, release: Release
) -> None:
    hourly = changed(lively, "trending", snapshot_seconds=0.2)
    processes = [ServingProcess(options_for(shop, redis_url, hourly)) for _ in range(2)]
    for process in processes:
        process.start()
    until(lambda: snapshots(store) >= 3)
    for process in processes:
        process.stop()
    logged = [json.loads(fields[b"trend"]) for _, fields in store.xrange(KEYS.trending)]
    periods = [snapshot["time"] // 200_000 for snapshot in logged]
    assert len(set(periods)) == len(periods)
    assert {s["release"] for s in logged} == {release.name}
    assert {(s["trending"], tuple(s["items"]), s["window_seconds"]) for s in logged} == {(0, (), 3600)}


def test_a_configuration_without_trends(shop: Work, redis_url: str, config: ServingConfig) -> None:
    assert not config.trending.enabled
    process = ServingProcess(options_for(shop, redis_url, config))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        ask.write_events(bought("cup-1", 9))
        assert "trending" not in {r.source for r in ask.recommend(STRANGER).results}
        assert ask.status().trending.items == 0
    process.stop()
