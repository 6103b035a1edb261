"""The sources without learning, each alone, their union and its unlearned blend, on the test or the validation window of a prepared data set.

    python -m benchmarks.baselines --work WORK [--protocol global|last] [--seen keep|remove] [--window test|validation] [--most N]

Two blocks: every source as a ranking of the whole catalogue (filled up with popularity, which is what "ties by popularity" means); their union
at the quotas of a usual page, in the order of the blend, whose weights, like the quotas, were chosen on the window before. The last line is JSON. With the
towers, at a long page, and beside learned baselines: benchmarks.retrieval.
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

from benchmarks.union import DEPTH, METRICS, POPULARITY, filled, measured, unite
from core.candidates import Source
from core.columns import Array
from core.config import PipelineConfig, load_pipeline
from core.prepared import CHOOSE, LAST_TRAIN, LAST_TWIN, TRAIN, TWIN, Fold, Prepared
from core.work import Work
from evaluation.judgements import MAIN, Judgements, judge
from retrieval.fit import fit_sources, fit_weights
from retrieval.known import Known
from retrieval.sources import open_sources
from retrieval.sources.transitions import Transitions, strongest_pairs

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
            (judgements.query(q, prepared, config.sources.history_events), judgements.excluded(q, events))
            for q in range(len(judgements))
        ]
        self.judgements, self.relevance = judgements, judgements.relevance

    def __len__(self) -> int:
        return len(self.asked)

    def judged(self, answers: list[Array]) -> dict[str, float]:
        """Means over the queries."""
        return dict(zip(METRICS, measured(answers, self.relevance).mean(0).round(4).tolist(), strict=True))


def measure(
    sources: tuple[Source, ...], plain: Source, queries: Queries, quotas: dict[str, int], weights: dict[str, float]
) -> dict[str, Any]:
    """Both blocks."""
    baselines = {s.name: queries.judged(alone(s, sources, queries)) for s in (*sources, plain)}
    for name, figures in baselines.items():
        say(f"{name:22} {figures}")
    union = unite(sources, quotas, weights, queries.asked, queries.relevance).means()
    say(f"union {union}")
    return {"baselines": baselines, "union": union, "weights": weights}


class PlainTransitions(Transitions):
    """Transitions as published: counts over their distance, from the last 10 items, each as much as the other."""

    name = "transitions, plain"

    @classmethod
    def fit(cls, known: Known) -> PlainTransitions:
        """Undivided."""
        return cls(strongest_pairs(known, cls.table, known.n_items, power=0.0), 10, 0.0)


def alone(source: Source, sources: tuple[Source, ...], queries: Queries) -> list[Array]:
    """One source as a ranking of the whole catalogue, int32 `[DEPTH]` a query: where it has no evidence, by popularity."""
    popular = next(s for s in sources if s.name == POPULARITY)
    return [
        filled(source.scoring(query).top(DEPTH, excluded)[0], popular, query, excluded)
        for query, excluded in queries.asked
    ]


if __name__ == "__main__":
    main()
