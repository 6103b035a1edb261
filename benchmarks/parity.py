"""Features three ways for the same requests: joined for training, read online, and logged by the server. They must be the same numbers.

    .venv/bin/python -m benchmarks.parity --data DATA --work WORK [--data DATA --work WORK]... --requests 10000

For each shop (`./aisle nightly --data DATA --work WORK` was run): a real server with its own Redis answers requests of people, visitors and
strangers, with live events written between them, on a clock that begins at the end of the release's window. Then

  online   serving.online_state reads the person right after the answer, and ranking.features makes the matrix;
  logged   `events sink` moves pages and events to Parquet, from which the matrix is decoded;
  joined   `prepare` reads the data with the new events, and pipeline.candidates.Past computes the features of the request as training would,
           with the sources and item statistics of the release, and histories and facts as of the request.

DATA and WORK are not changed: it all happens on hard links in a temporary folder. The last line of stdout is JSON: `mismatches` counts values that
are not the same float32, and candidates that are on one side only; exit 1 when there are any.
"""

# bazel: imports=[cli.*]

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest
from core import atomic
from core.candidates import gather
from core.columns import Array
from core.config import PipelineConfig, load_pipeline
from core.errors import AisleError
from core.event_log import RECOMMENDATIONS
from core.history import Query
from core.prepared import Prepared
from core.schema import HOUR, MINUTE, SECOND, Column, EventType
from core.work import Work
from data_prep.prepare import run as prepare
from pipeline.candidates import Past
from pipeline.page_log import LoggedPage, pages_of
from pipeline.sink import Sink, locked
from pipeline.skew import Comparison
from ranking.feature_list import NAMES
from ranking.features import matrix
from serving.client import Client
from serving.config import ServingConfig, load_serving
from serving.embedded_redis import EmbeddedRedis
from serving.keys import Keys
from serving.online_state import OnlineState, Person
from serving.process import ProcessOptions, ServingProcess
from serving.redis_link import RedisLink, client
from serving.release import Release
from serving.user_state import UserState

Say = Callable[[str], None]
_SEED: Final = 3
_ROUND: Final = 250  # requests between two runs of the sink
_TYPES: Final = (EventType.DETAIL_PAGE_VIEW, EventType.ADD_TO_CART, EventType.PURCHASE_COMPLETE)
_PAGE: Final = 10
_PATIENCE_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Asked:
    """One request, and what the online read made of it."""

    key: str  # person key
    query: Query
    rows: Array  # candidates
    features: Array


@dataclass
class Tally:
    """What was asked."""

    events: int = 0
    with_live_events: int = 0
    with_facts: int = 0
    with_history: int = 0


