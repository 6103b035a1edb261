"""The ranker against the unlearned blend, on the same candidates of the same twin.

    python -m benchmarks.ranker --work WORK [--protocol global|last] [--seen auto|keep|remove] [--config F]

Both answer every test query through the request path; the difference comes with its paired bootstrap interval. Feature assembly and scoring
are timed on one thread beside the accuracy of the same run. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from core.candidates import gather
from core.columns import Array
from core.config import PipelineConfig, load_pipeline
from core.prepared import LAST_TWIN, TWIN, Fold, Prepared
from core.work import Work
from evaluation.intervals import difference
from evaluation.judgements import MAIN, Judgements, judge
from evaluation.metrics import find, hit, ndcg, padded, recall
from pipeline.index import run as build_index
from pipeline.index import run_last as build_index_last
from pipeline.publish import Parts
from pipeline.ranker import run as train_ranker
from pipeline.ranker import run_last as train_ranker_last
from pipeline.twin import release_settings, twin
from ranking.features import matrix
from retrieval.fit import run as train_retrieval
from retrieval.fit import run_last as train_retrieval_last
from serving.answers import Request
from serving.release import Release
from serving.request_path import answer

_DEPTH = 500
_TIMED = 300  # queries


def main() -> None:
    """Train what is not there yet, then compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="with prepared data")
    parser.add_argument("--protocol", choices=["global", "last"], default="global")
    parser.add_argument("--seen", choices=["auto", "keep", "remove"], default="auto")
    parser.add_argument("--most", type=int, default=10_000, help="queries at most (a seeded sample)")
    parser.add_argument("--config", type=Path)
    arguments = parser.parse_args()
    work, config = Work(arguments.work), load_pipeline(arguments.config)
    prepared = Prepared(work.latest("prepare"))
    release, fold = opened(work, prepared, config, arguments.protocol)
    judgements = sampled(judge(prepared, fold, prepared.seen(arguments.seen)), arguments.most, config)
    print(json.dumps(compare(release, prepared, judgements, config)))


def opened(work: Work, prepared: Prepared, config: PipelineConfig, protocol: str) -> tuple[Release, Fold]:
    """The twin of a protocol, its stages run where they have not."""
    retrieval, index, ranker, fold = {
        "global": (train_retrieval, build_index, train_ranker, TWIN),
        "last": (train_retrieval_last, build_index_last, train_ranker_last, LAST_TWIN),
    }[protocol]
    with work.locked():
        sources = retrieval(work, config, say)
        parts = Parts(sources, index(work, config, say), ranker(work, config, say))
        return Release.open(twin(work, prepared, parts, release_settings(sources, config), fold)), fold


def sampled(judgements: Judgements, most: int, config: PipelineConfig) -> Judgements:
    """The queries of the main figure, at most `most`."""
    main = np.flatnonzero(judgements.cohort == MAIN)
    if len(main) > most:
        main = np.sort(np.random.default_rng(config.evaluation.seed).choice(main, most, replace=False))
    return judgements.only(main)


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def compare(release: Release, prepared: Prepared, judgements: Judgements, config: PipelineConfig) -> dict[str, Any]:
    """Both orders of the same candidates, judged; and what the learned one costs."""
    systems = {"blend": replace(release, scorer=None), "ranker": release}
    values = {name: judged(system, prepared, judgements) for name, system in systems.items()}
    result: dict[str, Any] = {"queries": len(judgements)}
    for name, metrics in values.items():
        result[name] = {metric: round(float(v.mean()), 4) for metric, v in metrics.items()}
        say(f"{name:8s} {result[name]}")
    e = config.evaluation
    lift = difference(
        values["ranker"]["ndcg@10"],
        values["blend"]["ndcg@10"],
        samples=e.bootstrap_samples,
        confidence=e.confidence,
        seed=e.seed,
    )
    return result | {"lift": [round(float(x), 4) for x in lift]} | timed(release, prepared, judgements)


def judged(release: Release, prepared: Prepared, judgements: Judgements) -> dict[str, Array]:
    """One value a query, float64 `[q]`, for each metric."""
    answers = []
    for q in range(len(judgements)):
        query = judgements.query(q, prepared, release.settings.history_events)
        excluded = judgements.excluded(q, prepared.events)
        answers.append(answer(release, Request(query, _DEPTH, excluded, fill=False)).rows)
    found = find(padded(answers, _DEPTH), judgements.relevance)
    return {
        "ndcg@10": ndcg(found, 10),
        "hit@10": hit(found, 10),
        "recall@100": recall(found, 100),
        "recall@500": recall(found, 500),
    }


def timed(release: Release, prepared: Prepared, judgements: Judgements) -> dict[str, float]:
    """Milliseconds a request on one thread: medians over the first queries."""
    if release.scorer is None or release.table is None:
        return {}
    laps, sizes = [], []
    for q in range(min(_TIMED, len(judgements))):
        query = judgements.query(q, prepared, release.settings.history_events)
        excluded = judgements.excluded(q, prepared.events)
        candidates = gather(release.sources, release.settings.quotas, query, excluded)
        start = time.perf_counter()
        rows = matrix(query, candidates, release.table, release.sources)
        between = time.perf_counter()
        release.scorer.score(rows)
        laps.append((between - start, time.perf_counter() - between))
        sizes.append(len(candidates))
    features, scoring = 1e3 * np.median(np.array(laps), axis=0)
    return {
        "candidates": float(np.median(sizes)),
        "features_p50_ms": round(float(features), 3),
        "scoring_p50_ms": round(float(scoring), 3),
    }


if __name__ == "__main__":
    main()
