"""What a ranker of revenue sells, and what it costs in NDCG: `ranker.objective` on a shop whose items have prices.

    python -m benchmarks.public_sets online-retail --part development --out D
    ./aisle prepare --data D --work WORK && ./aisle train-retrieval --work WORK
    python -m benchmarks.objectives --work WORK [--config F] [--shares 0,0.5,1] [--seeds 1,2,3] [--requests 4000]

For each share rankers learn from `[T1, Tv)`, with as many trees as `[Tv, T2)` says, both in that share's grades, and are judged on `[T2, end)`: one request
for each person known at T2, every candidate of it. NDCG@10 counts gains, whatever the ranker learned from; worth@10 is what those of the ten best that were
chosen are worth, in the median item's (revenue where `objective.worth` is `price`, and uncapped). Differences to the first share are paired on requests, the
mean over the seeds, with their bootstrap interval. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from core.columns import Array
from core.config import ObjectiveConfig, PipelineConfig, load_pipeline
from core.errors import InputError
from core.prepared import CHOOSE, TRAIN, TWIN, Prepared
from core.work import Work
from pipeline.paired import lift
from pipeline.ranker import Cutting
from pipeline.requests import requests_after
from ranking.objective import request_worth, rewarded
from ranking.train import TrainingSet, probed, request_ndcg


def main() -> None:
    """Build the three sets once, then learn with each share and seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="with prepared data and fitted sources")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--shares", default="0,0.5,1", help="the first one is what the others are held against")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--requests", type=int, default=4000, help="to learn from; as many validate and judge, at most")
    a = parser.parse_args()
    config = load_pipeline(a.config)
    shares, seeds = [float(s) for s in a.shares.split(",")], [int(s) for s in a.seeds.split(",")]
    print(json.dumps(compared(sets(Work(a.work), config, a.requests), config, shares, seeds)))


def sets(work: Work, config: PipelineConfig, most: int) -> list[TrainingSet]:
    """To learn from, to validate on, and to be judged on.

    Raises:
        InputError: if the shop knows no worth of its items.
    """
    prepared, found = Prepared(work.latest("prepare")), []
    with tempfile.TemporaryDirectory() as statistics:
        cuts = Cutting(prepared, work.latest("train-retrieval"), Path(statistics), config, say)
        once = config.ranker.model_copy(update={"moments": 0})  # one request a person: they are independent
        for fold, asked, negatives in (
            (TRAIN, config.ranker, config.ranker.negatives),
            (CHOOSE, config.ranker, None),
            (TWIN, once, None),
        ):
            found.append(cuts.training_set(fold, requests_after(prepared, fold, asked), negatives, most))
    if any(rows.worths is None for rows in found):
        raise InputError(
            f"{prepared.path}: no item has a {config.ranker.objective.worth}: there is no worth to rank by"
        )
    return found


def compared(rows: list[TrainingSet], config: PipelineConfig, shares: list[float], seeds: list[int]) -> dict[str, Any]:
    """The figures of each share."""
    values = {share: [judged(rows, config, share, seed) for seed in seeds] for share in shares}
    means = {share: np.mean(found, axis=0) for share, found in values.items()}
    base, result = means[shares[0]], {"seeds": seeds, "requests": [len(r) for r in rows], "dropped": rows[2].dropped}
    all_asked = len(rows[2]) + rows[2].dropped
    for share in shares:
        figures: dict[str, Any] = {}
        for name, ours, theirs in zip(("ndcg@10", "worth@10"), means[share], base, strict=True):
            figures[name] = round(float(ours.sum()) / all_asked, 4)
            if share != shares[0]:
                found = lift(ours, theirs, rows[2], config.evaluation)
                figures[f"{name} difference"] = [round(v, 4) for v in found]
        figures["by_seed"] = [[round(float(v.sum()) / all_asked, 4) for v in one] for one in values[share]]
        result[f"share {share:g}"] = figures
        say(f"share {share:g}: {figures}")
    return result


def judged(rows: list[TrainingSet], config: PipelineConfig, share: float, seed: int) -> Array:
    """NDCG@10 and worth@10 of each request that is judged, float64 `[2, q]`."""
    objective: ObjectiveConfig = config.ranker.objective.model_copy(update={"share": share})
    learn, validate = (rewarded(r, objective) for r in rows[:2])
    found = probed(learn, validate, config.ranker.model_copy(update={"seed": seed}))
    scores, worths = found.score(rows[2].matrix), rows[2].worths
    say(f"share {share:g}, seed {seed}: {found.rounds} trees")
    return np.stack([request_ndcg(rows[2], scores), request_worth(rows[2], np.asarray(worths), scores)])


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
