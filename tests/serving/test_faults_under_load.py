"""A slow Redis, a clock that goes back, swap after swap, the end of the server: while calls go on, and none of them fails."""

# bazel: size=medium

from __future__ import annotations

import resource
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest, RecommendResponse
from benchmarks.slow_link import SlowLink
from core.artifact import STAMP, verify
from core.schema import DAY
from core.work import Work
from serving.client import Client
from serving.config import ServingConfig, load_serving
from serving.embedded_redis import EmbeddedRedis
from serving.process import ServingProcess
from serving.recommender_service import Clock, wall_clock
from tests.serving.conftest import bare, changed, options_for
from tests.serving.shop import make_shop
from tests.waiting import until

ANN = RecommendRequest(user_id="ann", page_size=10)


@contextmanager
def serving(shop: Work, url: str, config: ServingConfig, clock: Clock = wall_clock) -> Iterator[ServingProcess]:
    process = ServingProcess(options_for(shop, url, config), clock)
    process.start()
    yield process
    process.stop()


class Load:
    """Asks again and again from several threads, each when the call before is answered, as long as the block lasts."""

    def __init__(self, port: int, threads: int = 3) -> None:
        self._address, self._enough = f"127.0.0.1:{port}", threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]
        self.answers: list[RecommendResponse] = []
        self.failed: list[Exception] = []

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with Client(self._address, timeout=20) as ask:
            while not self._enough.is_set():
                try:
                    self.answers.append(ask.recommend(ANN))
                except Exception as e:  # noqa: BLE001 - any is a failure of the test
                    self.failed.append(e)


def test_a_redis_that_is_slow_by_50_ms_is_done_without(
    shop: Work, redis_of_session: EmbeddedRedis, redis_url: str, tmp_path: Path
) -> None:
    assert redis_url == redis_of_session.url
    with (
        SlowLink(tmp_path / "slow.sock", redis_of_session.socket) as link,
        serving(shop, f"unix://{tmp_path / 'slow.sock'}", bare()) as process,  # 20 ms are allowed for a read
        Load(process.port) as load,
    ):
        until(lambda: bool(load.answers) and not load.answers[-1].degraded)
        link.hold_back(0.05)
        until(lambda: load.answers[-1].degraded)
        slow = len(load.answers)
        until(lambda: len(load.answers) > slow + 50)
        link.hold_back(0.0)
        until(lambda: not load.answers[-1].degraded)
    assert load.failed == []
    assert {a.fallback_reason for a in load.answers} <= {"", "redis-timeout"}
    assert {len(a.results) for a in load.answers} == {10}


def test_a_clock_that_is_set_back_changes_no_answer(redis_url: str, config: ServingConfig, tmp_path: Path) -> None:
    behind, now, shop = 0, wall_clock(), make_shop(tmp_path)
    everything = load_serving().model_copy(update={"redis": config.redis})  # trends and the log of pages, too

    def shown(ask: Client) -> set[str]:
        return {r.item_id for r in ask.recommend(RecommendRequest(page_size=18)).results}

    with (
        serving(shop, redis_url, everything, lambda: now - behind) as process,
        Client(f"127.0.0.1:{process.port}", timeout=20) as ask,
        Load(process.port) as load,
    ):
        ask.write_events([Event(event_type="click", item_id="pot-3", user_id="ann")])
        before = ask.recommend(ANN)
        behind = DAY
        assert ask.recommend(ANN).results == before.results  # what happened "tomorrow" is not hidden from who did it
        assert ask.write_events([Event(event_type="click", item_id="pot-4", user_id="bob")]).accepted == 1
        assert ask.set_availability(["tea-5"], False).changed == 1
        assert "tea-5" not in shown(ask)
        behind = 0
        assert ask.set_availability(["tea-5"], True).changed == 1
        assert "tea-5" in shown(ask)
    assert load.failed == []
    assert not any(a.degraded for a in load.answers)


