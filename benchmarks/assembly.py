"""Feature assembly: milliseconds to make the ranker's matrix of 500 candidates on one thread, by step.

    python -m benchmarks.assembly [--release R --state STATE] [--candidates 500] [--queries 300] [--repeats 3]

Without a release it makes up a shop of 100,000 items with every source, and people of 40 successes. Each query is assembled `repeats` times and the least
counts, so that other work on the machine is left out. The last line is JSON; `profile_ms` is the mean by function of ranking/features.py.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import pstats
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from core.candidates import Candidates, Source, gather
from core.columns import Tags, Texts
from core.history import History, Query
from core.schema import DAY, EventType
from ranking.feature_list import FEATURES, SOURCES
from ranking.features import matrix
from ranking.item_table import FACT_NAMES, ItemTable
from serving.release import Release
from serving.user_state import UserState

_ITEMS, _HISTORY, _TAGS, _NOW = 100_000, 40, 6, 1_700_000_000_000_000

Case = tuple[Query, Candidates, ItemTable, tuple[Source, ...]]


def main() -> None:
    """Time the cases, then profile them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", type=Path)
    parser.add_argument("--state", type=Path, help="user state of the release")
    parser.add_argument("--candidates", type=int, default=500)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3)
    a = parser.parse_args()
    if (a.release is None) != (a.state is None):
        parser.error("--release and --state go together")
    cases = list(made_up(a.candidates, a.queries) if a.release is None else of_release(a.release, a.state, a.queries))
    laps = np.array([min(_timed(case) for _ in range(a.repeats)) for case in cases])
    print(
        json.dumps(
            {
                "p50_ms": round(float(np.median(laps)), 4),
                "p99_ms": round(float(np.quantile(laps, 0.99)), 4),
                "candidates": float(np.median([len(c) for _, c, _, _ in cases])),
                "features": len(FEATURES),
                "queries": len(cases),
                "history": float(np.median([len(q.history) for q, _, _, _ in cases])),
                "profile_ms": _profile(cases),
            }
        )
    )


def _timed(case: Case) -> float:
    """CPU milliseconds of the one thread."""
    start = time.thread_time()
    matrix(*case)
    return 1e3 * (time.thread_time() - start)


def _profile(cases: list[Case]) -> dict[str, float]:
    """Mean milliseconds a case in each function of features.py, what it calls included; the profiler itself makes all of them slower."""
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    for case in cases:
        matrix(*case)
    profile.disable()
    stats: dict[Any, Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]  # typeshed does not know it
    found = {n: v[3] for (file, _, n), v in stats.items() if file.endswith("ranking/features.py")}
    return {n: round(1e3 * s / len(cases), 4) for n, s in sorted(found.items(), key=lambda f: -f[1])}


def made_up(candidates: int, queries: int) -> Iterator[Case]:
    """A shop of random columns."""
    rng = np.random.default_rng(7)
    starts = np.arange(0, _TAGS * (_ITEMS + 1), _TAGS, dtype=np.int64)
    vocabulary = 2_000
    table = ItemTable(
        facts=rng.normal(3, 1, (_ITEMS, len(FACT_NAMES))).astype(np.float32),
        brand=rng.integers(0, 500, _ITEMS).astype(np.int32),
        category=rng.integers(0, 100, _ITEMS).astype(np.int32),
        attributes=Tags(
            starts,
            rng.integers(0, vocabulary, _TAGS * _ITEMS).astype(np.int32),
            Texts.of(map(str, range(vocabulary))),
        ),
        rarity=rng.random(vocabulary).astype(np.float32),
        until=_NOW,
        synthetic_time=False,
    )
    for _ in range(queries):
        rows = np.sort(rng.choice(_ITEMS, candidates, replace=False)).astype(np.int32)
        times = np.sort(_NOW - rng.integers(0, 200, _HISTORY) * DAY)
        bought = np.full(_HISTORY, EventType.PURCHASE_COMPLETE.code, np.int8)
        items = np.concatenate([rng.choice(rows, _HISTORY // 2), rng.integers(0, _ITEMS, _HISTORY // 2)])
        history = History(items.astype(np.int32), times, bought, np.ones(_HISTORY, np.float32))
        shape = (candidates, len(SOURCES))
        scores = np.where(rng.random(shape) < 0.6, rng.random(shape), 0).astype(np.float32)
        ranks = np.where(scores > 0.3, rng.integers(0, 200, shape), -1).astype(np.int32)
        yield Query(_NOW + 1, history=history), Candidates(rows, SOURCES, scores, ranks), table, ()


def of_release(path: Path, state: Path, queries: int) -> Iterator[Case]:
    """People of a real release, with what its sources propose them."""
    release = Release.open(path)
    people = UserState.open(state, release.settings.history_events)
    assert release.table is not None
    chosen = np.random.default_rng(7).permutation(people.histories.users)
    for user in chosen[:queries].tolist():
        time_, past = release.window_end, people.histories.before(user)
        query = Query(time_, user, past, facts=people.facts.at(user, time_), attributes=people.told.of(user))
        candidates = gather(release.sources, release.settings.quotas, query, np.empty(0, np.int32))
        yield query, candidates, release.table, release.sources


if __name__ == "__main__":
    main()
