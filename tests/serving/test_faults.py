"""Redis dies, freezes, refuses: answers go on, say so, and recover by themselves."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest, RecommendResponse
from core.work import Work
from serving.client import Client, ServerError
from serving.config import ServingConfig
from serving.embedded_redis import EmbeddedRedis
from serving.process import ServingProcess
from serving.redis_link import client
from tests.serving.conftest import bare, options_for

ANN = RecommendRequest(user_id="ann", page_size=10)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    """One to kill."""
    server = EmbeddedRedis(tmp_path / "redis")
    server.launch()
    server.wait()
    yield server
    server.stop()


@pytest.fixture
def ask(shop: Work, own_redis: EmbeddedRedis) -> Iterator[Client]:
    """A server with the default deadlines on that Redis."""
    process = ServingProcess(options_for(shop, own_redis.url, bare()))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as connected:
        yield connected
    process.stop()


def until(ask: Client, good: Callable[[RecommendResponse], bool], seconds: float = 20) -> RecommendResponse:
    deadline = time.monotonic() + seconds
    while True:
        found = ask.recommend(ANN)
        if good(found):
            return found
        assert time.monotonic() < deadline, found


def test_killed_under_load_no_answer_fails_and_all_recover(ask: Client, own_redis: EmbeddedRedis) -> None:
    healthy = until(ask, lambda r: not r.degraded)
    ask.write_events([Event(event_type="click", item_id="tea-1", user_id="other")])
    answers: list[RecommendResponse] = []
    failed: list[BaseException] = []
    enough = threading.Event()

    def load() -> None:
        while not enough.is_set():
            try:
                answers.append(ask.recommend(ANN))
            except Exception as e:  # noqa: BLE001 - any is a failure of the test
                failed.append(e)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    pid = own_redis.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    reason = until(ask, lambda r: r.degraded).fallback_reason
    assert (
        until(ask, lambda r: not r.degraded).results == healthy.results
    )  # the keeper started it again, from its files
    enough.set()
    for thread in threads:
        thread.join()
    assert failed == []
    assert reason == "redis-unreachable"
    assert all(len(a.results) == 10 for a in answers)
    assert {a.level for a in answers if a.degraded} == {"popular"}
    assert own_redis.pid != pid
    assert client(own_redis.url, 5, retries=0).exists("aisle:default:live:u:other")  # what was acknowledged is there


def test_frozen_the_answer_comes_within_the_deadline(ask: Client, own_redis: EmbeddedRedis) -> None:
    until(ask, lambda r: not r.degraded)
    assert own_redis.pid is not None
    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        found = ask.recommend(ANN)
        assert (found.degraded, found.fallback_reason) == (True, "redis-timeout")
        assert 20 <= found.stage_latency_ms["hydrate"] < 500  # 20 ms are allowed; a busy machine wakes late
        for _ in range(3):
            ask.recommend(ANN)
        quickest = min(ask.recommend(ANN).stage_latency_ms["hydrate"] for _ in range(10))
        assert quickest < 5  # after a few failures most requests do not wait at all
        with pytest.raises(ServerError, match="UNAVAILABLE: redis-timeout"):
            ask.write_events([Event(event_type="click", item_id="tea-1", user_id="ann")])
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)
    assert until(ask, lambda r: not r.degraded).level == "warm"


def test_an_error_of_redis_degrades(ask: Client, own_redis: EmbeddedRedis) -> None:
    store = client(own_redis.url, 5, retries=0)
    store.set("aisle:default:live:u:ann", "a text where a list belongs")
    assert until(ask, lambda r: r.degraded).fallback_reason == "redis-error"
    store.delete("aisle:default:live:u:ann")
    assert until(ask, lambda r: not r.degraded).level == "warm"


def test_an_emptied_redis_is_said(ask: Client, own_redis: EmbeddedRedis) -> None:
    client(own_redis.url, 5, retries=0).flushall()
    found = until(ask, lambda r: r.degraded)
    assert (found.fallback_reason, found.level) == ("user-state-missing", "popular")
    status = ask.status()
    assert (status.redis.state, status.redis.user_state) == ("up", False)
    assert status.degraded["user-state-missing"] >= 1


def test_without_redis_from_the_start(shop: Work, config: ServingConfig) -> None:
    process = ServingProcess(options_for(shop, "redis://127.0.0.1:1", config))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        found = ask.recommend(ANN)
        assert (len(found.results), found.degraded, found.fallback_reason) == (10, True, "redis-unreachable")
        assert ask.recommend(RecommendRequest(page_size=3)).degraded is False  # a stranger needs no Redis
        assert ask.status().redis.state == "redis-unreachable"
    process.stop()


def test_full_memory_refuses_events_and_answers_go_on(ask: Client, own_redis: EmbeddedRedis) -> None:
    until(ask, lambda r: not r.degraded)
    client(own_redis.url, 5, retries=0).config_set("maxmemory", "1")
    with pytest.raises(ServerError, match="UNAVAILABLE: redis-error"):
        ask.write_events([Event(event_type="click", item_id="tea-1", user_id="ann")])
    assert until(ask, lambda r: not r.degraded).level == "warm"
