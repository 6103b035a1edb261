"""`bench serve`: one worker of the real service over a release of N items (benchmarks/serve_shop.py), asked over gRPC by this process.

    ./aisle bench serve --items 1000000 [--work W]

Three loads of `Recommend`, pages of 20 for random people whose history is in Redis: one call after another (`p50_ms`: unloaded), 8 at a time
(`requests_per_second`: saturated), and an open loop at 60 % of that: calls begin on a fixed schedule, late or not, and latency counts from the scheduled
moment, so that a slow answer does not hide the wait it causes (no coordinated omission) (`p99_ms`). `cpu_ms_per_request` is of the worker process alone,
over the open loop. `floor_ms`: CPU of search and tree scoring alone, on one thread, on the queries and feature matrices of the same people.
`rest_ms` is the difference: gRPC, Redis, the other sources, features, reply.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import grpc.aio
import numpy as np
import psutil

from aisle.v1.recommender_pb2 import RecommendRequest
from aisle.v1.recommender_pb2_grpc import RecommenderStub
from benchmarks.serve_shop import make, queries
from core.columns import Array
from core.config import load_pipeline
from core.errors import AisleError
from core.history import Query
from core.prepared import Prepared
from core.threads import one_thread
from core.work import Work
from index_builder.exact import ExactIndex
from index_builder.tune import overlap
from pipeline.candidates import Past
from pipeline.served import Served
from retrieval.query import TowerSource
from retrieval.sources import TOWERS
from serving.release import Release

Say = Callable[[str], None]

_PAGE: Final = 20
_WARM_UP, _ONE_BY_ONE, _PEOPLE = 300, 1000, 2000
_AT_ONCE: Final = 3  # of which none is shed, and one always computes
_SECONDS: Final = 10.0  # of each load with several calls under way
_SHARE: Final = 0.6  # of saturation
_FLOOR: Final = 300  # requests of the floor
_K: Final = 100
_LOOK_SECONDS: Final = 0.5
_AGAIN_SECONDS: Final = 0.005  # after a call was shed
_IDLE_SHARE: Final = 0.05  # of a core: what trends is looked for, no more


class Server:
    """A running service with one worker, and what it costs."""

    def __init__(self, served: Served) -> None:
        self.address, self.ready_seconds = served.address, served.ready_seconds
        self._worker = psutil.Process(served.process.pid)

    @property
    def cpu_seconds(self) -> float:
        """User and system, of the worker so far."""
        used = self._worker.cpu_times()
        return float(used.user + used.system)

    def settle(self) -> None:
        """Return once the worker has done with its start: it reads every file of the release again, beside the answers."""
        used = -1.0
        while self.cpu_seconds - used > _IDLE_SHARE * _LOOK_SECONDS:
            used = self.cpu_seconds
            time.sleep(_LOOK_SECONDS)

    @property
    def pss_gb(self) -> float:
        """Proportional share of the memory that the worker has mapped."""
        return float(self._worker.memory_full_info().pss) / 1e9


def bench_serve(items: int, work: Path | None, say: Say) -> dict[str, Any]:
    """The last line of the benchmark; the release stays in `work`, and is used again, where that is given."""
    with tempfile.TemporaryDirectory(prefix="aisle-bench-") if work is None else nullcontext(str(work)) as folder:
        place = Work(Path(folder))
        current = make(place, items, say)
        release, prepared = Release.open(current), Prepared(place.latest("prepare"))
        figures = floor(release, prepared, say)
        users = [prepared.user_ids[q.user].removeprefix("u:") for q in people(prepared, release, _PEOPLE)]
        with Served(current) as served:
            server = Server(served)
            say(f"ready in {server.ready_seconds} s")
            server.settle()
            figures |= asyncio.run(loads(server, users, say))
            figures |= {"ready_seconds": server.ready_seconds, "pss_gb": round(server.pss_gb, 3)}
    figures["rest_ms"] = round(figures["cpu_ms_per_request"] - figures["floor_ms"], 3)
    return {"items": items, "candidates": figures.pop("candidates"), **figures}


def people(prepared: Prepared, release: Release, most: int) -> list[Query]:
    """Queries of `most` people of the shop, as the service would make them."""
    past = Past.after(release, prepared, load_pipeline())
    return queries(prepared, past.facts, release.settings.history_events, most)


def floor(release: Release, prepared: Prepared, say: Say) -> dict[str, Any]:
    """Search and tree scoring alone, and the recall of that search."""
    past = Past.after(release, prepared, load_pipeline())
    asked, nothing = queries(prepared, past.facts, release.settings.history_events, _FLOOR), np.empty(0, np.int32)
    (source,) = (s for s in release.sources if s.name == TOWERS)
    assert isinstance(source, TowerSource)
    assert release.scorer is not None
    asked = [q for q in asked if source.tower.vector(q) is not None]
    rows = [past.features(q, nothing)[1] for q in asked]
    scoring = [source.scoring(q) for q in asked]
    quota = release.settings.quotas[TOWERS]
    with one_thread():
        search = _cpu_ms([lambda s=s: s.top(quota, nothing) for s in scoring])  # type: ignore[misc]
        trees = _cpu_ms([lambda r=r: release.scorer.score(r) for r in rows])  # type: ignore[misc]
    found = np.stack([s.top(_K, nothing)[0] for s in scoring])
    exact = ExactIndex(np.asarray(source.tower.item_vectors))
    truth = exact.search(np.stack([np.asarray(source.tower.vector(q)) for q in asked]), _K)[0]
    figures = {
        "floor_ms": round(search + trees, 3),
        "search_ms": round(search, 3),
        "trees_ms": round(trees, 3),
        "recall@100": round(overlap(truth, found), 4),
        "candidates": int(np.median([len(r) for r in rows])),
    }
    say(f"floor: {figures}")
    return figures


def _cpu_ms(calls: Sequence[Callable[[], object]]) -> float:
    """CPU milliseconds of one of the calls: the least mean of three passes after one to warm up."""
    passes = []
    for _ in range(4):
        start = time.process_time()
        for call in calls:
            call()
        passes.append(1e3 * (time.process_time() - start) / len(calls))
    return min(passes[1:])


async def loads(server: Server, users: Sequence[str], say: Say) -> dict[str, Any]:
    """The three loads, one after the other."""
    async with grpc.aio.insecure_channel(server.address) as channel:
        asking = Asking(RecommenderStub(channel), users)
        await asking.one_by_one(_WARM_UP)
        alone = await asking.one_by_one(_ONE_BY_ONE)
        say(f"one by one: p50 {np.median(alone):.2f} ms")
        rate = await asking.saturated(_AT_ONCE, _SECONDS)
        say(f"saturated: {rate:.0f} requests/s")
        cpu = server.cpu_seconds
        scheduled = await asking.scheduled(_SHARE * rate, _SECONDS)
        cpu = server.cpu_seconds - cpu
        say(
            f"open loop at {_SHARE * rate:.0f}/s: p50 {np.median(scheduled):.2f} ms, p99 {np.quantile(scheduled, 0.99):.2f} ms"
        )
    return {
        "p50_ms": round(float(np.median(alone)), 3),
        "p99_ms": round(float(np.quantile(scheduled, 0.99)), 3),
        "open_loop_p50_ms": round(float(np.median(scheduled)), 3),
        "requests_per_second": round(rate, 1),
        "cpu_ms_per_request": round(1e3 * cpu / len(scheduled), 3),
        "requests": _WARM_UP + len(alone) + len(scheduled),
        "degraded": asking.degraded,
        "shed": asking.shed,
    }


class Asking:
    """Calls `Recommend` for one person after the other; latencies in milliseconds."""

    def __init__(self, stub: Any, users: Sequence[str]) -> None:
        self._stub, self._users, self._next, self.degraded, self.shed = stub, users, 0, 0, 0

    async def one_by_one(self, count: int) -> Array:
        """`count` calls, each when the one before it is answered."""
        return np.array([await self._call(time.perf_counter()) for _ in range(count)])

    async def saturated(self, at_once: int, seconds: float) -> float:
        """Answers a second with so many calls always under way."""
        start, done = time.perf_counter(), 0

        async def go_on() -> None:
            nonlocal done
            while time.perf_counter() - start < seconds:
                await self._call(time.perf_counter())
                done += 1

        await asyncio.gather(*(go_on() for _ in range(at_once)))
        return done / (time.perf_counter() - start)

    async def scheduled(self, rate: float, seconds: float) -> Array:
        """Calls every 1 / `rate` seconds, whether the ones before them are answered or not; latency from the scheduled moment."""
        start, calls = time.perf_counter() + 0.05, []
        for number in range(int(rate * seconds)):
            due = start + number / rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            calls.append(asyncio.create_task(self._call(due)))
        return np.array(await asyncio.gather(*calls))

    async def _call(self, since: float) -> float:
        user = self._users[self._next % len(self._users)]
        self._next += 1
        while True:
            try:
                answer = await self._stub.Recommend(RecommendRequest(user_id=user, page_size=_PAGE), timeout=10)
                break
            except grpc.aio.AioRpcError as e:
                if e.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
            self.shed += 1  # on a machine that others use: its latency goes on counting
            await asyncio.sleep(_AGAIN_SECONDS)
        self.degraded += answer.degraded
        if len(answer.results) != _PAGE:
            raise AisleError(f"{len(answer.results)} items for {user}, expected {_PAGE}")
        return 1e3 * (time.perf_counter() - since)
