"""What drawing the order of a page costs, and what it teaches: Plackett-Luce by place, and by score, at several steepnesses.

    python -m benchmarks.exploration --work WORK [--queries N] [--places K] [--reach R] [--seed S]

WORK is of a shop whose test window nothing is chosen on but this: the twin of a night answers its test queries. Nothing is simulated: the chances are
exact, and so are the means over them. For each way to draw:

kept       expected NDCG@K of a drawn page, of that of the usual page; only what can be drawn counts for either
first      chance that the first place is the usual one
least      smallest chance of any item of any place
effective  of a rival order evaluated per position by inverse propensities: the harmonic mean of the chances of its items in its places, which is how much a
           logged page is worth beside a page of the rival's own; over places whose item can be drawn (their share: `covered`)

By place an item's worth is place^-steepness; by score exp(steepness x score / standard deviation of the scores that are drawn from).
Beside it the CPU of an answer without chance, with a drawn order, and with 500 new items of which one may get a place.
The rivals are orders that a shop could want to try: the blend instead of the ranker, and single sources. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.baselines import say
from core.columns import Array
from core.config import load_pipeline
from core.history import Query
from core.prepared import TWIN, Prepared
from core.work import Work
from evaluation.judgements import judge
from ranking.user_facts import UserFacts
from serving.answers import Request
from serving.config import load_serving
from serving.exploration import Chance
from serving.plackett_luce import chances, table
from serving.release import Release
from serving.request_path import answer

_BY_PLACE: Final = (0.5, 1.0, 1.5, 2.0, 3.0)
_BY_SCORE: Final = (0.5, 1.0, 1.5, 2.0, 3.0)
_RIVALS: Final = ("item_knn", "popularity")
BLEND: Final = "blend"


@dataclass(frozen=True)
class Page:
    """One test query: what can be drawn, in the usual order."""

    scores: Array  # float64 [n]
    wanted: Array  # bool [n]
    rivals: dict[
        str, Array
    ]  # int64 [k]: where each item of the rival's page stands in the usual order; -1: it cannot be drawn


def read(work: Work, queries: int, places: int, reach: float, seed: int) -> list[Page]:
    """A sample of the twin's test queries of known people of whose choices at least one can be drawn."""
    config, prepared = load_pipeline(), Prepared(work.latest("prepare"))
    release = Release.open(max((work.root / "stages" / "twin").iterdir(), key=lambda p: p.stat().st_mtime))
    judgements, facts = (
        judge(prepared, TWIN, prepared.seen(config.evaluation.seen)),
        UserFacts.of(prepared, release.window_end),
    )
    systems: dict[str, tuple[Release, Any]] = {
        name: (release, tuple(s for s in release.sources if s.name == name)) for name in _RIVALS
    }
    if release.scorer is not None:
        systems[BLEND] = (replace(release, scorer=None), None)
    found: list[Page] = []
    for q in np.random.default_rng(seed).permutation(np.flatnonzero(judgements.main)).tolist():
        query = judgements.query(q, prepared, release.settings.history_events)
        query = replace(query, facts=facts.at(query.user, query.time))
        asked = Request(query, round(places * reach), excluded=judgements.excluded(q, prepared.events))
        page, relevance = answer(release, asked), judgements.relevance
        wanted = np.isin(page.rows, relevance.items[relevance.starts[q] : relevance.starts[q + 1]])
        if not wanted.any():
            continue
        rivals = {
            name: _places_in(answer(of, replace(asked, k=places), sources).rows, page.rows)
            for name, (of, sources) in systems.items()
        }
        found.append(Page(page.scores.astype(np.float64), wanted, rivals))
        if len(found) == queries:
            break
    return found


def _places_in(rows: Array, usual: Array) -> Array:
    return np.array([next(iter(np.flatnonzero(usual == row).tolist()), -1) for row in rows.tolist()], np.int64)


def _by_place(places: int, steepness: float, page: Page) -> Array:
    return table(len(page.scores), places, steepness)


def _by_score(places: int, steepness: float, page: Page) -> Array:
    return chances(np.exp(steepness * (page.scores - page.scores[0]) / page.scores.std()), places)


def judged(pages: list[Page], places: int, of: Callable[[Page], Array]) -> dict[str, Any]:
    """The figures of one way to draw; `of` gives the chances float64 `[n, places]` of a page."""
    discount = 1 / np.log2(np.arange(2, places + 2))
    kept, usual, first, least = [], [], [], 1.0
    inverse: dict[str, list[float]] = {name: [] for name in pages[0].rivals}
    asked = dict.fromkeys(inverse, 0)
    for page in pages:
        chance = of(page)
        ideal = discount[: int(page.wanted.sum())].sum()
        kept.append(float(chance[page.wanted].sum(axis=0) @ discount) / ideal)
        usual.append(float(page.wanted[:places] @ discount[: len(page.wanted)]) / ideal)
        first.append(chance[0, 0])
        least = min(least, float(chance.min()))
        for name, at in page.rivals.items():
            there = np.flatnonzero(at >= 0)
            asked[name] += len(at)
            inverse[name] += (1 / chance[at[there], there]).tolist()
    return {
        "kept": round(float(np.mean(kept) / np.mean(usual)), 4),
        "first": round(float(np.mean(first)), 4),
        "least": float(f"{least:.2e}"),
        "effective": {name: float(f"{len(v) / sum(v):.3g}") for name, v in inverse.items()},
        "covered": {name: round(len(v) / asked[name], 4) for name, v in inverse.items()},
    }


def cost(work: Work, rounds: int, places: int, seed: int) -> dict[str, float]:
    """CPU microseconds of an answer's page, its draw included: mean over strangers' pages, usual and drawn by turns, and with a place for new items."""
    release = Release.open(work.current)
    config = load_serving().exploration
    new = np.sort(release.fill[-500:])
    ways = {"usual": None, "drawn": (True, new[:0]), "new": (False, new), "both": (True, new)}
    spent = dict.fromkeys(ways, 0)
    for at in range(rounds):
        for name, way in ways.items():
            chance = None if way is None else Chance(f"{seed}-{at}", config, *way)
            asked = Request(Query(release.window_end), places, chance=chance)
            began = time.process_time_ns()
            answer(release, asked)
            spent[name] += (time.process_time_ns() - began) * (at >= 20)  # the first find cold caches
    return {name: round(ns / 1e3 / (rounds - 20), 1) for name, ns in spent.items()}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--queries", type=int, default=300)
    parser.add_argument("--places", type=int, default=10)
    parser.add_argument("--reach", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=7)
    args = parser.parse_args()
    pages, k = read(Work(args.work), args.queries, args.places, args.reach, args.seed), args.places
    result: dict[str, Any] = {}
    for steepness in _BY_PLACE:
        result[f"place {steepness}"] = judged(pages, k, partial(_by_place, k, steepness))
        say(f"place {steepness}: {result[f'place {steepness}']}")
    for steepness in _BY_SCORE:
        result[f"score {steepness}"] = judged(pages, k, partial(_by_score, k, steepness))
        say(f"score {steepness}: {result[f'score {steepness}']}")
    spent = cost(Work(args.work), 520, k, args.seed)
    say(f"CPU microseconds of a stranger's answer: {spent}")
    print(
        json.dumps(
            {
                "cpu_us": spent,
                "queries": len(pages),
                "places": k,
                "reach": args.reach,
                "seed": args.seed,
                "ways": result,
            }
        )
    )


if __name__ == "__main__":
    main()
