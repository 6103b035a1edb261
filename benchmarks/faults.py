"""Everything the service leans on fails, one thing after the other, while an open loop asks: no `Recommend` may fail, and all must be well again by itself.

    .venv/bin/python -m benchmarks.faults                                     # makes a small release first
    .venv/bin/python -m benchmarks.faults --release WORK/releases/current --only redis-killed,release-swapped

A real server of two workers on a copy of the release, a durable Redis of its own, an open loop of `Recommend` (benchmarks/open_loop.py) and a writer of
events beside it. For each fault: the calls from its begin until all was well, how many failed, why answers were degraded, latency, and
`recovered_seconds`: from the moment that the cause was gone until the last call that was not answered in full at the first attempt. `before` is the same
loop without a fault, for comparison. The work directory and Redis' files lie on a tmpfs, so that a disk can be full: that needs root, else `disk-full` is
left out, and said. `clock-set-back` runs a server in this process with a clock of its own. The last line of stdout is JSON; exit 1 when a call
failed, nothing was recovered, or an acknowledged event is missing.
"""

# bazel: imports=[cli.*]

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from benchmarks.fault_place import (
    EventWriter,
    OwnRedis,
    copied,
    full,
    given_or_small,
    load_state,
    room_for,
    small_disk,
    until,
)
from benchmarks.open_loop import OpenLoop, summary
from benchmarks.slow_link import SlowLink
from core.atomic import link_tree
from core.errors import AisleError
from core.schema import DAY
from core.work import Work
from pipeline.served import Served
from serving.client import Client
from serving.config import load_serving
from serving.failures import Failure
from serving.process import ProcessOptions, ServingProcess
from serving.recommender_service import wall_clock
from serving.release import Release

_WELL_SECONDS: Final = 1.5  # without a call that was not clean: then all is well
_PATIENCE_SECONDS: Final = 60.0
_HELD_SECONDS: Final = 3.0  # that a fault lasts, if it does not end by itself
_SWAPS: Final = 20
_NEVER_WELL = -1.0

