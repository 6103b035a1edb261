"""Whether pages that people were shown make a better ranker, on simulated shops: `ranker.logged_pages`.

    python -m benchmarks.logged_pages [--seeds 1,2,3] [--users 1000] [--items 1500] [--events 120000] [--impressions 0.5] [--requests 2000]

For each seed a shop is simulated, prepared, and its sources (without towers) fitted as of T1, Tv and T2. Every way learns from `[T1, Tv)`, with as many
trees as `[Tv, T2)` says; `auto` is what that window decides. Judged by what people did in `[T2, end)`: one request for each person known at T2, every
candidate of it, NDCG@10. Differences to `off` are paired on requests, all seeds together, with their bootstrap interval. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.columns import Array
from core.config import PipelineConfig, load_pipeline
from core.prepared import CHOOSE, TRAIN, TWIN, Prepared
from core.work import Work
from data_prep.prepare import run as prepare
from data_prep.simulate.options import ShopOptions
from data_prep.simulate.run import simulate
from evaluation.intervals import difference
from pipeline.page_choice import OFF, WAYS, choose
from pipeline.ranker import Cutting
from pipeline.requests import requests_after
from ranking.train import TrainingSet, request_ndcg
from retrieval import quotas
from retrieval.fit import fit_sources
from retrieval.sources import open_sources

_QUOTA: Final = 60  # of each source
_ALL: Final = (OFF, *WAYS, "auto")


def main() -> None:
    """Every seed, then all of them together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--items", type=int, default=1500)
    parser.add_argument("--events", type=int, default=120_000)
    parser.add_argument("--impressions", type=float, default=0.5, help="share of the pages that are logged")
    parser.add_argument("--requests", type=int, default=2000, help="to learn from at most, and pages at most")
    a = parser.parse_args()
    base, seeds = load_pipeline(), [int(s) for s in a.seeds.split(",")]
    config = base.model_copy(update={"ranker": base.ranker.model_copy(update={"requests": a.requests})})
    values: dict[str, list[Array]] = {way: [] for way in _ALL}
    decided = []
    for seed in seeds:
        options = ShopOptions(a.users, a.items, a.events, 90, seed, impressions=a.impressions)
        with tempfile.TemporaryDirectory() as folder:
            found, about = compared(made(options, Path(folder), config), config)
        for way, one in found.items():
            values[way].append(one)
        decided.append({"seed": seed} | {w: round(float(v.mean()), 4) for w, v in found.items()} | {"decided": about})
        say(f"{decided[-1]}")
    together = {way: np.concatenate(parts) for way, parts in values.items()}
    e, result = config.evaluation, {"seeds": decided, "requests": len(together[OFF])}
    for way, one in together.items():
        sure = difference(one, together[OFF], samples=e.bootstrap_samples, confidence=e.confidence, seed=e.seed)
        result[way] = {"ndcg@10": round(float(one.mean()), 4), "difference": [round(v, 4) for v in sure]}
    print(json.dumps(result))


def made(options: ShopOptions, folder: Path, config: PipelineConfig) -> Cutting:
    """Simulate, prepare, fit."""
    simulate(options, folder / "data")
    prepared = Prepared(prepare(folder / "data", Work(folder / "work"), config, say))
    for fold in (TRAIN, CHOOSE, TWIN):
        fit_sources(prepared, fold, config, folder / "sources" / fold.name, say)
    names = [s.name for s in open_sources(folder / "sources" / TRAIN.name)]
    (folder / "sources" / quotas.FILE).write_text(json.dumps(dict.fromkeys(names, _QUOTA)))
    return Cutting(prepared, folder / "sources", folder / "statistics", config, say)


def compared(cuts: Cutting, config: PipelineConfig) -> tuple[dict[str, Array], dict[str, Any]]:
    """NDCG@10 of each judged request, float64 `[q]`, by way; and what `auto` decided."""
    most, once = config.ranker.requests, config.ranker.model_copy(update={"moments": 0})
    learn = cuts.training_set(TRAIN, requests_after(cuts.prepared, TRAIN, config.ranker), config.ranker.negatives, most)
    aim = cuts.training_set(CHOOSE, requests_after(cuts.prepared, CHOOSE, config.ranker), None, most // 2)
    test = cuts.training_set(TWIN, requests_after(cuts.prepared, TWIN, once), None, most)
    pages, found, about = cuts.pages(TRAIN), {}, {}
    for way in _ALL:
        chosen = config.ranker.model_copy(update={"logged_pages": way})
        choice = choose(learn, None if way == OFF else pages, aim, config.model_copy(update={"ranker": chosen}))
        found[way] = _judged(test, choice.found.score(test.matrix))
        about = choice.about
        say(f"{way}: {about}")
    return found, about


def _judged(rows: TrainingSet, scores: Array) -> Array:
    """Those without a relevant candidate as 0."""
    return np.concatenate([request_ndcg(rows, scores), np.zeros(rows.dropped)])


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
