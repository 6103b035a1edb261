"""Metrics of a server: what it counts is what was asked, whoever answers the scrape."""

# bazel: size=medium, imports=[cli.*]

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import pytest

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import BatchRecommendRequest, RankRequest, RecommendRequest
from aisle.v1.recommender_pb2_grpc import RecommenderStub
from benchmarks.connections import Connections
from core.candidates import Candidates
from core.errors import InputError
from core.ids import NO_ROW
from core.work import Work
from serving.answers import Answer
from serving.client import Client, ServerError
from serving.client_security import ClientSecurity
from serving.config import ServingConfig
from serving.levels import Level
from serving.process import ServingProcess
from serving.sight.exporter import Exporter
from serving.sight.metric_list import METRICS, Kind
from serving.sight.observation import details
from serving.sight.snapshot import Snapshot, SnapshotFile, read_all
from serving.tally import SECONDS, Tally
from tests.serving.conftest import options_for
from tests.serving.scraping import Scrape, metrics_of
from tests.serving.served import Served, children
from tests.serving.two_tenants import TwoTenants
from tests.waiting import until

ANN = RecommendRequest(user_id="ann", page_size=5)


@pytest.fixture
def seen(shop: Work, redis_url: str, config: ServingConfig) -> Iterator[ServingProcess]:
    process = ServingProcess(options_for(shop, redis_url, config.with_metrics("127.0.0.1:0")))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def ask_seen(seen: ServingProcess) -> Iterator[Client]:
    with Client(f"127.0.0.1:{seen.port}", timeout=20) as connected:
        yield connected


def test_a_scrape_says_what_was_asked_and_answered(seen: ServingProcess, ask_seen: Client, shop: Work) -> None:
    for _ in range(3):
        ask_seen.recommend(ANN)
    found = ask_seen.recommend(RecommendRequest(page_size=4))
    with pytest.raises(InputError):
        ask_seen.recommend(RecommendRequest(page_size=501))
    ask_seen.rank(RankRequest(user_id="ann", item_ids=["tea-1", "cup-2"]))
    sent = [Event(event_type="click", item_id="tea-1", user_id="ann", event_id="e-1", event_time=5)]
    ask_seen.write_events(sent)
    ask_seen.write_events(sent)
    at = Scrape(seen.sight.config.metrics.listen)
    assert at.value("aisle_request_seconds_count", rpc="Recommend", code="OK") == 4
    assert at.value("aisle_request_seconds_count", rpc="Recommend", code="INVALID_ARGUMENT") == 1
    assert at.value("aisle_request_seconds_count", rpc="WriteEvents") == 2
    assert at.value("aisle_answers_total", rpc="Recommend", level="warm") == 3
    assert at.value("aisle_answers_total", rpc="Recommend", level="popular") == 1
    assert at.labels("aisle_answers_total", "release") == {shop.current.resolve().name}
    assert at.value("aisle_answers_total", rpc="Rank", level="warm") == 1
    assert at.value("aisle_page_items_total") == 3 * 5 + 4 + 2
    assert at.value("aisle_page_items_total", source="popularity") >= sum(
        r.source == "popularity" for r in found.results
    )
    assert at.value("aisle_candidates_count") == 5
    assert at.value("aisle_events_total", outcome="accepted") == 1
    assert at.value("aisle_events_total", outcome="duplicate") == 1
    assert {"wait", "hydrate", "turn", "recommend", "gather", "rank", "page", "reasons"} <= at.labels(
        "aisle_stage_seconds_count", "stage"
    )
    # ann's three pages, the list she had ranked, and what `_warn` asks at the start
    assert at.value("aisle_redis_read_seconds_count", outcome="ok") == 5
    assert at.value("aisle_ready", worker="0") == 1
    assert at.value("aisle_memory_bytes", kind="resident") > 1e6
    assert at.value("aisle_requests_running") == 0
    assert at.labels("aisle_answers_total", "tenant") == {"default"}


