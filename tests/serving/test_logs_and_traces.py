"""What a call leaves in the logs and in a collector of traces."""

# bazel: size=medium, imports=[cli.*]

from __future__ import annotations

import gzip
import json
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import grpc
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest
from aisle.v1.recommender_pb2_grpc import RecommenderStub
from core.work import Work
from serving.client import Client
from serving.config import ServingConfig
from serving.process import ServingProcess
from serving.sight import observation
from serving.sight.logs import CallLog, JsonLines
from serving.sight.observation import Observation
from serving.sight.watching import Ended
from tests.serving.conftest import changed, options_for
from tests.serving.served import Served

ANN = RecommendRequest(user_id="ann-who-is-secret", visitor_id="visitor-9", page_size=5, context_item_ids=["tea-2"])


def ended(request_id: str, code: str = "OK") -> Ended:
    return Ended(Observation("Recommend", request_id), "shop", code, 10.0, 10.001, 10.0125, 1_700_000_000.25)


def lines(records: list[logging.LogRecord]) -> list[dict[str, Any]]:
    return [json.loads(JsonLines().format(r)) for r in records]


def test_a_line_a_call(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "aisle.calls"):
        CallLog(1.0)(ended("a"))
    (line,) = lines(caplog.records)
    assert line["logger"] == "aisle.calls"
    # 12.5 ms from arrival to end, the first of them in the queue
    assert (line["request_id"], line["rpc"], line["code"], line["tenant"]) == ("a", "Recommend", "OK", "shop")
    assert (line["latency_ms"], line["wait_ms"]) == (12.5, 1.0)


def test_a_share_of_calls_and_every_failure(caplog: pytest.LogCaptureFixture) -> None:
    log = CallLog(0.2)
    with caplog.at_level(logging.INFO, "aisle.calls"):
        for n in range(500):
            log(ended(f"r{n}"))
        usual = len(caplog.records)
        log(ended("r1", "UNAVAILABLE"))
        log(ended("r2", "INTERNAL"))
    assert 60 < usual < 140  # 100 expected, 9 the standard deviation
    assert len(caplog.records) == usual + 2
    assert [r["code"] for r in lines(caplog.records[usual:])] == ["UNAVAILABLE", "INTERNAL"]


def test_an_exception_is_one_line_without_its_words() -> None:
    observation.begin(Observation("Recommend", "call-1"))
    try:
        raise KeyError("ann-who-is-secret")
    except KeyError:
        record = logging.getLogger("x").makeRecord("x", logging.ERROR, "f", 1, "failed\nbadly", (), None)
        record.exc_info = sys.exc_info()
        text = JsonLines().format(record)
    finally:
        observation.end()
    line = json.loads(text)
    assert "\n" not in text
    assert (line["error"], line["request_id"], line["level"]) == ("KeyError", "call-1", "error")
    assert "test_an_exception_is_one_line" in line["stack"][-1]
    assert "secret" not in text


def test_a_server_logs_json_and_nothing_of_the_person(shop: Work, tmp_path: Path) -> None:
    settings = {"logging": {"format": "json", "calls": 1.0}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings))
    served = Served("--release", str(shop.current), "--config", str(tmp_path / "mine.yaml"))
    try:
        with Client(served.address, timeout=20) as ask:
            answer = ask.recommend(ANN)
            ask.write_events([Event(event_type="click", item_id="tea-1", user_id="ann-who-is-secret")])
    finally:
        said = served.stop()
    # what the command says to people is not of the service
    calls = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    seen = {c["rpc"]: c for c in calls if c["logger"] == "aisle.calls"}
    assert set(seen) == {"Recommend", "WriteEvents"}
    assert seen["Recommend"]["request_id"] == answer.request_id
    assert seen["Recommend"]["release"] == answer.release
    assert (seen["Recommend"]["ladder"], seen["Recommend"]["items"], seen["Recommend"]["code"]) == (
        answer.level,
        5,
        "OK",
    )
    for private in ("ann-who-is-secret", "visitor-9", "tea-2", *(r.item_id for r in answer.results)):
        assert private not in said


class Collector:
    """Takes OTLP over HTTP, as a collector of traces does."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.resources: list[dict[str, str]] = []

    def take(self, body: bytes) -> None:
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append({a.key: a.value.string_value for a in resource.resource.attributes})
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)


@contextmanager
def collecting() -> Iterator[tuple[str, Collector]]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            packed = self.headers.get("content-encoding") == "gzip"
            collector.take(gzip.decompress(body) if packed else body)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/traces", collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_traces_reach_a_collector(shop: Work, redis_url: str, config: ServingConfig) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    with collecting() as (endpoint, collector):
        process = ServingProcess(options_for(shop, redis_url, changed(config, "traces", endpoint=endpoint, share=0.0)))
        process.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
                stub = RecommenderStub(channel)
                stub.Recommend(ANN, timeout=20)  # of a share of none
                stub.Recommend(ANN, timeout=20, metadata=(("traceparent", f"00-{trace}-{parent}-00"),))
                sampled = (("traceparent", f"00-{trace}-{parent}-01"),)
                answer = stub.Recommend(ANN, timeout=20, metadata=sampled)
                with pytest.raises(grpc.RpcError):
                    stub.Recommend(RecommendRequest(page_size=999), timeout=20, metadata=sampled)
        finally:
            process.stop()  # hands over what waits
    good, bad = (s for s in collector.spans if s.name == "Recommend")
    assert {s.trace_id.hex() for s in collector.spans} == {trace}
    assert {s.parent_span_id.hex() for s in (good, bad)} == {parent}
    about = {a.key: a.value.string_value for a in good.attributes}
    assert (about["rpc.grpc.status_code"], about["aisle.request_id"]) == ("OK", answer.request_id)
    assert bad.status.code == bad.status.STATUS_CODE_ERROR
    steps = {s.name: s for s in collector.spans if s.parent_span_id == good.span_id}
    assert set(steps) == {"wait", "hydrate", "turn", "recommend", "gather", "rank", "page", "reasons"}
    for step in steps.values():
        assert good.start_time_unix_nano <= step.start_time_unix_nano <= step.end_time_unix_nano
        assert step.end_time_unix_nano <= good.end_time_unix_nano
    order = [
        steps[name].start_time_unix_nano for name in ("wait", "hydrate", "turn", "gather", "rank", "page", "reasons")
    ]
    assert order == sorted(order)
    assert steps["recommend"].start_time_unix_nano <= steps["gather"].start_time_unix_nano
    assert collector.resources[0]["service.name"] == "aisle"
    assert "secret" not in str(collector.spans)


def test_a_share_of_calls_is_traced(shop: Work, redis_url: str, config: ServingConfig) -> None:
    with collecting() as (endpoint, collector):
        process = ServingProcess(options_for(shop, redis_url, changed(config, "traces", endpoint=endpoint, share=1.0)))
        process.start()
        try:
            with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
                ask.recommend(ANN)
        finally:
            process.stop()
    assert [s.name for s in collector.spans if not s.parent_span_id] == ["Recommend"]
