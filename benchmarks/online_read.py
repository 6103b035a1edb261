"""Everything that `Recommend` needs of one person, from a Redis that holds 500,000 of them: how long a read takes.

    .venv/bin/python -m benchmarks.online_read                    # 500,000 people, 20,000 reads

A real Redis as `./aisle serve` starts it, on its Unix socket. It holds what `materialize` writes (histories of geometric length and facts) and live
events as `WriteEvents` leaves them: of one person in five, and of one session in two. Each read is serving.online_state's own, through its
connection and under its deadline, of a random person: history, facts, live events of user, visitor and session, joined. The last line of stdout is
JSON; `bytes_per_user` is the growth of Redis by people alone, keys and its own overhead included, `packed_bytes` the values alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import redis

from core.artifact import Manifest
from core.columns import Array, Columns
from core.errors import AisleError
from core.history import History
from core.ids import IdMap, person_key
from core.release import FORMAT_VERSION, KIND, ReleaseSettings
from core.schema import DAY, HOUR, EventType
from ranking.user_facts import NAMES, Snapshot
from serving.config import load_serving
from serving.embedded_redis import EmbeddedRedis
from serving.failures import StoreError
from serving.keys import Keys, session_key
from serving.online_state import OnlineState, Person
from serving.packing import LiveEvent, PackedPerson, pack_live, pack_person
from serving.redis_link import RedisLink, client
from serving.release import Release

END: Final = 20_000 * DAY
NOW: Final = END + 12 * HOUR
STATE: Final = "0" * 64
_LIVE_MEAN: Final = 5
_CHUNK: Final = 500
_SEED: Final = 7


def made_release(items: int) -> Release:
    """A release without sources: reading a person needs its items, its window and its settings."""
    ids = IdMap.of(f"item-{n}" for n in range(items))
    settings = ReleaseSettings(
        quotas={},
        weights={},
        history_events=2_000,
        warm_events=3,
        candidates=500,
        gains={EventType.PURCHASE_COMPLETE: 1.0, EventType.DETAIL_PAGE_VIEW: 0.1},
    )
    about: dict[str, Any] = {"window": [END - 365 * DAY, END], "user_state": STATE}
    manifest = Manifest(kind=KIND, format_version=FORMAT_VERSION, id="benchmark", about=about)
    none = np.empty(0, np.int32)
    return Release(
        Path("benchmark"), manifest, settings, ids, Columns({}, items), (), None, None, {}, np.ones(items, bool), none
    )


def people(n: int, mean: int, items: int, keys: Keys, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    """Key and value of each person: a history of geometric length over a year, seven facts."""
    window = keys.window(END, STATE)
    lengths = rng.geometric(1 / mean, n)
    popularity = rng.zipf(1.3, 1_000_000) % items
    for user, h in enumerate(lengths.tolist()):
        history = History(
            rng.choice(popularity, h).astype(np.int32),
            np.sort(rng.integers(END - 365 * DAY, END, h)),
            np.full(h, EventType.PURCHASE_COMPLETE.code, np.int8),
            np.ones(h, np.float32),
        )
        facts = Snapshot(END // DAY - 3, rng.random(len(NAMES), np.float32))
        yield keys.history(window, str(person_key(f"user-{user}"))), pack_person(PackedPerson(user, history, facts))


def live_events(rng: np.random.Generator, items: int, first: int) -> list[bytes]:
    """One list, newest first."""
    n = int(rng.geometric(1 / _LIVE_MEAN))
    times = np.sort(rng.integers(END, NOW, n))[::-1].tolist()
    kind = EventType.DETAIL_PAGE_VIEW.code
    drawn = rng.integers(0, items, n).tolist()
    return [
        pack_live(LiveEvent(first + e, kind, t, f"item-{i}")) for e, (t, i) in enumerate(zip(times, drawn, strict=True))
    ]


def fill(store: redis.Redis, keys: Keys, users: int, mean: int, items: int) -> dict[str, float]:
    """Write everybody, then live lists; what it came to."""
    rng = np.random.default_rng(_SEED)
    before, packed = _memory(store), 0
    everyone = people(users, mean, items, keys, rng)
    while chunk := dict(islice(everyone, _CHUNK)):
        store.mset(chunk)
        packed += sum(map(len, chunk.values()))
    grown = _memory(store) - before
    store.set(keys.complete(keys.window(END, STATE)), json.dumps({"users": users}))
    for start in range(0, users, _CHUNK):
        pipeline = store.pipeline(transaction=False)
        for user in range(start, min(start + _CHUNK, users)):
            for who, every in ((str(person_key(f"user-{user}")), 5), (session_key(f"session-{user}"), 2)):
                if user % every == 0:
                    pipeline.rpush(keys.live(who), *live_events(rng, items, 1_000 * user))
        pipeline.execute()
    return {"bytes_per_user": round(grown / users, 1), "packed_bytes": round(packed / users, 1)}


def measure(state: OnlineState, release: Release, users: int, reads: int) -> tuple[Array, dict[str, float]]:
    """Milliseconds of each read, and what was read; one that missed its deadline is counted as failed, and its time with the others."""
    chosen = np.random.default_rng(_SEED + 1).integers(0, users, reads).tolist()
    milliseconds, events, facts, failed = np.empty(reads), 0, 0, 0
    for n, user in enumerate(chosen):
        visitor = f"visitor-{user}" if user % 3 == 0 else ""
        person = Person(f"user-{user}", visitor, f"session-{user}")
        start = time.perf_counter()
        found = state.read(release, person, NOW)
        milliseconds[n] = 1e3 * (time.perf_counter() - start)
        failed += found.failure is not None
        events += len(found.history)
        facts += found.facts is not None
    return milliseconds, {"events_per_read": round(events / reads, 1), "with_facts": facts, "failed": failed}


def run(folder: Path, users: int, reads: int, mean: int, items: int) -> dict[str, Any]:
    """Start a Redis in `folder`, fill it, read from it."""
    config, keys = load_serving(), Keys("default")
    server = EmbeddedRedis(folder)
    server.launch()
    try:
        server.wait()
        store = client(server.url, 60, retries=0)
        store.config_set("auto-aof-rewrite-percentage", 0)  # filling is not what is measured
        filled = fill(store, keys, users, mean, items)
        release, link = made_release(items), RedisLink(server.url, config.redis)
        link.warm()
        state = OnlineState(link, keys, config.events.live_per_person)
        measure(state, release, users, min(reads, 1_000))
        milliseconds, read = measure(state, release, users, reads)
        return {
            "users": users,
            "reads": reads,
            "p50_ms": round(float(np.percentile(milliseconds, 50)), 3),
            "p99_ms": round(float(np.percentile(milliseconds, 99)), 3),
            "max_ms": round(float(milliseconds.max()), 3),
            "read_deadline_ms": config.redis.read_deadline_ms,
            **read,
            **filled,
            "redis_gb": round(_memory(store) / 1e9, 3),
            **_floor(link, reads),
        }
    finally:
        server.stop()


def _floor(link: RedisLink, reads: int) -> dict[str, float]:
    """The smallest round trip that the same connection can do: what machine and Redis cost alone, with whatever else runs on them."""
    milliseconds = np.empty(reads)
    for n in range(reads):
        start = time.perf_counter()
        link.read([("GET", "x")])
        milliseconds[n] = 1e3 * (time.perf_counter() - start)
    return {f"floor_p{q}_ms": round(float(np.percentile(milliseconds, q)), 3) for q in (50, 99)}


def _memory(store: redis.Redis) -> int:
    info: Any = store.info("memory")
    return int(info["used_memory"])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Read people from a Redis that holds many.")
    parser.add_argument("--users", type=int, default=500_000)
    parser.add_argument("--reads", type=int, default=20_000)
    parser.add_argument("--mean", type=int, default=30, help="events of a history")
    parser.add_argument("--items", type=int, default=50_000)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aisle-read-") as folder:
        try:
            print(json.dumps(run(Path(folder), a.users, a.reads, a.mean, a.items)))
        except (AisleError, StoreError) as e:
            print(f"error: {e}", file=sys.stderr)
            sys.exit(1)


if __name__ == "__main__":
    main()
