"""`top`: what two scrapes come to, and the command against a real server."""

# bazel: size=medium, imports=[cli.*]

from __future__ import annotations

import http.client
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisle.v1.recommender_pb2 import RecommendRequest
from core.work import Work
from serving.client import Client
from serving.sight.view import NoMetricsError, Series, frame, quantile, scraped
from tests.serving.served import Served
from tests.serving.test_commands import aisle, refused


def key(name: str, **labels: str) -> tuple[str, tuple[tuple[str, str], ...]]:
    return name, tuple(sorted(labels.items()))


def test_a_port_that_speaks_no_http_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def grpc_answers(*_: object, **__: object) -> None:
        raise http.client.BadStatusLine("\x00\x00\x06\x04")

    monkeypatch.setattr("urllib.request.urlopen", grpc_answers)
    with pytest.raises(NoMetricsError, match=r"50051/metrics: no metrics there"):
        scraped("http://127.0.0.1:50051/metrics")


def test_a_frame_is_what_came_between() -> None:
    def scrape(at: float, warm: float, popular: float, quick: float, slow: float) -> Series:
        latency = {"rpc": "Recommend", "code": "OK"}
        return Series(
            at,
            {
                key("aisle_answers_total", level="warm", release="r1", arm="a"): warm,
                key("aisle_answers_total", level="popular", release="r2", arm=""): popular,
                key("aisle_degraded_total", reason="redis-timeout"): popular,
                key("aisle_request_seconds_bucket", le="0.01", **latency): quick,
                key("aisle_request_seconds_bucket", le="0.02", **latency): quick + slow,
                key("aisle_request_seconds_bucket", le="+Inf", **latency): quick + slow,
                key("aisle_request_seconds_count", **latency): quick + slow,
            },
        )

    seen = frame(scrape(14.0, 40, 20, 30, 30), scrape(10.0, 10, 10, 10, 10))
    # 30 warm and 10 popular within 4 seconds
    assert seen["levels"] == {"warm": 0.75, "popular": 0.25}
    assert seen["releases"] == {"r1": 0.75, "r2": 0.25}
    assert seen["arms"] == {"a": 0.75}
    assert seen["degraded"] == {"redis-timeout": 0.25}
    # 40 calls: 20 up to 10 ms, 20 up to 20 ms; the 36th is the 16th of 20 in the upper bucket
    assert seen["calls"]["Recommend"] == {"rate": 10.0, "p50_ms": 10.0, "p90_ms": 18.0, "p99_ms": 19.8}


def test_a_restarted_server_has_no_negative_rates() -> None:
    counter = key("aisle_answers_total", level="warm", release="r", arm="")
    seen = frame(Series(2.0, {counter: 3.0}), Series(1.0, {counter: 500.0}))
    assert seen["levels"] == {}


@given(st.lists(st.floats(0, 9.99), min_size=1, max_size=50), st.floats(0.01, 1))
def test_a_quantile_is_in_the_bucket_of_the_true_one(values: list[float], q: float) -> None:
    edges = [*map(float, range(1, 11)), float("inf")]
    buckets = [(edge, float(sum(v <= edge for v in values))) for edge in edges]
    true = float(np.quantile(values, q, method="inverted_cdf"))
    found = quantile(buckets, q)
    assert found is not None
    assert np.ceil(true) - 1 <= found <= max(np.ceil(true), 1)


def test_top_of_a_server(shop: Work) -> None:
    served = Served("--release", str(shop.current), "--metrics", "127.0.0.1:0")
    stopping = threading.Event()

    def load() -> None:
        with Client(served.address, timeout=20) as ask:
            while not stopping.is_set():
                ask.recommend(RecommendRequest(user_id="ann", page_size=5))

    thread = threading.Thread(target=load)
    thread.start()
    try:
        seen = aisle("top", "--server", served.address, "--once", "--every", 1)
    finally:
        stopping.set()
        thread.join()
        served.stop()
    assert seen["calls"]["Recommend"]["rate"] > 1
    assert seen["calls"]["Recommend"]["p99_ms"] >= seen["calls"]["Recommend"]["p50_ms"] > 0
    assert seen["levels"] == {"warm": 1.0}
    assert seen["answering"] == [shop.current.resolve().name]
    assert seen["redis_up"] is True
    assert "Recommend" in seen["stderr"]  # the tables for people
    assert "ladder" in seen["stderr"]


@pytest.mark.usefixtures("ask")
def test_a_server_without_metrics_says_how_to_have_them(server: object) -> None:
    assert "serve --metrics" in refused("top", "--server", f"127.0.0.1:{server.port}", "--once")  # type: ignore[attr-defined]
    assert "expected a URL" in refused("top", "--metrics", "nonsense", "--once")
    assert "no metrics there" in refused("top", "--metrics", "http://127.0.0.1:1/metrics", "--once")