def test_a_page_in_pieces_adds_up(seen: ServingProcess, ask_seen: Client) -> None:
    ask_seen.recommend(ANN)
    at = Scrape(seen.sight.config.metrics.listen)
    whole = at.value("aisle_stage_seconds_sum", rpc="Recommend", stage="recommend")
    parts = [at.value("aisle_stage_seconds_sum", rpc="Recommend", stage=s) for s in ("gather", "rank", "page")]
    assert all(parts)
    assert sum(parts) <= whole
    assert whole < at.value("aisle_request_seconds_sum", rpc="Recommend")
    # every candidate is on the page or removed; popular items that fill it are neither
    shown = sum(
        at.value("aisle_page_items_total", source=s)
        for s in at.labels("aisle_page_items_total", "source")
        if s not in ("fill", "trending", "new", "rule")
    )
    assert shown + at.value("aisle_candidates_removed_total") == at.value("aisle_candidates_sum")


def test_every_metric_of_the_list_and_no_other(seen: ServingProcess, ask_seen: Client) -> None:
    ask_seen.recommend(ANN)
    families = {f.name: f for f in Scrape(seen.sight.config.metrics.listen).families}
    assert set(families) == {m.name.removesuffix("_total") if m.kind is Kind.COUNTER else m.name for m in METRICS}
    for metric in METRICS:
        for sample in families[metric.name.removesuffix("_total")].samples:
            usual = {"tenant"} | ({"worker"} if metric.kind is Kind.GAUGE else set())
            assert set(sample.labels) - {"le"} == {*metric.labels} | usual, metric.name


def test_get_status_and_metrics_are_one_count(seen: ServingProcess, ask_seen: Client) -> None:
    ask_seen.recommend(ANN)
    ask_seen.recommend_batch([ANN, RecommendRequest(user_id="ann", page_size=2, placement="b")])
    at = Scrape(metrics_of(f"127.0.0.1:{seen.port}"))
    assert dict(ask_seen.status().levels) == {"warm": 3}
    assert at.value("aisle_answers_total", rpc="Recommend") == 1
    assert at.value("aisle_answers_total", rpc="BatchRecommend") == 2


def test_off_there_is_no_port_and_no_detail(server: ServingProcess, ask: Client) -> None:
    ask.recommend(ANN)
    assert metrics_of(f"127.0.0.1:{server.port}") == ""
    assert dict(ask.status().levels) == {"warm": 1}
    assert set(server.sight.snapshots()[0].counts) == {"answers"}


def test_a_call_has_the_callers_name(seen: ServingProcess) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{seen.port}") as channel:
        stub = RecommenderStub(channel)

        def named(name: str, request: RecommendRequest = ANN) -> str:
            return stub.Recommend(request, metadata=(("x-request-id", name),), timeout=20).request_id

        assert named("shop-7") == "shop-7"
        assert named("shop-7", RecommendRequest(request_id="its-own")) == "its-own"
        assert named("not an id") not in ("not an id", "")
        both = BatchRecommendRequest(requests=[ANN, RecommendRequest(user_id="ann", placement="b")])
        found = stub.BatchRecommend(both, metadata=(("x-request-id", "b"),), timeout=20)
        assert [r.request_id for r in found.responses] == ["b", "b.2"]


def test_details_are_those_of_the_candidates() -> None:
    # source a proposed rows 3, 5 and 9, source b row 5, c nothing
    ranks = np.array([[0, NO_ROW, NO_ROW], [2, 0, NO_ROW], [1, NO_ROW, NO_ROW]], np.int32)
    rows = np.array([3, 5, 9], np.int32)
    page = Answer(
        rows=rows[:1],
        scores=np.ones(1, np.float32),
        sources=("a",),
        level=Level.WARM,
        candidates=Candidates(rows, ("a", "b", "c"), np.ones((3, 3), np.float32), ranks),
        removed={},
    )
    said = [(name, *labels, n) for name, labels, n in details(page)]
    assert said == [("proposed", "a", 3), ("proposed", "b", 1), ("proposed", "c", 0), ("kept", "a", 1)]


def test_values_fall_into_their_buckets() -> None:
    tally = Tally()
    tally.note((), [("calls", ("r", "OK"), v) for v in (0.0004, 0.0005, 0.0006, 99.0)])
    total, *buckets = tally.copy()[1]["calls"]["r", "OK"]
    # an edge belongs to the bucket below it, as Prometheus's `le` says
    assert (buckets[0], buckets[1], buckets[-1], sum(buckets)) == (2, 1, 1, 4)
    assert len(buckets) == len(SECONDS) + 1
    assert total == pytest.approx(99.0015)


