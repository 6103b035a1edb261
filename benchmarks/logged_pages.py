"""Whether pages that people were shown make a better ranker, on simulated shops: `ranker.logged_pages`.

    python -m benchmarks.logged_pages [--seeds 1,2,3] [--users 1000] [--items 1500] [--events 120000] [--impressions 0.5] [--config F]

For each seed a shop is simulated, prepared, and its sources (without towers) fitted as of T1, Tv and T2. Every way learns from `[T1, Tv)`, with as many
trees as `[Tv, T2)` says; `auto` is what that window decides. Judged by NDCG@10 on the requests of `[T2, end)`, every candidate of them. Differences to `off`
are paired on requests, all seeds together, with their bootstrap interval over people. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import replace
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
from pipeline.page_choice import OFF, WAYS, choose
from pipeline.paired import lift
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
    parser.add_argument("--config", type=Path, help="such as ranker: {requests: 1000} for an answer sooner")
    a = parser.parse_args()
    config, seeds = load_pipeline(a.config), [int(s) for s in a.seeds.split(",")]
    values: dict[str, list[Array]] = {way: [] for way in _ALL}
    tests, decided = [], []
    for seed in seeds:
        options = ShopOptions(a.users, a.items, a.events, 90, seed, impressions=a.impressions)
        with tempfile.TemporaryDirectory() as folder:
            test, found, about = compared(made(options, Path(folder), config), config)
        tests.append(replace(test, people=np.asarray(test.people) + seed * a.events))  # nobody is in two shops
        for way, one in found.items():
            values[way].append(one)
        reached = {way: round(float(one.sum()) / (len(test) + test.dropped), 4) for way, one in found.items()}
        decided.append({"seed": seed} | reached | {"decided": about})
        say(f"{decided[-1]}")
    test, together = TrainingSet.concatenate(tests), {way: np.concatenate(parts) for way, parts in values.items()}
    result: dict[str, Any] = {"seeds": decided, "requests": len(test), "dropped": test.dropped}
    for way, one in together.items():
        figure = round(float(one.sum()) / (len(test) + test.dropped), 4)
        sure = lift(one, together[OFF], test, config.evaluation)
        result[way] = {"ndcg@10": figure, "difference": [round(v, 4) for v in sure]}
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


def compared(cuts: Cutting, config: PipelineConfig) -> tuple[TrainingSet, dict[str, Array], dict[str, Any]]:
    """The requests that judge; NDCG@10 of each, float64 `[q]`, by way; and what `auto` decided."""
    ranker, sets = config.ranker, []
    for fold, negatives, most in (
        (TRAIN, ranker.negatives, ranker.requests),
        *((f, None, ranker.requests // 2) for f in (CHOOSE, TWIN)),
    ):
        sets.append(cuts.training_set(fold, requests_after(cuts.prepared, fold, ranker), negatives, most))
    learn, aim, test = sets
    pages, found, about = cuts.pages(TRAIN), {}, {}
    for way in _ALL:
        chosen = config.model_copy(update={"ranker": ranker.model_copy(update={"logged_pages": way})})
        choice = choose(learn, None if way == OFF else pages, aim, chosen)
        found[way], about = request_ndcg(test, choice.found.score(test.matrix)), choice.about
        say(f"{way}: {about}")
    return test, found, about


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
