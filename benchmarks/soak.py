"""The service under half of its load for a while, events written beside: memory and p99 do not grow, and all counters add up.

    .venv/bin/python -m benchmarks.soak --release WORK/releases/current --minutes 15

A server of two workers with its own Redis, on a copy of the release. How much it can is measured first (a closed loop); then an open loop at half of
that and a writer of events go on for the given time, which is cut into windows. Of each: the p99 of its calls, and the memory of the workers together
at its end: what is their own (`anonymous`: no page of a file, since those of the release come in as they are first read) and their proportional share
of everything. A line through the windows after the first fifth must not rise beyond its 95 % interval; that of memory goes through means of stretches
(benchmarks/slopes.py). Then what the workers' GetStatus counted is held against what was sent and answered here. The last line of stdout is JSON;
exit 1 when something grows, a call failed or a count differs.
"""

# bazel: imports=[cli.*]

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import grpc.aio
import numpy as np
import psutil

from aisle.v1.admin_pb2 import GetStatusResponse
from aisle.v1.recommender_pb2_grpc import RecommenderStub
from benchmarks.connections import Connections
from benchmarks.fault_place import EventWriter, copied, given_or_small, until
from benchmarks.faults import workers_of
from benchmarks.open_loop import Call, OpenLoop, summary
from benchmarks.serve import Asking
from benchmarks.slopes import memory_mb, slope, slope_of_steps
from core.errors import AisleError
from core.work import Work
from pipeline.served import Served
from serving.release import Release
from serving.user_state import UserState

_WORKERS: Final = 2
_SHARE: Final = 0.5  # of saturation
_SATURATING_SECONDS: Final = 5.0
_AT_ONCE: Final = 4  # calls under way on each of as many connections as there are workers, twice
_WINDOWS: Final = 90
_COUNTED: Final = ("levels", "degraded", "pages")


@dataclass(frozen=True)
class Window:
    """What was seen at the end of a stretch of time."""

    minutes: float  # since the begin
    p99_ms: float
    anonymous_mb: float  # of the workers together
    pss_mb: float


def run(release: Path, minutes: float) -> dict[str, Any]:
    """All of it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aisle-soak-")))
        work = copied(release, folder / "work")
        users, items = people(work), [i for i in Release.open(work.current).item_ids.texts if i]
        served = stack.enter_context(Served(work.current, "--workers", _WORKERS))
        asyncio.run(saturated(served.address, users))  # the first one warms up
        most = asyncio.run(saturated(served.address, users))
        workers = stack.enter_context(closing(Connections(served.address, _WORKERS)))
        _flushed(workers)
        before = counted(workers)
        load = stack.enter_context(OpenLoop(served.address, users, _SHARE * most))
        writer = stack.enter_context(EventWriter(served.address, items))
        ends = watched(workers_of(served), minutes)
        writer.stop()
        load.stop()
        _flushed(workers)
        after = counted(workers)
    windows = with_latency(ends, load)
    late = windows[len(windows) // 5 :]
    at = [w.minutes for w in late]
    return {
        "minutes": minutes,
        "saturation": round(most, 1),
        "rate": round(_SHARE * most, 1),
        **summary(load.calls),
        "writes": writer.since(0.0),
        "p99_ms_per_minute": slope(at, [w.p99_ms for w in late]).rounded(),
        "anonymous_mb_per_minute": slope_of_steps(at, [w.anonymous_mb for w in late]).rounded(),
        "pss_mb_per_minute": slope_of_steps(at, [w.pss_mb for w in late]).rounded(),
        "anonymous_mb": [round(w.anonymous_mb, 1) for w in (windows[0], late[0], late[-1])],
        "pss_mb": [round(w.pss_mb, 1) for w in (windows[0], late[0], late[-1])],
        "windows": len(windows),
        "differences": differences(after - before, load.calls, len(writer.acknowledged)),
    }


def people(work: Work) -> list[str]:
    """Users of the release's window."""
    state = UserState.open(work.user_state(Release.open(work.current).window_end))
    ids = [state.ids[row] for row in range(len(state.ids))]
    return [i.removeprefix("u:") for i in ids if i.startswith("u:")]


