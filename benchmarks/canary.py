"""Canaries with something planted in them, and an innocent one: how soon they are called back, and what everybody else saw.

    .venv/bin/python -m benchmarks.canary [--release WORK/releases/current] [--share .05] [--rate 40] [--seconds 120] [--innocent 120] [--workers 2]

Shoppers come to a server in an open loop, each a session of its own of a known user who sees one page; what they click is decided by the shop and not by the
release: an item is wanted as often as the shop's people did something with it, and looked at the less the lower it stands. After a calm while an
experiment file is dropped in, whose arm is the candidate (docs/experiments.md). The candidates are the release itself but for:

    slow       a ranker with many times the trees, all of which are scored
    worse      a ranker whose trees say the opposite
    innocent   nothing

`switched_after_seconds`, `requests`: from the first page of the candidate to the switch, and to its last page. `failed` must be 0. `others`
are latencies on the server of all but the candidate: in the calm, beside it and afterwards. The last line of stdout is JSON; exit 1 where a
planted candidate was not called back, the innocent one was, or a request failed.
"""

# bazel: imports=[cli.*]

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import numpy as np

from aisle.v1.events_pb2 import Event, WriteEventsRequest
from aisle.v1.events_pb2_grpc import EventsStub
from aisle.v1.recommender_pb2 import RecommendRequest
from aisle.v1.recommender_pb2_grpc import RecommenderStub
from benchmarks.candidate import candidate, more_trees, opposite_trees
from benchmarks.fault_place import OwnRedis, copied, given_or_small, load_state
from core.errors import AisleError
from core.work import Work
from experiments.files import STOPPED
from experiments.stops import read_stop
from pipeline.served import Served
from serving.release import Release
from serving.user_state import UserState

_PAGE: Final = 10
_CALM_SECONDS: Final = 10.0
_AFTER_SECONDS: Final = 5.0
_CONNECTIONS: Final = 4
_WANTED: Final = 0.25  # the chance that the item of which the shop's people do most is clicked in the first place
_TREES: Final = 30_000
_FILE: Final = """\
name: canary
owner: benchmark
hypothesis: The candidate is at least as good and as fast.
unit: session
arms:
  usual: {{weight: {rest}}}
  candidate: {{weight: {share}, release: {release}}}
control: usual
primary: {{name: clicks, events: [click]}}
guardrails:
  - {{name: clicks, events: [click], most_lost: 0.1, stops: true}}
watch: {{slow_ms: {slow_ms}}}
"""


@dataclass(frozen=True)
class Page:
    """One answer."""

    at: float  # time.perf_counter() when it was there
    arm: str
    release: str
    ms: float  # on the server
    status: str  # OK, or the gRPC code
    clicked: bool
    reason: str = ""


class Shoppers:
    """They come `rate` a second. Use it in a `with` block."""

    def __init__(self, address: str, users: Sequence[str], wants: dict[str, float], rate: float, seed: int) -> None:
        self._address, self._users, self._wants, self._rate = address, users, wants, rate
        self._random, self._seed = random.Random(seed), seed
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self.pages: list[Page] = []  # grows only

    def __enter__(self) -> Shoppers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join()

    async def _run(self) -> None:
        options = [("grpc.use_local_subchannel_pool", 1)]  # a connection each, so that every worker gets some
        channels = [grpc.aio.insecure_channel(self._address, options=options) for _ in range(_CONNECTIONS)]
        stubs = [(RecommenderStub(c), EventsStub(c)) for c in channels]
        start, under_way = time.perf_counter(), set[asyncio.Task[None]]()
        for number in itertools.count():
            if self._stopping.is_set():
                break
            await asyncio.sleep(max(0.0, start + number / self._rate - time.perf_counter()))
            task = asyncio.create_task(self._visit(number, *stubs[number % len(stubs)]))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
        for channel in channels:
            await channel.close()

    async def _visit(self, number: int, recommender: Any, events: Any) -> None:
        user, session = self._random.choice(self._users), f"{self._seed}-{number}"
        request = RecommendRequest(user_id=user, session_id=session, page_size=_PAGE, explore=False)
        try:
            page = await recommender.Recommend(request, timeout=10)
            clicked = self._click([r.item_id for r in page.results])
            if clicked:
                event = Event(event_type="click", item_id=clicked, user_id=user, session_id=session, event_id=session)
                event.attribution_token = page.attribution_token
                await events.WriteEvents(WriteEventsRequest(events=[event]), timeout=10)
        except grpc.aio.AioRpcError as e:
            self.pages.append(Page(time.perf_counter(), "", "", 0.0, f"{e.code().name}: {e.details()}", clicked=False))
            return
        arm = next((a.arm for a in page.experiment_assignments), "")
        ms = page.stage_latency_ms["total"]
        self.pages.append(Page(time.perf_counter(), arm, page.release, ms, "OK", bool(clicked), page.fallback_reason))

    def _click(self, items: list[str]) -> str:
        """The first that is looked at and wanted."""
        for place, item in enumerate(items, 1):
            if self._random.random() < self._wants.get(item, 0.0) / place:
                return item
        return ""


def wants_of(work: Work) -> dict[str, float]:
    """How likely an item is clicked where it is seen: by how often the shop's people did something with it."""
    release = Release.open(work.current)
    state = UserState.open(work.user_state(release.window_end))
    rows = np.concatenate([state.histories.before(user, release.window_end).items for user in range(len(state.ids))])
    counts = np.bincount(rows, minlength=len(release.item_ids))
    return {release.item_ids[row]: _WANTED * float(n / counts.max()) for row, n in enumerate(counts.tolist()) if n}