def test_twenty_swaps_under_load_cost_no_answer(
    shop: Work, redis_url: str, config: ServingConfig, tmp_path: Path
) -> None:
    both = shop.current.resolve(), tmp_path / "another-name"
    shutil.copytree(both[0], both[1])
    with (
        serving(shop, redis_url, config) as process,
        Client(f"127.0.0.1:{process.port}", timeout=60) as ask,
        Load(process.port) as load,
    ):
        swapped = [ask.load_release(str(both[(n + 1) % 2])) for n in range(20)]
    assert [s.previous for s in swapped] == [both[n % 2].name for n in range(20)]
    assert load.failed == []
    assert {a.release for a in load.answers} <= {p.name for p in both}
    assert not any(a.degraded for a in load.answers)
    assert len({str(a.results) for a in load.answers}) == 1  # the two are the same but for their names


def test_a_full_disk_stops_no_swap(shop: Work, redis_url: str, config: ServingConfig, tmp_path: Path) -> None:
    other = tmp_path / "another-name"
    shutil.copytree(shop.current.resolve(), other)
    (other / STAMP).unlink(missing_ok=True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serving(shop, redis_url, config) as process, Client(f"127.0.0.1:{process.port}", timeout=60) as ask:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))  # no file may grow: as if there were no room
        try:
            loaded = ask.load_release(str(other))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert (loaded.release, ask.recommend(ANN).release) == (other.name, other.name)
    assert not (other / STAMP).exists()  # who opens it next checks it in full
    verify(other)
    assert (other / STAMP).exists()


def test_told_to_stop_it_answers_what_has_begun(shop: Work, redis_url: str, config: ServingConfig) -> None:
    begun, go_on, holding = threading.Event(), threading.Event(), threading.Event()

    def clock() -> int:
        """Holds the call that asks for the time."""
        if holding.is_set() and threading.current_thread().name.startswith("rpc"):
            begun.set()
            go_on.wait(20)
        return wall_clock()

    process = ServingProcess(options_for(shop, redis_url, config), clock)
    process.start()
    answers: list[RecommendResponse] = []
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        holding.set()
        asking = threading.Thread(target=lambda: answers.append(ask.recommend(ANN)))
        asking.start()
        assert begun.wait(20)
        stopping = threading.Thread(target=process.stop)
        stopping.start()
        until(lambda: not listens(process.port))
        assert answers == []
        go_on.set()
        asking.join()
        stopping.join()
    assert [len(a.results) for a in answers] == [10]


def health_stub(channel: grpc.Channel) -> Any:
    return health_pb2_grpc.HealthStub(channel)


def listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except ConnectionError:
        return False
    return True


def test_a_lame_duck_says_so_and_answers(shop: Work, redis_url: str, config: ServingConfig) -> None:
    process = ServingProcess(options_for(shop, redis_url, changed(config, "server", lame_duck_seconds=2.0)))
    process.start()
    address = f"127.0.0.1:{process.port}"
    with Client(address, timeout=20) as ask, grpc.insecure_channel(address) as channel:
        health, serving = health_stub(channel), health_pb2.HealthCheckResponse.SERVING
        stopping = threading.Thread(target=process.stop)
        stopping.start()
        until(lambda: health.Check(health_pb2.HealthCheckRequest(), timeout=20).status != serving)
        assert len(ask.recommend(ANN).results) == 10
        stopping.join()


def test_health_says_that_it_serves(shop: Work, redis_url: str, config: ServingConfig) -> None:
    with serving(shop, redis_url, config) as process, grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        health = health_stub(channel)
        for service in ("", "aisle.v1.Recommender"):
            answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
            watching = health.Watch(health_pb2.HealthCheckRequest(service=service), timeout=20)
            assert next(watching).status == health_pb2.HealthCheckResponse.SERVING
            watching.cancel()
        with pytest.raises(grpc.RpcError, match="NOT_FOUND"):
            health.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=20)