async def saturated(address: str, users: Sequence[str]) -> float:
    """Answers a second with calls always under way on several connections."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(2 * _WORKERS)]
    asking = [Asking(RecommenderStub(channel), users) for channel in channels]
    rates = await asyncio.gather(*(a.saturated(_AT_ONCE, _SATURATING_SECONDS) for a in asking))
    for channel in channels:
        await channel.close()
    return sum(rates)


def watched(workers: Sequence[psutil.Process], minutes: float) -> list[tuple[float, float, float]]:
    """(time.perf_counter(), anonymous memory, proportional share, MB) at the end of each window, and at the begin of the first."""
    begin, length = time.perf_counter(), 60 * minutes / _WINDOWS
    found = [(begin, 0.0, 0.0)]
    for number in range(1, _WINDOWS + 1):
        time.sleep(max(0.0, begin + number * length - time.perf_counter()))
        sizes = [memory_mb(w.pid) for w in workers]
        found.append((time.perf_counter(), sum(s["Anonymous"] for s in sizes), sum(s["Pss"] for s in sizes)))
    return found


def with_latency(ends: Sequence[tuple[float, float, float]], load: OpenLoop) -> list[Window]:
    """The windows between `ends`, once every call is answered; those in which none was due are left out."""
    windows = []
    for (start, _, _), (end, anonymous, pss) in pairwise(ends):
        if seconds := [c.seconds for c in load.between(start, end)]:
            p99 = 1e3 * float(np.quantile(seconds, 0.99))
            windows.append(Window((end - ends[0][0]) / 60, p99, anonymous, pss))
    return windows


def counted(workers: Connections) -> Counter[str]:
    """What the workers counted, together."""
    found = Counter[str]()
    for status in (w.status() for w in workers.all):
        for name in _COUNTED:
            found.update({f"{name}.{label}": n for label, n in getattr(status, name).items()})
        found.update({"events_accepted": status.events_accepted, "events_duplicate": status.events_duplicate})
    return found


def differences(counts: Counter[str], calls: Sequence[Call], events: int) -> dict[str, list[int]]:
    """Where the service's counts are not what was seen here: {name: [theirs, ours]}."""
    answered = [c for c in calls if not c.failed]
    ours = Counter(f"levels.{c.level}" for c in answered)
    ours += Counter(f"degraded.{c.reason}" for c in answered if c.reason)
    ours += Counter({"events_accepted": events, "pages": len(answered)})
    theirs = +counts
    theirs["pages"] = sum(theirs.pop(name) for name in list(theirs) if name.startswith("pages."))
    return {name: [theirs[name], ours[name]] for name in sorted(theirs | ours) if theirs[name] != ours[name]}


def _flushed(workers: Connections) -> None:
    """Wait until every page that was answered is logged or dropped: they wait in the process for a second or so."""

    def all_there(status: GetStatusResponse) -> bool:
        return sum(status.pages.values()) == sum(status.levels.values())

    until(lambda: all(all_there(w.status()) for w in workers.all))


def fine(found: dict[str, Any]) -> bool:
    """Whether it shows what it should."""
    grows = any(found[name]["grows"] for name in ("p99_ms_per_minute", "anonymous_mb_per_minute"))
    return not (grows or found["failed"] or found["short_pages"] or found["differences"])


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Half of the load for a while.")
    parser.add_argument("--release", type=Path, help="a release in its work directory; default: a small one is made")
    parser.add_argument("--minutes", type=float, default=15)
    a = parser.parse_args()
    try:
        with given_or_small(a.release) as release:
            found = run(release, a.minutes)
    except AisleError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    print(json.dumps(found))
    if not fine(found):
        sys.exit(1)


if __name__ == "__main__":
    main()