@dataclass
class Shop:
    """A served release and a client of it, on a clock of its own."""

    release: Release
    people: list[str]  # person keys
    ask: Client
    state: OnlineState
    exclude_seen: bool
    whole_minutes: bool  # the shop's own clock has no seconds
    now: int
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(_SEED))
    tally: Tally = field(default_factory=Tally)

    def visit(self, number: int) -> Asked:
        """Somebody does something, or not, and asks; the state is read as serving read it."""
        self.now += int(self.rng.integers(1, 10 * SECOND))
        person = self._person(number)
        if self.rng.random() < 0.6:
            self._act(person, number)
        context = self.rng.integers(0, len(self.release.item_ids), int(self.rng.random() < 0.3)).astype(np.int32)
        request = RecommendRequest(
            request_id=f"r-{number}",
            user_id=person.user_id,
            visitor_id=person.visitor_id,
            context_item_ids=[self.release.item_ids[r] for r in context.tolist()],
            exclude_seen=self.exclude_seen,
            page_size=_PAGE,
        )
        answer = self.ask.recommend(request)
        if answer.degraded:
            raise AisleError(f"request {number}: {answer.fallback_reason}; nothing can be compared")
        return self._read(person, context)

    def _read(self, person: Person, context: Array) -> Asked:
        release, found = self.release, self.state.read(self.release, person, self.now)
        assert release.table is not None
        query = Query(self.now, found.user, found.history, context, facts=found.facts, attributes=found.attributes)
        excluded = excluded_of(query, exclude_seen=self.exclude_seen)
        candidates = gather(release.sources, release.settings.quotas, query, excluded)
        self.tally.with_facts += found.facts is not None
        self.tally.with_live_events += bool(found.live)
        self.tally.with_history += len(found.history) > 0
        return Asked(person.keys[0], query, candidates.rows, matrix(query, candidates, release.table, release.sources))

    def _person(self, number: int) -> Person:
        if self.rng.random() < 0.1:
            return Person(user_id=f"stranger-{number % 40}")
        kind, _, name = self.people[int(self.rng.integers(len(self.people)))].partition(":")
        return Person(user_id=name) if kind == "u" else Person(visitor_id=name)

    def _act(self, person: Person, number: int) -> None:
        n = int(self.rng.integers(1, 4))
        of_popular = self.release.fill[: max(len(self.release.fill) // 10, 1)]
        rows = np.where(
            self.rng.random(n) < 0.5, self.rng.choice(of_popular, n), self.rng.integers(0, len(self.release.fill), n)
        )
        # some of them at one moment, as a basket is
        times = self.now - 1 - self.rng.integers(0, 2, n)
        events = [
            Event(
                event_type=_TYPES[int(self.rng.integers(len(_TYPES)))],
                item_id=self.release.item_ids[row],
                user_id=person.user_id,
                visitor_id=person.visitor_id,
                event_time=at,
                **self._name(number, e),
            )
            for e, (row, at) in enumerate(zip(rows.tolist(), times.tolist(), strict=True))
        ]
        self.tally.events += self.ask.write_events(events).accepted

    def _name(self, number: int, e: int) -> dict[str, Any]:
        """Every other event has no id and is known by all that it says.

        Not where the shop's own events have none and a clock of whole minutes: one such event between the minutes, and `prepare` would take equal
        rows of the old events for resends, which it did not when the release was made.
        """
        if e % 2 or self.whole_minutes:
            return {"event_id": f"parity-{number}-{e}"}
        return {"quantity": 1.0 + e, "price": 2.5, "position": 1 + number}


def excluded_of(query: Query, *, exclude_seen: bool) -> Array:
    """Item rows that a page never has, int32 ascending."""
    had = query.history.items[query.history.gains > 0] if exclude_seen else query.context[:0]
    return np.unique(np.concatenate([had, query.context])).astype(np.int32)


def run(data: Path, work: Work, config: PipelineConfig, folder: Path, requests: int, say: Say) -> dict[str, Any]:
    """Ask and compare, in the empty `folder`.

    Raises:
        AisleError: The release has no ranker, or an answer was degraded.
    """
    release = Release.open(work.current)
    if release.scorer is None:
        raise AisleError(f"{release.path}: no ranker, so no features are logged")
    copy, again = folder / "data", Work(folder / "work")
    atomic.link_tree(data, copy)
    latest = work.latest("prepare")
    atomic.link_tree(latest, again.stage("prepare", latest.name))
    again.set_latest("prepare", latest.name)
    before = Prepared(latest)
    exclude_seen = before.seen(config.evaluation.seen) == "remove"
    whole_minutes = not (before.events.numbers(Column.TIME) % MINUTE).any()
    online, online_seconds = Comparison((0, 0)), time.perf_counter()
    asked: dict[str, tuple[str, int, Array]] = {}
    with served(work, folder / "redis") as (address, url, clock), locked(copy), Client(address, timeout=60) as ask:
        clock.shop = shop = _shop(release, work, ask, url, exclude_seen, whole_minutes)
        store = client(url, 60, retries=0)
        sink = Sink(store, Keys("default"), copy, 10_000, say)
        for first in range(0, requests, _ROUND):
            visits = {f"r-{n}": shop.visit(n) for n in range(first, min(first + _ROUND, requests))}
            asked |= {name: (a.key, a.query.time, a.query.context) for name, a in visits.items()}
            _drained(sink, ask, len(asked))
            for page in _pages(copy, set(visits)):
                ours = visits[page.request_id]
                online.add(page.request_id, page.candidates, page.features, ours.rows, ours.features)
            say(f"{len(asked)} of {requests} requests")
    say(
        f"served and read online in {time.perf_counter() - online_seconds:.0f} s; preparing the data with the new events"
    )
    with again.locked():
        prepared = Prepared(prepare(copy, again, config, say))
    joined = Comparison((0, 0))
    past = Past.after(release, prepared, config)
    for page in _pages(copy, set(asked)):
        joined.add(
            page.request_id, page.candidates, page.features, *_joined(past, *asked[page.request_id], exclude_seen)
        )
    return {
        "requests": len(asked),
        "features": len(NAMES),
        "values": joined.values,
        "mismatches": joined.mismatches + online.mismatches,
        "by_feature": {"joined": joined.features(), "online": online.features()},
        "compared": {"joined": joined.requests, "online": online.requests},
        **vars(shop.tally),
    }


def _joined(past: Past, key: str, time: int, context: Array, exclude_seen: bool) -> tuple[Array, Array]:
    """Candidates and features as training would join them."""
    query, _ = past.query(past.prepared.user_ids.row(key), time)
    query = replace(query, context=context)
    candidates, features = past.features(query, excluded_of(query, exclude_seen=exclude_seen))
    return candidates.rows, features


class Clock:
    """The server's: that of the shop."""

    shop: Shop | None = None

    def __call__(self) -> int:
        """Microseconds."""
        return 0 if self.shop is None else self.shop.now


def _shop(release: Release, work: Work, ask: Client, url: str, exclude_seen: bool, whole_minutes: bool) -> Shop:
    config, state = patient(), UserState.open(work.user_state(release.window_end))
    living = [str(key) for key in state.ids.texts if key]
    chosen = np.random.default_rng(_SEED).choice(len(living), min(len(living), 2_000), replace=False)
    people = [living[row] for row in chosen.tolist()]
    online = OnlineState(RedisLink(url, config.redis), Keys(config.tenant), config.events.live_per_person)
    return Shop(release, people, ask, online, exclude_seen, whole_minutes, release.window_end + HOUR)


def patient() -> ServingConfig:
    """The defaults, with every page's features logged and time enough for a busy machine; no spool in somebody's work directory."""
    config = load_serving()
    changes: dict[str, dict[str, object]] = {
        "log": {"share": 1.0, "features_share": 1.0},
        "redis": {"read_deadline_ms": 2_000.0, "write_deadline_ms": 30_000.0},
        "events": {"spool": "none"},
    }
    sections = {name: getattr(config, name).model_copy(update=values) for name, values in changes.items()}
    return config.model_copy(update=sections)


@contextmanager
def served(work: Work, folder: Path) -> Iterator[tuple[str, str, Clock]]:
    """A server of the current release with a Redis in `folder`: its address, the URL of the Redis, and its clock."""
    redis, clock = EmbeddedRedis(folder), Clock()
    redis.launch()
    redis.wait()
    options = ProcessOptions(work.current, work.root, "127.0.0.1", 0, redis.url, embedded=True, config=patient())
    process = ServingProcess(options, clock)
    process.start()
    try:
        yield f"127.0.0.1:{process.port}", redis.url, clock
    finally:
        process.stop()
        redis.stop()


def _drained(sink: Sink, ask: Client, pages: int) -> None:
    """Until all pages so far are in the log."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        sink.drain()
        if sink.moved.rows[RECOMMENDATIONS] == pages:
            return
        if time.monotonic() > deadline or ask.status().pages["dropped"]:
            raise AisleError(
                f"{sink.moved.rows[RECOMMENDATIONS]} of {pages} pages in the log: {dict(ask.status().pages)}"
            )
        time.sleep(0.02)


def _pages(data: Path, names: set[str]) -> Iterator[LoggedPage]:
    for file in sorted((data / RECOMMENDATIONS).glob("day=*/part-*.parquet")):
        yield from pages_of(file, names)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Compare the features of training, of an online read, and of the log.")
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--work", type=Path, action="append", required=True)
    parser.add_argument("--requests", type=int, default=10_000, help="of each shop")
    a = parser.parse_args()
    shops: dict[str, dict[str, Any]] = {}
    for data, work in zip(a.data, a.work, strict=True):
        with tempfile.TemporaryDirectory(prefix=".parity-", dir=work) as folder:
            try:
                shops[str(data)] = run(data, Work(work), load_pipeline(), Path(folder), a.requests, _say)
            except AisleError as e:
                print(f"error: {e}", file=sys.stderr)
                sys.exit(e.exit_code)
    sums = {k: sum(shop[k] for shop in shops.values()) for k in ("requests", "values", "mismatches")}
    print(json.dumps(sums | {"features": len(NAMES), "shops": shops}))
    if sums["mismatches"]:
        sys.exit(1)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