UNREACHABLE, TIMEOUT, ERROR = Failure.REDIS_UNREACHABLE, Failure.REDIS_TIMEOUT, Failure.REDIS_ERROR


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong. `happens` returns once its cause is gone, with what is to be said of it."""

    happens: Callable[[], dict[str, Any] | None]
    reasons: frozenset[str]  # that answers may give


def observed(load: OpenLoop, name: str, fault: Fault, writer: EventWriter | None) -> dict[str, Any]:
    """Let it happen under load, and wait until all is well."""
    _well_since(load, time.perf_counter())
    start = time.perf_counter()
    extra = fault.happens() or {}
    gone = time.perf_counter()
    well = _well_since(load, gone)
    calls = load.between(start, time.perf_counter())
    bad = [c.due + c.seconds for c in calls if not c.clean]
    found: dict[str, Any] = {
        **summary(calls),
        "seconds": round(gone - start, 2),
        "recovered_seconds": round(max(0.0, max(bad, default=gone) - gone), 2) if well else _NEVER_WELL,
        **({} if writer is None else {"writes": writer.since(start)}),
        **extra,
    }
    found["unexpected"] = sorted(set(found["degraded"]) - fault.reasons)
    print(f"{name}: {json.dumps(found)}", file=sys.stderr)
    return found


def _well_since(load: OpenLoop, start: float) -> bool:
    """Wait for a while of clean calls from `start` on; whether it came."""
    deadline = time.perf_counter() + _PATIENCE_SECONDS
    while time.perf_counter() < deadline:
        now = time.perf_counter()
        last = load.between(now - _WELL_SECONDS, now)
        if now - start > _WELL_SECONDS and last and all(c.clean for c in last):
            return True
        time.sleep(0.05)
    return False


class Place:
    """A server of two workers with its Redis, and what can go wrong there."""

    def __init__(self, work: Work, redis: OwnRedis, served: Served, *, own_disk: bool) -> None:
        self.work, self.redis, self.served, self._own_disk = work, redis, served, own_disk
        self._spare = _same_under_another_name(work)

    @property
    def faults(self) -> dict[str, Fault]:
        """By name."""
        down = frozenset({UNREACHABLE, TIMEOUT, ERROR})  # ERROR: it is loading
        busy = frozenset({TIMEOUT})  # a worker or a release that starts takes the cores for a moment, from Redis too
        faults = {
            "redis-killed": Fault(self._redis_ends(signal.SIGKILL, _HELD_SECONDS), down),
            "redis-restarted": Fault(self._redis_ends(signal.SIGTERM, 0.0), down),
            "redis-frozen": Fault(self._redis_frozen, frozenset({TIMEOUT})),
            "redis-out-of-memory": Fault(self._redis_full, frozenset()),
            "disk-full": Fault(self._disk_full, down),
            "worker-killed": Fault(self._worker_gets(signal.SIGKILL), busy),
            "worker-drained": Fault(self._worker_gets(signal.SIGTERM), busy),
            "release-swapped": Fault(self._swapped, busy),
        }
        if not self._own_disk:
            faults.pop("disk-full")
        return faults

    def _redis_ends(self, number: signal.Signals, down: float) -> Callable[[], None]:
        def happens() -> None:
            self.redis.send(number)
            time.sleep(down)
            self.redis.start()

        return happens

    def _redis_frozen(self) -> None:
        self.redis.send(signal.SIGSTOP)
        time.sleep(_HELD_SECONDS)
        self.redis.send(signal.SIGCONT)

    def _redis_full(self) -> None:
        store = self.redis.client()
        store.config_set("maxmemory", "1")
        time.sleep(_HELD_SECONDS)
        store.config_set("maxmemory", "0")

    def _disk_full(self) -> dict[str, Any]:
        """Redis ends itself when it cannot write its log; the spool and the catalog's log refuse; a swap needs no disk."""
        refused = ""
        with full(self.work.root.parent), Client(self.served.address, timeout=10) as ask:
            self.redis.wait()
            time.sleep(_HELD_SECONDS)
            loaded = ask.load_release(str(self._spare)).workers
            try:
                ask.set_availability(self._items, True)
            except AisleError as e:
                refused = str(e)
        self.redis.start()
        with Client(self.served.address, timeout=10) as ask:
            changed = ask.set_availability(self._items, True).changed
        return {"workers_swapped": loaded, "catalog_refused": refused, "catalog_changed_after": changed}

    def _worker_gets(self, number: signal.Signals) -> Callable[[], dict[str, Any]]:
        def happens() -> dict[str, Any]:
            before = workers_of(self.served)
            before[0].send_signal(number)
            start = time.perf_counter()
            until(lambda: before[0].pid not in {w.pid for w in workers_of(self.served)})
            until(lambda: len(_answering(self.served.address)) == len(before))
            return {"replaced_seconds": round(time.perf_counter() - start, 2)}

        return happens

    def _swapped(self) -> dict[str, Any]:
        took, workers = [], set()
        both = (self._spare, self.work.current.resolve())
        with Client(self.served.address) as ask:
            for number in range(_SWAPS):
                start = time.perf_counter()
                workers.add(ask.load_release(str(both[number % 2])).workers)
                took.append(time.perf_counter() - start)
        return {"swaps": _SWAPS, "workers_swapped": min(workers), "slowest_swap_seconds": round(max(took), 2)}

    @property
    def _items(self) -> list[str]:
        """As many as a call takes: an entry of several pages, since the last page of a file has room on a full disk."""
        return [i for i in Release.open(self.work.current).item_ids.texts if i][:1_000]


def workers_of(served: Served) -> list[psutil.Process]:
    """The worker processes of a server."""
    below = psutil.Process(served.process.pid).children()
    return [p for p in below if p.status() != psutil.STATUS_ZOMBIE and "serving.worker" in p.cmdline()]


def _answering(address: str) -> set[int]:
    """Process ids that answer, of many connections."""
    found = set()
    for _ in range(12):
        with Client(address, timeout=5) as ask:
            try:
                found.add(ask.status().pid)
            except AisleError:
                return set()
    return found


def _same_under_another_name(work: Work) -> Path:
    release = work.current.resolve()
    link_tree(release, other := release.with_name(f"{release.name}-again"))
    return other


def slow_redis(work: Work, redis: OwnRedis, users: Sequence[str], rate: float, folder: Path) -> dict[str, Any]:
    """A server behind a link to its Redis that holds answers back for 50 ms for a while."""
    with SlowLink(folder / "slow.sock", redis.socket) as link:
        url = f"unix://{folder / 'slow.sock'}"
        with (
            Served(work.current, "--workers", 2, "--redis", url) as served,
            OpenLoop(served.address, users, rate) as load,
        ):

            def happens() -> None:
                link.hold_back(0.05)
                time.sleep(_HELD_SECONDS)
                link.hold_back(0.0)

            return observed(load, "redis-slow", Fault(happens, frozenset({TIMEOUT})), None)