def drop(folder: Path, release: str, share: float, slow_ms: float) -> None:
    """Put the experiment there, whole at once."""
    text = _FILE.format(rest=1 - share, share=share, release=release, slow_ms=round(slow_ms, 1))
    beside = folder / ".canary"
    beside.write_text(text)
    beside.rename(folder / "canary.yaml")


def one(place: Place, name: str, change: Callable[[Path], None], seconds: float) -> dict[str, Any]:
    """A canary of one kind, for at most so long from its first page on."""
    made = candidate(place.work.current, name, change)
    (folder := place.folder / f"experiments-{name}").mkdir()
    options = ("--redis", place.redis, "--experiments", folder, "--workers", place.workers)
    switch = folder / f"canary{STOPPED}"
    with (
        Served(place.work.current, *options) as served,
        Shoppers(served.address, place.users, place.wants, place.rate, place.seed) as shoppers,
    ):
        time.sleep(_CALM_SECONDS)
        calm = [p.ms for p in shoppers.pages if p.status == "OK"]
        slow_ms = 1.5 * float(np.quantile(calm[len(calm) // 4 :], 0.9))
        drop(folder, made.name, place.share, slow_ms)
        dropped = time.perf_counter()
        first = None
        while first is None and time.perf_counter() < dropped + 120:
            time.sleep(0.05)
            first = next((p.at for p in list(shoppers.pages) if p.arm == "candidate"), None)
        if first is None:
            raise AisleError(f"{name}: nobody was answered by the candidate within two minutes")
        while not switch.exists() and time.perf_counter() < first + seconds:
            time.sleep(0.02)
        stopped = time.perf_counter() if switch.exists() else None
        time.sleep(_AFTER_SECONDS)
    stop = read_stop(folder, "canary")
    return {
        "slow_ms": round(slow_ms, 1),
        "guard": None if stop is None else stop.guard,
        "why": None if stop is None else stop.why,
        **figures(shoppers.pages, dropped, first, stopped),
    }


def figures(pages: Sequence[Page], dropped: float, first: float, stopped: float | None) -> dict[str, Any]:
    """What became of the pages."""
    own = [p for p in pages if p.arm == "candidate"]
    usual = [p for p in pages if p.arm == "usual"]
    last = max(p.at for p in own)
    end = last if stopped is not None else float("inf")
    ok = [p for p in pages if p.status == "OK"]

    def ms(some: Sequence[Page]) -> dict[str, float]:
        took = [p.ms for p in some] or [float("nan")]
        return {"pages": len(some)} | {f"p{q}_ms": round(float(np.percentile(took, q)), 1) for q in (50, 99)}

    return {
        "opened_seconds": round(first - dropped, 2),
        "switched_after_seconds": None if stopped is None else round(stopped - first, 2),
        "last_page_after_seconds": None if stopped is None else round(last - first, 2),
        "after_the_switch_seconds": None if stopped is None else round(max(last - stopped, 0.0), 2),
        "requests": sum(first <= p.at <= end for p in pages),
        "requests_of_candidate": len(own),
        "failed": len(pages) - len(ok),
        "statuses": dict(Counter(p.status for p in pages if p.status != "OK")),
        "degraded": dict(Counter(p.reason for p in ok if p.reason)),
        "candidate": ms(own) | {"clicked": round(sum(p.clicked for p in own) / len(own), 3)},
        "usual": ms(usual) | {"clicked": round(sum(p.clicked for p in usual) / max(len(usual), 1), 3)},
        "others": {
            "calm": ms([p for p in ok if p.at < dropped]),
            "beside": ms([p for p in ok if dropped <= p.at <= end and p.arm != "candidate"]),
            "afterwards": ms([p for p in ok if p.at > end]),
        },
    }


@dataclass(frozen=True)
class Place:
    """Where it happens."""

    folder: Path
    work: Work
    redis: str
    users: Sequence[str]
    wants: dict[str, float]
    share: float
    rate: float
    workers: int
    seed: int


def run(release: Path, a: argparse.Namespace) -> dict[str, Any]:
    """All of it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aisle-canary-")))
        work, redis = copied(release, folder / "work"), OwnRedis(folder / "redis", folder)
        stack.callback(redis.stop)
        redis.start()
        users = load_state(work, redis.url)
        place = Place(folder, work, redis.url, users, wants_of(work), a.share, a.rate, a.workers, a.seed)
        found = {}
        for name, change, seconds in (
            ("slow", more_trees(_TREES), a.seconds),
            ("worse", opposite_trees, a.seconds),
            ("innocent", lambda _: None, a.innocent),
        ):
            if name in a.only.split(","):
                found[name] = one(place, name, change, seconds)
                print(f"{name}: {json.dumps(found[name])}", file=sys.stderr)
        about = {"share": a.share, "rate": a.rate, "workers": a.workers, "seed": a.seed}
        return {"release": release.resolve().name, **about, **found}


def fine(found: dict[str, Any]) -> bool:
    """Whether it shows what it should."""
    right = {"slow": "slow", "worse": "guardrail:clicks", "innocent": None}
    there = [name for name in right if name in found]
    return all(found[name]["guard"] == right[name] and not found[name]["failed"] for name in there)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", type=Path, help="a release in its work directory; default: a small one is made")
    parser.add_argument("--share", type=float, default=0.05, help="of the sessions, for the candidate")
    parser.add_argument("--rate", type=float, default=40, help="shoppers a second")
    parser.add_argument("--seconds", type=float, default=300, help="after which a planted candidate counts as unseen")
    parser.add_argument("--innocent", type=float, default=120, help="seconds of the innocent one")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="slow,worse,innocent")
    a = parser.parse_args()
    try:
        with given_or_small(a.release) as release:
            found = run(release, a)
    except AisleError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    print(json.dumps(found))
    if not fine(found):
        sys.exit(1)


if __name__ == "__main__":
    main()
