"""The sources without learning, each alone, their union and its unlearned blend, on the test or the validation window of a prepared data set.

    python -m benchmarks.baselines --work WORK [--protocol global|last] [--seen keep|remove] [--window test|validation] [--most N]

Three blocks: every source as a ranking of the whole catalogue (filled up with popularity, which is what "ties by popularity" means); every
source at its quota, as a part of the union; the union in the order of the blend, whose weights, like the quotas, are chosen on the window before. The last
line is JSON. Speed stands beside the recall of the same run.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from core.candidates import Source, gather
from core.columns import Array
from core.config import PipelineConfig, load_pipeline
from core.prepared import CHOOSE, LAST_TRAIN, LAST_TWIN, TRAIN, TWIN, Fold, Prepared
from core.work import Work
from evaluation.judgements import MAIN, Judgements, judge
from evaluation.metrics import find, hit, ndcg, padded, recall
from ranking.blend import blend
from retrieval.fit import fit_sources, fit_weights
from retrieval.known import Known
from retrieval.sources import open_sources
from retrieval.sources.transitions import Transitions, strongest_pairs

DEPTH = 500
# (protocol, window): what the sources know, and what they knew when the blend weights were chosen
FOLDS: dict[tuple[str, str], tuple[Fold, Fold]] = {
    ("global", "test"): (TWIN, CHOOSE),
    ("global", "validation"): (CHOOSE, TRAIN),
    ("last", "test"): (LAST_TWIN, LAST_TRAIN),
    ("last", "validation"): (LAST_TRAIN, LAST_TRAIN),
}


def main() -> None:
    """Run on one data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--protocol", choices=["global", "last"], default="global")
    parser.add_argument("--seen", choices=["auto", "keep", "remove"], default="auto")
    parser.add_argument("--window", choices=["test", "validation"], default="test")
    parser.add_argument("--most", type=int, default=25_000, help="queries at most (a seeded sample)")
    parser.add_argument("--config", type=Path)
    arguments = parser.parse_args()
    config = load_pipeline(arguments.config)
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"seen": arguments.seen})})
    prepared = Prepared(Work(arguments.work).latest("prepare"))
    fold, before = FOLDS[arguments.protocol, arguments.window]
    seen = prepared.seen(config.evaluation.seen)
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as earlier:
        fit_sources(prepared, before, config, Path(earlier), say)
        quotas, weights, _ = fit_weights(prepared, before, config, Path(earlier), say)
        start = time.perf_counter()
        fit_sources(prepared, fold, config, Path(folder), say)
        fit_seconds = time.perf_counter() - start
        queries = Queries(prepared, fold, seen, config, arguments.most)
        result = measure(
            open_sources(Path(folder)),
            PlainTransitions.fit(Known(prepared, fold, config.sources)),
            queries,
            quotas.quotas,
            weights,
        )
    print(
        json.dumps(
            {"fold": fold.name, "seen": seen, "queries": len(queries), "fit_seconds": round(fit_seconds, 1), **result}
        )
    )


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


class Queries:
    """The queries of the main figure, and the judgement of answers to them."""

    def __init__(self, prepared: Prepared, fold: Fold, seen: Any, config: PipelineConfig, most: int) -> None:
        everything = judge(prepared, fold, seen)
        main = np.flatnonzero(everything.cohort == MAIN)
        if len(main) > most:
            main = np.sort(np.random.default_rng(config.evaluation.seed).choice(main, most, replace=False))
        judgements: Judgements = everything.only(main)
        events = prepared.events
        self.asked = [
            (judgements.query(q, events, config.sources.history_events), judgements.excluded(q, events))
            for q in range(len(judgements))
        ]
        self.relevance = judgements.relevance

    def __len__(self) -> int:
        return len(self.asked)

    def judged(self, answers: list[Array], depth: int = DEPTH) -> dict[str, float]:
        """Means over the queries."""
        found = find(padded(answers, depth), self.relevance)
        figures = {
            "ndcg@10": ndcg(found, 10),
            "hit@10": hit(found, 10),
            "recall@100": recall(found, 100),
            "recall@500": recall(found, 500),
        }
        return {name: round(float(values.mean()), 4) for name, values in figures.items()}


def measure(
    sources: tuple[Source, ...], plain: Source, queries: Queries, quotas: dict[str, int], weights: dict[str, float]
) -> dict[str, Any]:
    """All three blocks."""
    baselines = {s.name: alone(s, sources, queries) for s in (*sources, plain)}
    for name, figures in baselines.items():
        say(f"{name:22} {figures}")
    at_quota = {}
    for s in sources:
        times, answers = [], []
        for query, excluded in queries.asked:
            start = time.perf_counter()
            answers.append(s.scoring(query).top(quotas.get(s.name, 0), excluded)[0])
            times.append(time.perf_counter() - start)
        p50, p99 = np.percentile(times, [50, 99]) * 1000
        judged = queries.judged(answers)
        at_quota[s.name] = {
            "quota": quotas.get(s.name, 0),
            **judged,
            "p50_ms": round(float(p50), 3),
            "p99_ms": round(float(p99), 3),
        }
        say(f"{s.name:22} at its quota {at_quota[s.name]}")
    union = united(sources, queries, quotas, weights)
    say(f"union {union}")
    return {"baselines": baselines, "at_quota": at_quota, "union": union, "weights": weights}


class PlainTransitions(Transitions):
    """Transitions as published: counts over their distance, from the last 10 items, each as much as the other."""

    name = "transitions, plain"

    @classmethod
    def fit(cls, known: Known) -> PlainTransitions:
        """Undivided."""
        return cls(strongest_pairs(known, cls.table, known.n_items, power=0.0), 10, 0.0)


def alone(source: Source, sources: tuple[Source, ...], queries: Queries) -> dict[str, float]:
    """One source as a ranking of the whole catalogue: where it has no evidence, by popularity."""
    popular = next(s for s in sources if s.name == "popularity")
    answers = []
    for query, excluded in queries.asked:
        rows = source.scoring(query).top(DEPTH, excluded)[0]
        if len(rows) < DEPTH:
            taken = np.union1d(excluded, rows)
            rows = np.concatenate([rows, popular.scoring(query).top(DEPTH - len(rows), taken)[0]])
        answers.append(rows)
    return queries.judged(answers)


def united(
    sources: tuple[Source, ...], queries: Queries, quotas: dict[str, int], weights: dict[str, float]
) -> dict[str, Any]:
    """The union in the order of the blend; its own recall whatever the order; and what it costs."""
    ordered, whole, times = [], [], []
    for query, excluded in queries.asked:
        start = time.perf_counter()
        candidates = gather(sources, quotas, query, excluded)
        scores = blend(candidates, weights)
        times.append(time.perf_counter() - start)
        ordered.append(candidates.rows[np.argsort(-scores, kind="stable")])
        whole.append(candidates.rows)
    sizes = [len(w) for w in whole]
    complete = find(padded(whole, max(sizes)), queries.relevance)
    return {
        **queries.judged(ordered),
        "size_p50": int(np.median(sizes)),
        "size_max": max(sizes),
        "recall": round(float(recall(complete, max(sizes)).mean()), 4),
        "p50_ms": round(float(np.percentile(times, 50)) * 1000, 3),
    }


if __name__ == "__main__":
    main()
