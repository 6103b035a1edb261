"""The open loop against a real gRPC server that refuses, degrades and holds back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent import futures

import grpc
import pytest

from aisle.v1.recommender_pb2 import RecommendRequest, RecommendResponse, Result
from aisle.v1.recommender_pb2_grpc import RecommenderServicer, add_RecommenderServicer_to_server
from benchmarks.open_loop import OpenLoop, summary
from benchmarks.soak import differences
from tests.waiting import until

PAGE = [Result(item_id=str(n)) for n in range(10)]
Answering = Callable[[int, grpc.ServicerContext], RecommendResponse]


class Server(RecommenderServicer):
    """Answers the n-th call (from 0) as `answering` says."""

    SimilarItems = Rank = Explain = PreviewRules = BatchRecommend = None  # type: ignore[assignment]

    def __init__(self) -> None:
        self.answering: Answering = lambda _, __: RecommendResponse(results=PAGE, level="warm", release="r")
        self.asked, self._lock = 0, threading.Lock()

    def Recommend(self, request: RecommendRequest, context: grpc.ServicerContext) -> RecommendResponse:  # noqa: N802
        with self._lock:
            number, self.asked = self.asked, self.asked + 1
        return self.answering(number, context)


@pytest.fixture
def server() -> Iterator[tuple[Server, str]]:
    running, servicer = grpc.server(futures.ThreadPoolExecutor(8)), Server()
    add_RecommenderServicer_to_server(servicer, running)
    port = running.add_insecure_port("127.0.0.1:0")
    running.start()
    yield servicer, f"127.0.0.1:{port}"
    running.stop(None)


def test_calls_go_on_while_one_is_held_and_its_wait_is_counted(server: tuple[Server, str]) -> None:
    servicer, address = server
    others = threading.Event()

    def answering(number: int, context: grpc.ServicerContext) -> RecommendResponse:
        if number == 0:
            others.wait(20)
        elif number == 20:
            others.set()
        return RecommendResponse(results=PAGE)

    servicer.answering = answering
    with OpenLoop(address, ["a", "b"], 200) as load:
        until(lambda: len(load.calls) > 20)
    slowest = max(load.calls, key=lambda c: c.seconds)
    # it was answered when the 20th after it had come, one each 5 ms
    assert slowest.seconds >= 0.095
    assert summary(load.calls)["failed"] == 0


def test_unavailable_is_sent_again_and_counted(server: tuple[Server, str]) -> None:
    servicer, address = server

    def answering(number: int, context: grpc.ServicerContext) -> RecommendResponse:
        if number % 2 == 0:
            context.abort(grpc.StatusCode.UNAVAILABLE, "gone")
        return RecommendResponse(results=PAGE, fallback_reason="redis-timeout")

    servicer.answering = answering
    with OpenLoop(address, ["a"], 20) as load:
        until(lambda: len(load.calls) >= 4)
    found = summary(load.calls)
    assert (found["failed"], found["short_pages"]) == (0, 0)
    assert found["sent_again"] >= 1
    assert found["degraded"] == {"redis-timeout": len(load.calls)}
    assert not any(c.clean for c in load.calls)


def test_another_error_is_a_failure_at_once(server: tuple[Server, str]) -> None:
    servicer, address = server

    def answering(_: int, context: grpc.ServicerContext) -> RecommendResponse:
        context.abort(grpc.StatusCode.INTERNAL, "a bug")
        raise AssertionError

    servicer.answering = answering
    with OpenLoop(address, ["a"], 20) as load:
        until(lambda: len(load.calls) >= 2)
    assert {(c.attempts, c.status) for c in load.calls} == {(1, "INTERNAL")}
    assert summary(load.calls)["statuses"] == {"INTERNAL: a bug": len(load.calls)}


def test_counts_that_differ_are_named(server: tuple[Server, str]) -> None:
    from collections import Counter

    with OpenLoop(server[1], ["a"], 50) as load:
        until(lambda: len(load.calls) >= 5)
    n = len(load.calls)
    counted = Counter({"levels.warm": n, "events_accepted": 3, "pages.logged": n - 1, "pages.dropped": 1})
    assert differences(counted, load.calls, 3) == {}
    assert differences(counted + Counter({"levels.warm": 1}), load.calls, 4) == {
        "events_accepted": [3, 4],
        "levels.warm": [n + 1, n],
    }
