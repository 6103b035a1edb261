"""What trends within the hour: what it costs a process to keep it, and a request to use it.

    .venv/bin/python -m benchmarks.trending                                   # 200,000 events of an hour, 100,000 items
    .venv/bin/python -m benchmarks.trending --release WORK/releases/current   # and the request path with and without a trend

A real Redis as `./aisle serve` starts it holds an hour of events as `WriteEvents` leaves them, popular items more often than others; `Trending` reads
it as at the start of a server, without the pauses for requests, and publishes. With --release the pages of a stranger, of an item and of a person of 50 events
are answered with and without 1,000 items that trend, turn by turn. The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.online_read import made_release
from core.history import Query
from core.schema import EVENT_TYPES, HOUR, EventType
from serving.answers import Request
from serving.config import load_serving
from serving.embedded_redis import EmbeddedRedis
from serving.keys import Keys
from serving.recommender_service import wall_clock
from serving.redis_link import RedisLink, client
from serving.release import Release
from serving.request_path import answer
from serving.resident import Resident, made_up_history
from serving.trend import Trend
from serving.trending import Trending

_SEED: Final = 7
_CHUNK: Final = 1_000
_TRENDING: Final = 1_000
_KINDS: Final = (EventType.DETAIL_PAGE_VIEW, EventType.ADD_TO_CART, EventType.PURCHASE_COMPLETE)


def fill(url: str, stream: str, events: int, items: int) -> None:
    """Write an hour of events, nine views for a cart and a purchase each twenty events; items by a Zipf law."""
    rng, now, store = np.random.default_rng(_SEED), wall_clock(), client(url, 60, retries=0)
    chosen = np.minimum(rng.zipf(1.2, events), items) - 1
    kinds, ago = rng.choice(3, events, p=(0.9, 0.05, 0.05)), rng.integers(0, HOUR, events)
    for at in range(0, events, _CHUNK):
        pipeline = store.pipeline(transaction=False)
        for n in range(at, min(at + _CHUNK, events)):
            columns = {
                "event_type": str(_KINDS[kinds[n]]),
                "event_time": now - int(ago[n]),
                "item_id": f"item-{chosen[n]}",
                "user_id": f"user-{n % 5_000}",
                "session_id": f"session-{n % 9_000}",
                "event_id": f"event-{n}",
            }
            pipeline.xadd(stream, {"event": json.dumps(columns)})
        pipeline.execute()


def keep(folder: Path, events: int, items: int) -> dict[str, Any]:
    """Read the hour and publish it."""
    config, keys, server = load_serving(), Keys("default"), EmbeddedRedis(folder)
    server.launch()
    try:
        server.wait()
        fill(server.url, keys.events, events, items)
        release = made_release(items)
        one = Trending(RedisLink(server.url, config.redis), keys, config.trending, Resident(release, ""), wall_clock)
        start, used, longest, more = time.perf_counter(), time.process_time(), 0.0, True
        while more:
            began = time.perf_counter()
            more = one.read()
            longest = max(longest, time.perf_counter() - began)
        seconds, used = time.perf_counter() - start, time.process_time() - used
        counted = int(one.counts.sum())
        publishing = []
        for _ in range(2):  # the first looks every item up, the others only what is new
            began = time.perf_counter()
            one.publish()
            publishing.append(round(1e3 * (time.perf_counter() - began), 1))
            fill(server.url, keys.events, 1, items)
            one.read()
        trend = one.of(release)
    finally:
        server.stop()
    return {
        "events": events,
        "counted": counted,
        "items": items,
        "items_with_events": int(np.count_nonzero(trend.values)),
        "trending": trend.items,
        "read_s": round(seconds, 2),
        "cpu_us_per_event": round(1e6 * used / events, 1),
        "longest_read_ms": round(1e3 * longest, 1),
        "first_publish_ms": publishing[0],
        "publish_ms": publishing[1],
    }


def pages(release: Release, rounds: int) -> dict[str, Any]:
    """Median milliseconds of the request path without and with a trend, by who asks and for how many items."""
    rng, n = np.random.default_rng(_SEED), len(release.item_ids)
    rows = rng.choice(n, min(n, _TRENDING), replace=False).astype(np.int32)
    counts = np.zeros((len(rows), len(EVENT_TYPES)), np.int32)
    counts[:, EventType.PURCHASE_COMPLETE.code] = rng.integers(1, 50, len(rows))
    order = Trend.of(release, rows, counts, 1.0).order
    end = release.window_end
    queries = {
        "stranger": Query(end),
        "item": Query(end, context=release.fill[:1]),
        "person": Query(end, history=made_up_history(release.fill[:50], end)),
    }
    found = {}
    for (name, query), k in ((q, k) for q in queries.items() for k in (10, 50)):
        asked = (Request(query, k), Request(query, k, trending=order, lead=k // 2))
        milliseconds = np.empty((2, rounds))
        for at in range(rounds):
            for which, request in enumerate(asked):
                start = time.perf_counter()
                answer(release, request)
                milliseconds[which, at] = 1e3 * (time.perf_counter() - start)
        without, with_trend = np.median(milliseconds, axis=1).round(3).tolist()
        found[f"{name}_{k}"] = {"without_ms": without, "with_ms": with_trend, "more_ms": round(with_trend - without, 3)}
    return found


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2_000)
    parser.add_argument("--release", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = keep(Path(folder), asked.events, asked.items)
    if asked.release is not None:
        found["pages"] = pages(Release.open(asked.release), asked.rounds)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