def test_sums_go_on_where_a_worker_ended(tmp_path: Path) -> None:
    def one(worker: str, n: float) -> None:
        tally = Tally()
        tally.note([("events", ("accepted",), n)], [("calls", ("r", "OK"), 0.001 * n)])
        counts, times = tally.copy()
        said = Snapshot(worker, "t", 1.0, counts, times, [("ready", (), 1.0)])
        SnapshotFile(tmp_path, worker, lambda: [said]).write()

    one("0", 5)
    one("1", 2)
    one("0", 3)  # in the place of the first
    first, second = read_all(tmp_path)
    assert first.counts == {"events": {("accepted",): 8}}
    assert first.times["calls"]["r", "OK"][0] == pytest.approx(0.008)
    assert second.gauges == [("ready", (), 1.0)]
    exporter = Exporter("127.0.0.1:0", lambda: read_all(tmp_path))
    try:
        at = Scrape(exporter.address)
    finally:
        exporter.stop()
    assert at.value("aisle_events_total", outcome="accepted", tenant="t") == 10
    assert at.value("aisle_request_seconds_count", rpc="r") == 3
    # both said so at the beginning of 1970: nobody takes their word for now
    assert "aisle_ready{" not in at.text
    assert at.value("aisle_worker_up") == 0


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    exporter = Exporter("127.0.0.1:0", list)
    try:
        with pytest.raises(InputError, match="cannot listen there"):
            Exporter(exporter.address, list)
    finally:
        exporter.stop()
    with pytest.raises(InputError, match="expected HOST:PORT"):
        Exporter("9464", list)


def test_workers_are_one_scrape_and_a_killed_one_is_seen(shop: Work) -> None:
    served = Served("--release", str(shop.current), "--workers", "2", "--metrics", "127.0.0.1:0")
    try:
        at = metrics_of(served.address)
        both = Connections(served.address, 2)
        for client in both.all:
            client.recommend(ANN)
        until(lambda: Scrape(at).value("aisle_answers_total") == 2)
        assert Scrape(at).labels("aisle_ready", "worker") == {"0", "1"}
        pid = both.any.status().pid
        assert pid in children(served.process.pid)
        os.kill(pid, signal.SIGKILL)
        both.close()
        until(lambda: Scrape(at).value("aisle_worker_restarts") == 1)
        until(lambda: Scrape(at).value("aisle_worker_up") == 2)
        assert Scrape(at).value("aisle_answers_total") == 2
    finally:
        served.stop()


def test_tenants_are_told_apart_and_strangers_are_nobodys(tmp_path: Path, redis_url: str) -> None:
    shops = TwoTenants(tmp_path)
    options = shops.options(redis_url)
    process = ServingProcess(replace(options, config=options.config.with_metrics("127.0.0.1:0")))
    process.start()
    address = f"127.0.0.1:{process.port}"
    try:
        for name, calls in (("north", 2), ("south", 1)):
            security = ClientSecurity(api_key=shops.keys[name, "read"])
            with Client(address, timeout=20, security=security) as ask:
                for _ in range(calls):
                    ask.recommend(RecommendRequest(user_id=f"{name}-ann", page_size=5))
        with Client(address, timeout=20) as stranger, pytest.raises(ServerError, match="an API key is needed"):
            stranger.recommend(ANN)
        at = Scrape(process.sight.config.metrics.listen)
    finally:
        process.stop()
    assert at.value("aisle_answers_total", tenant="north") == 2
    assert at.value("aisle_answers_total", tenant="south") == 1
    assert at.value("aisle_request_seconds_count", code="OK", tenant="south") == 1
    refused = {
        s.labels["tenant"]: s.value
        for s in at.samples
        if s.labels.get("code") == "UNAUTHENTICATED" and s.name.endswith("_count")
    }
    assert refused == {"": 1}
    assert at.labels("aisle_release_info", "tenant") == {"north", "south"}
    assert at.labels("aisle_ready", "tenant") == {""}  # of the process
    for name, other in (("north", "south"), ("south", "north")):
        of_one = [line for line in at.text.splitlines() if f'tenant="{name}"' in line]
        assert of_one
        assert not [line for line in of_one if f"{other}-" in line]
