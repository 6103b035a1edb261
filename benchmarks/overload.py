"""A server that is asked four times as much as it can answer: what it answers, how fast, and how soon all is well afterwards.

    .venv/bin/python -m benchmarks.overload --release WORK/releases/current [--seconds 60]

One worker on a copy of the release, with a Redis of its own. First its saturation: calls answered a second, three under way at a time. Then an open loop
(benchmarks/open_loop.py) at half of that, at four times that, and at half again: calls begin on a fixed schedule, late or not, and latency counts from the
scheduled moment. `served`: what was answered under overload; the rest must be refused as RESOURCE_EXHAUSTED, by the protection of the server, at
once. `recovered_seconds`: from the end of the overload to the last call after it that was refused, or answered later than the goal. `unprotected` is the
same overload, shorter, on a server with `protection.shed: false`: gRPC's queue alone. `generator_late_ms` is the lag of this process, which shares the
machine, and is part of the latencies but of `p99_from_sent_ms`. The last line of stdout is JSON; exit 1 if the goal is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import grpc.aio
import numpy as np
import yaml

from aisle.v1.recommender_pb2_grpc import RecommenderStub
from benchmarks.fault_place import OwnRedis, copied, given_or_small, load_state
from benchmarks.open_loop import Call, OpenLoop
from benchmarks.serve import Asking, Server
from core.errors import AisleError
from core.work import Work
from pipeline.served import Served

_AT_ONCE, _FIND_SECONDS, _WARM_UP = 3, 8.0, 300
_TIMES: Final = 4.0
_CALM: Final = 0.5  # of saturation, before and after
_CALM_SECONDS: Final = 6.0
_GOAL_MS: Final = 50.0
_RECOVERY_SECONDS: Final = 2.0
_BASELINE_SECONDS: Final = 8.0
_SHED: Final = "RESOURCE_EXHAUSTED"


def saturation(served: Served, users: Sequence[str]) -> float:
    """Calls answered a second, three at a time: none is shed, and one always computes."""

    async def find() -> float:
        async with grpc.aio.insecure_channel(served.address) as channel:
            asking = Asking(RecommenderStub(channel), users)
            await asking.one_by_one(_WARM_UP)
            return await asking.saturated(_AT_ONCE, _FIND_SECONDS)

    Server(served).settle()
    return asyncio.run(find())


def phase(address: str, users: Sequence[str], rate: float, seconds: float) -> list[Call]:
    """An open loop for so long; the calls, in the order in which they were due."""
    with OpenLoop(address, users, rate, insists=False) as load:
        time.sleep(seconds)
    return sorted(load.calls, key=lambda c: c.due)


def figures(calls: Sequence[Call], seconds: float) -> dict[str, Any]:
    """What became of them."""
    served = np.array([1e3 * c.seconds for c in calls if not c.failed] or [np.nan])
    shed = np.array([1e3 * c.seconds for c in calls if c.status == _SHED] or [np.nan])
    sent = np.array([1e3 * (c.seconds - c.late) for c in calls if not c.failed] or [np.nan])
    late = np.array([1e3 * c.late for c in calls] or [np.nan])
    return {
        "calls": len(calls),
        "served": sum(not c.failed for c in calls),
        "served_per_second": round(sum(not c.failed for c in calls) / seconds, 1),
        "shed": sum(c.status == _SHED for c in calls),
        "other": dict(Counter(f"{c.status}: {c.reason}" for c in calls if c.failed and c.status != _SHED)),
        "degraded": sum(bool(c.reason) for c in calls if not c.failed),
        **{f"p{q:g}_ms": round(float(np.quantile(served, q / 100)), 1) for q in (50, 99)},
        "p99_from_sent_ms": round(float(np.quantile(sent, 0.99)), 1),
        "shed_p99_ms": round(float(np.quantile(shed, 0.99)), 1),
        "generator_late_ms": round(float(np.quantile(late, 0.99)), 1),
    }


def overloaded(work: Work, redis: str, users: Sequence[str], seconds: float, folder: Path) -> dict[str, Any]:
    """The protected server: saturation, calm, overload, calm."""
    with Served(work.current, "--redis", redis, "--config", _settings(folder, shed=True)) as served:
        rate = saturation(served, users)
        print(f"saturated: {rate:.0f} requests/s", file=sys.stderr)
        before = phase(served.address, users, _CALM * rate, _CALM_SECONDS)
        under = phase(served.address, users, _TIMES * rate, seconds)
        end = time.perf_counter()
        after = phase(served.address, users, _CALM * rate, _CALM_SECONDS)
    unwell = [c.due - end for c in after if c.failed or 1e3 * c.seconds > _GOAL_MS]
    return {
        "saturation_per_second": round(rate, 1),
        "before": figures(before, _CALM_SECONDS),
        "under": figures(under, seconds),
        "after": figures(after, _CALM_SECONDS),
        "recovered_seconds": round(max(unwell, default=0.0), 2),
    }


def unprotected(work: Work, redis: str, users: Sequence[str], rate: float, folder: Path) -> dict[str, Any]:
    """The same overload, shorter, on a server that lets everything in."""
    with Served(work.current, "--redis", redis, "--config", _settings(folder, shed=False)) as served:
        Server(served).settle()
        return figures(phase(served.address, users, _TIMES * rate, _BASELINE_SECONDS), _BASELINE_SECONDS)


def _settings(folder: Path, *, shed: bool) -> Path:
    config = folder / f"shed-{shed}.yaml"
    config.write_text(yaml.safe_dump({"protection": {"shed": shed}}))
    return config


def run(release: Path, seconds: float) -> dict[str, Any]:
    """All of it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aisle-overload-")))
        work, redis = copied(release, folder / "work"), OwnRedis(folder / "redis", folder)
        stack.callback(redis.stop)
        redis.start()
        users = load_state(work, redis.url)
        found = overloaded(work, redis.url, users, seconds, folder)
        found["unprotected"] = unprotected(work, redis.url, users, found["saturation_per_second"], folder)
    return {"seconds": seconds, "times": _TIMES, **found}


def fine(found: dict[str, Any]) -> bool:
    """Whether it shows what it should."""
    under = found["under"]
    kept = under["p99_ms"] <= _GOAL_MS and not under["other"] and under["served"] > 0
    return kept and found["recovered_seconds"] <= _RECOVERY_SECONDS


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Ask a server four times as much as it can answer.")
    parser.add_argument("--release", type=Path, help="a release in its work directory; default: a small one is made")
    parser.add_argument("--seconds", type=float, default=60, help="of overload")
    a = parser.parse_args()
    try:
        with given_or_small(a.release) as release:
            found = run(release, a.seconds)
    except AisleError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    print(json.dumps(found))
    if not fine(found):
        sys.exit(1)


if __name__ == "__main__":
    main()
