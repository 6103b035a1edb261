"""Where the CPU of a request goes: `Recommend` in this process, stage by stage, on one thread, and what gRPC adds in a worker.

    python -m benchmarks.request_cost --work W [--requests 300] [--repeats 3] [--server]

W is the work directory of `bench serve`. People of its shop ask for pages of 20, their state comes from a Redis of our own, every stage is the service's.
Each figure is the median over the requests of the least of several repeats, in microseconds of CPU of the asking thread, so that other work on the machine
is left out as far as it can be; stages hold the ones named after them with a dot. `answers` is a digest of every page, candidate, feature and score:
equal before and after a change that only makes things faster. With `--server`, `worker_us` is the CPU of a whole worker for each of as many calls
over gRPC, one by one, and `grpc_us` what of it is beyond `recommend`. The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import gc
import hashlib
import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc.aio
import numpy as np

from aisle.v1.recommender_pb2 import RecommendRequest
from aisle.v1.recommender_pb2_grpc import RecommenderStub
from benchmarks.serve import Asking, Server, people
from core.columns import Array
from core.prepared import Prepared
from core.threads import one_thread
from core.work import Work
from pipeline.served import Served
from ranking import features
from ranking.scorer import Scorer
from retrieval.query import QueryTower, TowerScoring
from serving import recommender_service, request_path, results
from serving.answers import Answer, Request
from serving.config import load_serving
from serving.embedded_redis import EmbeddedRedis
from serving.keys import Keys
from serving.online_state import OnlineState
from serving.page_tokens import PageTokens, secret_of
from serving.paging import Paging
from serving.recommender_service import RecommenderService
from serving.redis_link import RedisLink
from serving.release import Release
from serving.request_path import answer
from serving.resident import Resident, warm_up
from serving.shown import ShownLog
from serving.state_loading import materialize_if_missing
from serving.tally import Tally
from serving.trending import Trending
from serving.turns import Turns

_PAGE: Final = 20
# where each stage is a function: who calls it, its name there, and the stage
_STAGES: Final[tuple[tuple[Any, str, str], ...]] = (
    (OnlineState, "read", "hydrate"),
    (RedisLink, "read", "hydrate.redis"),
    (recommender_service, "answer", "answer"),
    (request_path, "gather", "answer.gather"),
    (QueryTower, "vector", "answer.gather.tower"),
    (TowerScoring, "top", "answer.gather.search"),
    (request_path, "matrix", "answer.features"),
    (features, "_late", "answer.features.late"),
    (Scorer, "score", "answer.trees"),
    (request_path, "_best_first", "answer.order"),
    (request_path, "_speakers", "answer.speakers"),
    (recommender_service, "results_of", "results"),
    (results, "reasons", "results.reasons"),
    (ShownLog, "offer", "log"),
)


class _Patient:
    """The context of a call without a deadline."""

    def time_remaining(self) -> None:
        """See grpc.ServicerContext."""


_PATIENT: Final = _Patient()


class Stopwatch:
    """CPU nanoseconds of the asking thread by stage, of one request at a time."""

    def __init__(self) -> None:
        self.laps: dict[str, int] = defaultdict(int)

    def timed(self, call: Callable[..., Any], stage: str) -> Callable[..., Any]:
        """The same function, whose time is noted."""

        @functools.wraps(call)
        def run(*args: Any, **options: Any) -> Any:
            start = time.thread_time_ns()
            try:
                return call(*args, **options)
            finally:
                self.laps[stage] += time.thread_time_ns() - start

        return run

    @contextmanager
    def on(self, stages: Sequence[tuple[Any, str, str]]) -> Iterator[None]:
        """Time these functions as long as the block lasts."""
        before = [(where, name, getattr(where, name)) for where, name, _ in stages]
        try:
            for where, name, stage in stages:
                setattr(where, name, self.timed(getattr(where, name), stage))
            yield
        finally:
            for where, name, call in before:
                setattr(where, name, call)


@contextmanager
def service(work: Work) -> Iterator[tuple[RecommenderService, Release]]:
    """The service over the release of `work`, with a Redis of its own that holds the people."""
    config = load_serving()
    redis = EmbeddedRedis(work.root / "redis")
    redis.launch()
    try:
        redis.wait()
        resident = Resident.open(work.current, lambda r: materialize_if_missing(redis.url, config.tenant, work, r))
        link, keys, tally = RedisLink(redis.url, config.redis), Keys(config.tenant), Tally()
        link.warm()
        log = ShownLog(link, keys, config.log, tally)  # not started: what its thread does is no part of an answer
        trending = Trending(link, keys, config.trending, resident, lambda: 0)
        state = OnlineState(link, keys, config.events.live_per_person)
        paging = Paging(PageTokens(secret_of(None), config.tenant, config.paging.hours))
        yield RecommenderService(resident, state, Turns(1), log, tally, trending, paging), resident.release
    finally:
        redis.stop()


def stages(work: Work, users: Sequence[str], repeats: int) -> dict[str, float]:
    """Microseconds of every stage; `recommend` is the whole, timed apart from the stages, whose timing costs too."""
    watch, asked = Stopwatch(), [RecommendRequest(user_id=u, page_size=_PAGE, request_id="r") for u in users]
    with service(work) as (server, _), one_thread():
        call: Any = server.Recommend

        def once(request: RecommendRequest) -> dict[str, int]:
            watch.laps.clear()
            start = time.thread_time_ns()
            call(request, _PATIENT)
            return dict(watch.laps) | {"recommend": time.thread_time_ns() - start}

        for request in asked:
            once(request)
        whole = _least([[once(r) for r in asked] for _ in range(repeats)])
        with watch.on(_STAGES):
            parts = _least([[once(r) for r in asked] for _ in range(repeats)])
    return {name: parts[name] for _, _, name in _STAGES if name in parts} | {"recommend": whole["recommend"]}


def _least(rounds: list[list[dict[str, int]]]) -> dict[str, float]:
    """The median over requests of the least of the rounds, microseconds."""
    names = sorted({name for lap in rounds[0] for name in lap})
    laps = {n: np.array([[lap.get(n, 0) for lap in turn] for turn in rounds]) for n in names}
    return {n: round(float(np.median(values.min(axis=0))) / 1e3, 1) for n, values in laps.items()}


def digest(release: Release, asked: Sequence[Any]) -> tuple[str, int]:
    """Hex digest of what the request path makes of the queries, and the median number of candidates."""
    every, counts = hashlib.sha256(), []
    for query in asked:
        for request in (Request(query, _PAGE), Request(query, 50, exclude_seen=True)):
            page = answer(release, request)
            counts.append(len(page.candidates))
            for part in _parts(page):
                every.update(np.ascontiguousarray(part).tobytes())
            every.update(repr((page.sources, page.level)).encode())
    return every.hexdigest()[:16], int(np.median(counts))


def _parts(page: Answer) -> tuple[Array, ...]:
    c = page.candidates
    return (page.rows, page.scores, c.rows, c.scores, c.ranks, page.every) + (
        () if page.features is None else (page.features,)
    )


async def _worker(address: str, users: Sequence[str], cpu: Callable[[], float]) -> float:
    async with grpc.aio.insecure_channel(address) as channel:
        asking = Asking(RecommenderStub(channel), users)
        await asking.one_by_one(len(users))
        start = cpu()
        await asking.one_by_one(3 * len(users))
        return 1e6 * (cpu() - start) / (3 * len(users))


def main() -> None:
    """Measure the release of a work directory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="of `bench serve`")
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--server", action="store_true", help="ask a worker over gRPC too")
    a = parser.parse_args()
    work = Work(a.work)
    release, prepared = Release.open(work.current), Prepared(work.latest("prepare"))
    warm_up(release)
    asked = people(prepared, release, a.requests)
    users = [prepared.user_ids[q.user].removeprefix("u:") for q in asked]
    found: dict[str, Any] = {"items": len(release.item_ids), "requests": len(users)}
    found["answers"], found["candidates"] = digest(release, asked)
    print(f"digest {found['answers']}, {found['candidates']} candidates", file=sys.stderr)
    gc.collect()
    found |= stages(work, users, a.repeats)
    if a.server:
        with Served(work.current) as served:
            server = Server(served)
            server.settle()
            found["worker_us"] = round(asyncio.run(_worker(server.address, users, lambda: server.cpu_seconds)), 1)
        found["grpc_us"] = round(found["worker_us"] - found["recommend"], 1)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
