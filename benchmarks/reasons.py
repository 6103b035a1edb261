"""What reasons cost: CPU milliseconds of a page without them, of the statements on every page, and of the contributions that `explain` asks for.

    python -m benchmarks.reasons --release R --state STATE [--page 20] [--listed 100] [--queries 100] [--repeats 5]

People of a real release, one thread; each is asked `repeats` times and the least counts, so that other work on the machine is left out. `page`: `Recommend`
with the release's own candidates. `list`: `Rank` of as many of them. The last line is JSON: medians.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from core.history import Query
from serving.answers import Answer, Request
from serving.explain import score_parts
from serving.reasons import reasons
from serving.release import Release
from serving.request_path import answer, rank
from serving.user_state import UserState


def main() -> None:
    """Time the people of a release."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", type=Path, required=True)
    parser.add_argument("--state", type=Path, required=True, help="user state of the release")
    parser.add_argument("--page", type=int, default=20, help="items of a page")
    parser.add_argument("--listed", type=int, default=100, help="items of a list")
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    a = parser.parse_args()
    release = Release.open(a.release)
    people = UserState.open(a.state, release.settings.history_events)
    laps = []
    for user in np.random.default_rng(7).permutation(people.histories.users)[: a.queries].tolist():
        now = release.window_end
        query = Query(now, user, people.histories.before(user), facts=people.facts.at(user, now))
        laps.append(timed(release, query, a.page, a.listed, a.repeats))
    print(
        json.dumps({n: round(float(np.median([lap[n] for lap in laps])), 4) for n in laps[0]} | shape(release, laps, a))
    )


def timed(release: Release, query: Query, k: int, listed: int, repeats: int) -> dict[str, float]:
    """CPU milliseconds of each part of one person's page and list."""
    request = Request(query, k)
    page = answer(release, request)
    rows = np.sort(answer(release, Request(query, listed)).rows)
    ordered = rank(release, query, rows)
    return {
        "page_ms": least(lambda: answer(release, request), repeats),
        **{f"page_{n}": v for n, v in said(release, query, page, repeats).items()},
        "list_ms": least(lambda: rank(release, query, rows), repeats),
        **{f"list_{n}": v for n, v in said(release, query, ordered, repeats).items()},
    }


def said(release: Release, query: Query, page: Answer, repeats: int) -> dict[str, float]:
    """The same of what is said of a page."""
    rows = page.rows.tolist()
    return {
        "statements_ms": least(lambda: reasons(release, query, rows, page.sources), repeats),
        "contributions_ms": least(lambda: score_parts(release, page), repeats),
    }


def least(call: Callable[[], Any], repeats: int) -> float:
    """The least of several runs, CPU milliseconds of the one thread."""
    laps = []
    for _ in range(repeats):
        start = time.thread_time()
        call()
        laps.append(1e3 * (time.thread_time() - start))
    return min(laps)


def shape(release: Release, laps: list[Any], a: argparse.Namespace) -> dict[str, Any]:
    """What the figures are of."""
    trees = 0 if release.scorer is None else int(release.scorer.header["trees"])
    return {"trees": trees, "page": a.page, "listed": a.listed, "queries": len(laps)}


if __name__ == "__main__":
    main()
