"""Whether asking the sources in parallel would pay: `gather` one after another, and on threads, by turns on the same queries.

    python -m benchmarks.source_threads --release R [--user-state S] [--queries N] [--threads T]

The people with histories are drawn from the release's user state. Wall-clock milliseconds of a request alone (its latency) and CPU of the process (what all
requests share). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from core.candidates import Candidates, Scoring, Source, gather
from core.columns import Array
from core.history import Query
from core.ids import NO_ROW
from core.work import Work
from serving.release import Release
from serving.request_path import quotas_of
from serving.user_state import UserState

_NONE = np.empty(0, np.int32)


def threaded(pool: ThreadPoolExecutor, sources: tuple[Source, ...], quotas: dict[str, int], query: Query) -> Candidates:
    """What `gather` does, each source on a thread of `pool`, in its two rounds."""

    def ask(source: Source) -> tuple[Scoring, Array]:
        scoring = source.scoring(query)
        return scoring, scoring.top(quotas.get(source.name, 0), _NONE)[0]

    asked = list(pool.map(ask, sources))
    rows = np.unique(np.concatenate([proposed for _, proposed in asked])).astype(np.int32)
    scores = np.empty((len(rows), len(sources)), np.float32)
    ranks = np.full((len(rows), len(sources)), NO_ROW, np.int32)
    for s, (score, (_, proposed)) in enumerate(zip(pool.map(lambda a: a[0].of(rows), asked), asked, strict=True)):
        scores[:, s] = score
        ranks[np.searchsorted(rows, proposed), s] = np.arange(len(proposed), dtype=np.int32)
    return Candidates(rows, tuple(s.name for s in sources), scores, ranks)


def measured(ways: dict[str, Callable[[Query], Candidates]], queries: list[Query]) -> dict[str, dict[str, float]]:
    """Medians of wall and means of CPU milliseconds of each way, every query by each in turn."""
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu = dict.fromkeys(ways, 0.0)
    for at, query in enumerate(queries):
        for name in (list(ways), list(ways)[::-1])[at % 2]:
            began, busy = time.perf_counter(), time.process_time()
            ways[name](query)
            cpu[name] += 1e3 * (time.process_time() - busy)
            wall[name].append(1e3 * (time.perf_counter() - began))
    return {
        name: {"p50_ms": round(float(np.median(wall[name])), 3), "cpu_ms": round(cpu[name] / len(queries), 3)}
        for name in ways
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", type=Path, required=True)
    parser.add_argument("--user-state", type=Path)
    parser.add_argument("--queries", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    release = Release.open(args.release)
    folder = args.user_state or Work(release.path.parent.parent).user_state(release.window_end)
    state, quotas = UserState.open(folder), quotas_of(release.settings, release.sources, 10)
    queries: list[Query] = []
    for user in np.random.default_rng(7).permutation(len(state.ids)).tolist():
        history = state.histories.before(user).newest(release.settings.history_events)
        if len(history) and len(queries) < args.queries:
            queries.append(Query(release.window_end, user, history, facts=state.facts.at(user, release.window_end)))
    with ThreadPoolExecutor(args.threads) as pool:
        ways: dict[str, Callable[[Query], Candidates]] = {
            "one after another": lambda q: gather(release.sources, quotas, q, _NONE),
            "on threads": lambda q: threaded(pool, release.sources, quotas, q),
        }
        for query in queries[:20]:
            one, other = (way(query) for way in ways.values())
            assert np.array_equal(one.rows, other.rows)
            assert np.array_equal(one.scores, other.scores)
        found: dict[str, Any] = measured(ways, queries)
    print(json.dumps({"items": len(release.item_ids), "threads": args.threads, "queries": len(queries), **found}))


if __name__ == "__main__":
    main()