def clock_set_back(work: Work, redis: OwnRedis, users: Sequence[str], rate: float, items: list[str]) -> dict[str, Any]:
    """A server in this process whose clock goes a day back, and forth again."""
    behind = 0
    options = ProcessOptions(work.current, work.root, "127.0.0.1", 0, redis.url, embedded=False, config=load_serving())
    process = ServingProcess(options, lambda: wall_clock() - behind)
    process.start()
    address = f"127.0.0.1:{process.port}"

    def happens() -> None:
        nonlocal behind
        behind = DAY
        time.sleep(_HELD_SECONDS)
        behind = 0

    try:
        with OpenLoop(address, users, rate) as load, EventWriter(address, items) as writer:
            return observed(load, "clock-set-back", Fault(happens, frozenset()), writer)
    finally:
        process.stop()


def stopped(served: Served, load: OpenLoop) -> dict[str, Any]:
    """SIGTERM to the whole server under load: what was sent before is answered."""
    told = time.perf_counter()
    code = served.stop()
    took = time.perf_counter() - told
    load.stop()
    before = load.between(
        told - 5, told - 0.05
    )  # sent by then for certain: this process keeps its schedule to some milliseconds
    return {"sent_before": len(before), "lost": sum(c.failed for c in before), "exit": code, "seconds": round(took, 2)}


def run(release: Path, rate: float, only: Sequence[str] = ()) -> dict[str, Any]:
    """Every fault, or those named."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aisle-faults-")))
        own_disk = stack.enter_context(small_disk(folder / "disk", room_for(release)))
        work = copied(release, folder / "disk" / "work")
        redis = OwnRedis(folder / "disk" / "redis", folder)
        stack.callback(redis.stop)
        redis.start()
        users, items = load_state(work, redis.url), [i for i in Release.open(work.current).item_ids.texts if i]
        served = stack.enter_context(Served(work.current, "--workers", 2, "--redis", redis.url))
        load = stack.enter_context(OpenLoop(served.address, users, rate))
        writer = stack.enter_context(EventWriter(served.address, items))
        place = Place(work, redis, served, own_disk=own_disk)
        found = {"before": observed(load, "before", Fault(lambda: time.sleep(_HELD_SECONDS), frozenset()), writer)}
        for name, fault in place.faults.items():
            if not only or name in only:
                found[name] = observed(load, name, fault, writer)
        writer.stop()
        with Client(served.address) as ask:
            until(lambda: ask.status().spool_bytes == 0)
        lost, twice = writer.lost(redis.client())
        ended = stopped(served, load)
        if not only or "redis-slow" in only:
            found["redis-slow"] = slow_redis(work, redis, users, rate, folder)
        if not only or "clock-set-back" in only:
            found["clock-set-back"] = clock_set_back(work, redis, users, rate, items)
    return {
        "faults": found,
        "left_out": [] if own_disk else ["disk-full: needs root, to mount a small disk"],
        "events": {"acknowledged": len(writer.acknowledged), "lost": lost, "twice": twice},
        "stopped": ended,
        "rate": rate,
        "calls": sum(f["calls"] for f in found.values()),
        "failed": sum(f["failed"] for f in found.values()),
    }


def fine(found: dict[str, Any]) -> bool:
    """Whether it shows what it should."""
    each = found["faults"].values()
    recovered = all(
        f["recovered_seconds"] != _NEVER_WELL and not f["short_pages"] and not f["unexpected"] for f in each
    )
    return recovered and not (
        found["failed"] or any(found["events"][n] for n in ("lost", "twice")) or found["stopped"]["lost"]
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Let everything fail under load.")
    parser.add_argument("--release", type=Path, help="a release in its work directory; default: a small one is made")
    parser.add_argument("--rate", type=float, default=50, help="calls a second")
    parser.add_argument("--only", default="", help="names of faults, separated by commas")
    a = parser.parse_args()
    try:
        with given_or_small(a.release) as release:
            found = run(release, a.rate, [n for n in a.only.split(",") if n])
    except AisleError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    print(json.dumps(found))
    if not fine(found):
        sys.exit(1)


if __name__ == "__main__":
    main()
