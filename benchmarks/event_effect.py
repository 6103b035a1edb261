"""How soon an event changes the next answer: from the moment that `WriteEvents` is sent until an answer of `Recommend` that knows of it.

    .venv/bin/python -m benchmarks.event_effect --release WORK/releases/current [--count 1000]

A server of two workers with its own Redis, on a copy of the release, under light load (an open loop beside it). Each time somebody new looks at an item
in a new session, through one worker; the other worker is asked for their page again and again until its level is no longer that of a stranger.
`write_ms` is the call of WriteEvents alone, until the event is on disk; `effect_ms` all of it, with the answer. `first_answer` is the share whose
first answer after the acknowledgement knew of the event. The last line of stdout is JSON; exit 1 when the p99 is above the goal.
"""

# bazel: imports=[cli.*]

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, Final

import numpy as np

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest
from benchmarks.connections import Connections
from benchmarks.fault_place import copied, given_or_small
from benchmarks.open_loop import OpenLoop, summary
from core.errors import AisleError
from pipeline.served import Served
from serving.client import Client
from serving.release import Release

_GOAL_MS: Final = 50.0
_PATIENCE_SECONDS: Final = 5.0
_WARM_UP: Final = 20
_STRANGERS: Final = frozenset({"popular", "context"})


def run(release: Path, count: int, rate: float) -> dict[str, Any]:
    """`count` events, one after the other, beside `rate` calls a second."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aisle-effect-")))
        work = copied(release, folder / "work")
        items = [i for i in Release.open(work.current).item_ids.texts if i]
        served = stack.enter_context(Served(work.current, "--workers", 2))
        workers = stack.enter_context(closing(Connections(served.address, 2)))
        writer, reader = workers.all
        load = stack.enter_context(OpenLoop(served.address, [f"somebody-{n}" for n in range(100)], rate))
        found = [_effect(writer, reader, items[n % len(items)], n) for n in range(_WARM_UP + count)][_WARM_UP:]
        load.stop()
    written, effect, answers = np.array(found).T
    return {
        "count": count,
        "write_ms": _milliseconds(written),
        "effect_ms": _milliseconds(effect),
        "first_answer": round(float(np.mean(answers == 1)), 4),
        "goal_ms": _GOAL_MS,
        "load": {"rate": rate, **summary(load.calls)},
    }


def _effect(writer: Client, reader: Client, item: str, number: int) -> tuple[float, float, int]:
    """Seconds until the event was acknowledged, and until an answer knew of it; how many answers that took."""
    session, start = f"effect-{number}", time.perf_counter()
    writer.write_events([Event(event_type="detail-page-view", item_id=item, visitor_id=session, session_id=session)])
    written, answers = time.perf_counter() - start, 0
    while time.perf_counter() - start < _PATIENCE_SECONDS:
        level = reader.recommend(RecommendRequest(session_id=session, page_size=10)).level
        answers += 1
        if level not in _STRANGERS:
            return written, time.perf_counter() - start, answers
    raise AisleError(f"event {number} has changed no answer within {_PATIENCE_SECONDS:.0f} s")


def _milliseconds(seconds: Any) -> dict[str, float]:
    quantiles = {f"p{q:g}": np.quantile(seconds, q / 100) for q in (50, 99)} | {"max": seconds.max()}
    return {name: round(1e3 * float(value), 2) for name, value in quantiles.items()}


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="From an event to the first answer that knows of it.")
    parser.add_argument("--release", type=Path, help="a release in its work directory; default: a small one is made")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--rate", type=float, default=20, help="calls a second beside it")
    a = parser.parse_args()
    try:
        with given_or_small(a.release) as release:
            found = run(release, a.count, a.rate)
    except AisleError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    print(json.dumps(found))
    if found["effect_ms"]["p99"] > _GOAL_MS:
        sys.exit(1)


if __name__ == "__main__":
    main()
