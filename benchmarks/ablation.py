"""What each group of features is worth: the validation NDCG@10 of the ranker without it.

    python -m benchmarks.ablation --work WORK [--config F] [--seeds 1,2] [--requests 2000] [--validate 500] [--groups own,price]

The training set `[T1, Tv)` and the validation set `[Tv, T2)` are those of `train-ranker` at a smaller size, made once; nothing after T2 is read. A group
is the features of one prefix. Every ranker is grown from scratch without the group's columns, once a seed, to the number of trees that is best for the
whole one. `loss` is what leaving the group out costs, mean over the seeds, with the paired bootstrap interval over the people who validate; `noise` is how
far the NDCG@10 of the whole ranker differs between seeds (standard deviation). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.columns import Array
from core.config import PipelineConfig, RankerConfig, load_pipeline
from core.errors import InputError, nearest
from core.work import Work
from pipeline.paired import lift
from pipeline.tune_ranker import training_sets
from ranking.feature_list import NAMES
from ranking.train import TrainingSet, grow, probe, request_ndcg

GROUPS: Final = tuple(dict.fromkeys(name.partition(".")[0] for name in NAMES))


def main() -> None:
    """Build the two sets, then leave out one group after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="with prepared data and fitted sources")
    parser.add_argument("--config", type=Path)
    parser.add_argument("--seeds", default="1,2")
    parser.add_argument("--requests", type=int, default=2000, help="to learn from")
    parser.add_argument("--validate", type=int, help="requests at most; default: a quarter as many")
    parser.add_argument("--groups", default=",".join(GROUPS), help="prefixes of features")
    arguments = parser.parse_args()
    groups, seeds = arguments.groups.split(","), [int(s) for s in arguments.seeds.split(",")]
    for group in groups:
        if group not in GROUPS:
            raise InputError(f"--groups {group}: no feature begins so; {nearest(group, GROUPS)}")
    config = load_pipeline(arguments.config)
    learn, validate = training_sets(Work(arguments.work), config, arguments.requests, say, arguments.validate)
    print(json.dumps(ablation(learn, validate, config, groups, seeds)))


def ablation(
    learn: TrainingSet, validate: TrainingSet, config: PipelineConfig, groups: Sequence[str], seeds: Sequence[int]
) -> dict[str, Any]:
    """The figures, given the sets."""
    rounds, _ = probe(learn, validate, config.ranker)
    whole = [_judged(learn, validate, config.ranker, rounds, seed) for seed in seeds]
    means = [float(w.mean()) for w in whole]
    found = len(validate) / (len(validate) + validate.dropped)  # a dropped request counts as 0 in either
    result: dict[str, Any] = {"seeds": list(seeds), "learn": len(learn), "validate": len(validate)}
    result |= {"trees": rounds, "features": learn.matrix.shape[1], "ndcg@10": round(found * float(np.mean(means)), 4)}
    result |= {"noise": round(found * float(np.std(means)), 4), "groups": {}}
    for group in groups:
        start, kept = time.perf_counter(), [i for i, n in enumerate(learn.names) if n.partition(".")[0] != group]
        without = [_judged(_of(learn, kept), _of(validate, kept), config.ranker, rounds, seed) for seed in seeds]
        loss = lift(np.mean(whole, axis=0), np.mean(without, axis=0), validate, config.evaluation)
        result["groups"][group] = {
            "features": learn.matrix.shape[1] - len(kept),
            "loss": [round(v, 4) for v in loss],
            "by_seed": [round(found * (m - float(w.mean())), 4) for m, w in zip(means, without, strict=True)],
        }
        say(f"{group:18s} {result['groups'][group]} ({time.perf_counter() - start:.0f} s)")
    return result


def _judged(learn: TrainingSet, validate: TrainingSet, config: RankerConfig, rounds: int, seed: int) -> Array:
    """NDCG@10 of each validation request, float64 `[q]`."""
    booster = grow([learn], rounds, config.model_copy(update={"seed": seed})).booster
    return request_ndcg(validate, booster.predict(validate.matrix))


def _of(rows: TrainingSet, columns: Sequence[int]) -> TrainingSet:
    """The set with these columns only."""
    return replace(
        rows, matrix=np.ascontiguousarray(rows.matrix[:, columns]), names=tuple(rows.names[c] for c in columns)
    )


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
