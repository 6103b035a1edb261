"""The loop closed: served and killed, written to the log, prepared - each event once."""

# bazel: size=large, imports=[cli.*]

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest
from benchmarks import event_loop
from core.config import load_pipeline
from core.prepared import Prepared
from core.schema import Column
from core.work import Work
from data_prep.prepare import run as prepare
from serving.client import Client
from serving.embedded_redis import EmbeddedRedis
from serving.process import ServingProcess
from tests.serving.conftest import bare, changed, options_for
from tests.serving.shop import END, make_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Work:
    return make_shop(tmp_path_factory.mktemp("shop"))


def aisle(*arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_everything_is_killed_and_no_event_is_lost_or_there_twice(shop: Work, tmp_path: Path) -> None:
    """benchmarks.event_loop at 2,000 events with one kill each; its own figures come from 200,000 and two."""
    kills = ((0.2, event_loop.SERVICE), (0.45, event_loop.SINK), (0.7, event_loop.REDIS))
    found = event_loop.run(shop.current, tmp_path, 2_000, kills=kills, batch=20, seconds=240)
    assert found["kills"] == {"service": 1, "sink": 1, "redis": 1}
    assert (found["acknowledged"], found["in_log"], found["missing"], found["duplicates"]) == (2_000, 2_000, 0, 0)


def test_what_the_sink_writes_prepare_reads_once(shop: Work, tmp_path: Path) -> None:
    """From the calls of a storefront to prepared events. The second sink run finds only what came after the first."""
    data, config = tmp_path / "data", load_pipeline()
    embedded = tmp_path / "work"
    embedded.mkdir()
    assert aisle("events", "sink", "--data", data, "--work", embedded)["events"] == 0  # a Redis of its own, empty
    redis = EmbeddedRedis(embedded / "redis")
    redis.launch()
    redis.wait()
    process = ServingProcess(options_for(shop, redis.url, changed(bare(), "log", share=1.0)))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        # ten a day for six days: one purchase in two
        events = [
            Event(
                event_type="purchase-complete" if n % 2 else "detail-page-view",
                event_time=END + n * 8_640_000_000,
                item_id=f"tea-{1 + n % 6}",
                user_id=f"u{n % 4}",
                event_id=f"e-{n}",
                price=2.5,
            )
            for n in range(60)
        ]
        assert ask.write_events(events).accepted == 60
        first = aisle("events", "sink", "--data", data, "--redis", redis.url)
        assert ask.write_events(events[:10]).duplicates == 10
        assert (
            ask.write_events([Event(event_type="click", item_id="cup-1", user_id="u1", event_time=END)]).accepted == 1
        )
        ask.recommend(RecommendRequest(user_id="ann", request_id="r-1"))
    process.stop()
    second = aisle("events", "sink", "--data", data, "--redis", redis.url, "--batch", 10)
    redis.stop()
    # END lies at 22:13 of its day, so six days of events touch seven
    assert (first["events"], first["files"]) == (60, 7)
    assert (second["events"], second["recommendations"], second["files"]) == (1, 1, 2)

    prepared = Prepared(prepare(data, Work(tmp_path / "nights"), config, lambda _: None))
    assert prepared.manifest.about["counts"]["rows_read"] == prepared.manifest.about["counts"]["events"] == 61
    assert prepared.manifest.about["counts"]["rejected"] == 0
    assert prepared.manifest.about["events_by_type"] == {"click": 1, "detail-page-view": 30, "purchase-complete": 30}
    times = prepared.events.numbers(Column.TIME)
    assert (times.min(), times.max()) == (END, END + 59 * 8_640_000_000)
