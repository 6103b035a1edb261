"""Overload: who is let in, who is refused, and what the client makes of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from aisle.v1 import recommender_pb2, recommender_pb2_grpc
from aisle.v1.recommender_pb2 import RecommendRequest
from core.work import Work
from serving.caller import TooMuchError
from serving.client import Client, ServerError
from serving.config import ServingConfig
from serving.process import ServingProcess
from serving.shedding import RETRY_SECONDS, CountedPool, Shedding, Ticket, ticket
from tests.serving.conftest import changed, options_for
from tests.waiting import until


@contextmanager
def busy(pool: CountedPool, calls: int) -> Iterator[None]:
    """So many calls inside, which end with the block."""
    over = threading.Event()
    running = [pool.submit(over.wait) for _ in range(calls)]
    try:
        yield
    finally:
        over.set()
        futures.wait(running)


def test_counts_what_runs_and_what_waits() -> None:
    pool = CountedPool(2)
    with busy(pool, 5):
        assert pool.inside == 5
    until(lambda: pool.inside == 0)
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 // 0).result()
    until(lambda: pool.inside == 0)


def test_lets_in_up_to_the_limit() -> None:
    pool = CountedPool(2)
    shedding = Shedding(pool, threads=2, delay=0.05)
    # the limit begins at the number of threads, but never below 3
    with busy(pool, 2):
        shedding.admit(sampled=True)
    until(lambda: pool.inside == 0)
    with busy(pool, 3), pytest.raises(TooMuchError) as refused:
        shedding.admit(sampled=True)
    assert refused.value.retry_seconds == RETRY_SECONDS
    until(lambda: pool.inside == 0)
    shedding.admit(sampled=True)


def test_while_delays_stand_a_call_that_waited_too_long_in_a_line_does_not_begin() -> None:
    pool = CountedPool(1)
    shedding = Shedding(pool, threads=1, delay=0.01)
    first = shedding.admit(sampled=True)
    with busy(pool, 1):  # as many as there are threads
        late = shedding.admit(sampled=True)
    deadline = time.monotonic() + 0.02
    until(lambda: time.monotonic() > deadline)
    late.begin()  # once is chance
    for at in range(5):
        shedding.sample(1.0, time.monotonic() + at)
    with pytest.raises(TooMuchError):
        late.begin()
    first.begin()  # there was a thread for it


def test_what_is_never_admitted_is_never_late() -> None:
    free = ticket()
    assert type(free) is Ticket
    free.begin()
    free.end()


def test_standing_in_line_is_delay_and_what_follows_is_not() -> None:
    """Of 20 ms before a thread is there, 30 ms for a turn and any time of its own, a call was delayed by 50 ms."""
    seen: list[float] = []
    shedding = Shedding(CountedPool(1), threads=1, delay=0.02)
    shedding.sample = lambda delay, now: seen.append(delay)  # type: ignore[method-assign]
    call, pause = shedding.admit(sampled=True), threading.Event()
    pause.wait(0.02)
    call.begin()
    began = time.monotonic()
    call.waited(0.03)
    pause.wait(0.04)  # Redis is slow, or it computes
    call.end()
    assert 0.05 <= seen.pop() < 0.05 + time.monotonic() - began


@pytest.fixture
def full(shop: Work, redis_url: str, config: ServingConfig) -> Iterator[ServingProcess]:
    process = ServingProcess(options_for(shop, redis_url, changed(config, "protection", shed=True, delay_ms=20_000.0)))
    process.start()
    yield process
    process.stop()


def test_a_full_server_refuses_at_once_and_says_when_to_come_again(full: ServingProcess) -> None:
    pool = full._protection.pool
    with grpc.insecure_channel(f"127.0.0.1:{full.port}") as channel:
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        with busy(pool, 200):  # the limit is at most 8 threads * 8
            with pytest.raises(grpc.RpcError) as refused:
                stub.Recommend(RecommendRequest(user_id="ann"), timeout=20)
            with Client(f"127.0.0.1:{full.port}", timeout=0.2) as ask, pytest.raises(ServerError, match="more to do"):
                ask.recommend(RecommendRequest(user_id="ann"))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status: Any = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
        retry = error_details_pb2.RetryInfo()
        assert status.details[0].Unpack(retry)
        assert retry.retry_delay.ToTimedelta().total_seconds() == RETRY_SECONDS
        assert stub.Recommend(RecommendRequest(user_id="ann"), timeout=20).results


def test_administrators_and_health_get_through(full: ServingProcess) -> None:
    """An administrator's call is let in, and waits its turn."""
    pool = full._protection.pool
    with Client(f"127.0.0.1:{full.port}", timeout=20) as ask:
        blocked = busy(pool, 100)
        with blocked, futures.ThreadPoolExecutor(1) as other:
            inside = pool.inside
            asked = other.submit(ask.status)
            until(lambda: pool.inside > inside)
            blocked.__exit__(None, None, None)
            assert asked.result(20).release


class Shedder(recommender_pb2_grpc.RecommenderServicer):
    """Refuses the first calls as an overloaded server does."""

    def __init__(self, refusals: int, seconds: float) -> None:
        self.refusals, self.seconds, self.calls = refusals, seconds, 0

    def Recommend(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        self.calls += 1
        if self.calls <= self.refusals:
            from serving.refusals import refuse

            refuse(context, TooMuchError("too much", self.seconds))
        return recommender_pb2.RecommendResponse(level="warm")

    BatchRecommend = SimilarItems = Rank = Explain = PreviewRules = None  # type: ignore[assignment]


@pytest.mark.parametrize(("refusals", "seconds", "answered"), [(2, 0.01, True), (1, 30.0, False)])
def test_the_client_comes_again_when_it_was_told_to(refusals: int, seconds: float, answered: bool) -> None:
    servicer, server = Shedder(refusals, seconds), grpc.server(futures.ThreadPoolExecutor(2))
    recommender_pb2_grpc.add_RecommenderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with Client(f"127.0.0.1:{port}", timeout=5) as ask:
            if answered:
                assert ask.recommend(RecommendRequest()).level == "warm"
                assert servicer.calls == refusals + 1
            else:  # there is no time left to come again
                with pytest.raises(ServerError, match="RESOURCE_EXHAUSTED: too much"):
                    ask.recommend(RecommendRequest())
                assert servicer.calls == 1
    finally:
        server.stop(None)
