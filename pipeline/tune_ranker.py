"""`tune ranker`: settings of the ranker, searched with Optuna on the validation window.

A trial grows trees on the requests of `[T1, Tv)` and is judged by NDCG@10 on those of `[Tv, T2)`, both in the grades of the objective
(`ranker.objective`): gains, or what they are worth to the shop. Nothing after T2 is read. The sampler is TPE (Bergstra et
al., NeurIPS 2011), seeded. The first trial is the present configuration. Because the best of many trials is partly luck, the winner and the present
settings are grown once more with another seed, and the winner is taken only if its mean over both is higher.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import optuna
import yaml

from core import atomic
from core.config import PipelineConfig, RankerConfig, checked, load_pipeline, overlaid, read_yaml
from core.errors import InputError
from core.prepared import CHOOSE, TRAIN, Prepared
from core.work import Work
from pipeline.ranker import Cutting
from pipeline.requests import requests_after
from ranking.objective import rewarded
from ranking.train import TrainingSet, probe

Say = Callable[[str], None]

RANGES: Final[dict[str, tuple[float, float]]] = {  # low, high
    "learning_rate": (0.01, 0.1),
    "leaves": (7, 127),
    "rows_per_leaf": (5, 400),
    "feature_share": (0.3, 1.0),
    "row_share": (0.5, 1.0),
    "shrinkage": (0.1, 50.0),
    "truncation": (5, 60),
}
"""What is searched; a present value outside widens its range. Those over more than a factor of 4 are searched by their logarithm."""
_STARTING: Final = 8  # trials at random before TPE begins
_LEFT: Final = 3  # trials that there must be time for when another one begins: itself, and two with the second seed


@dataclass(frozen=True)
class Found:
    """What a search came to."""

    best: float  # NDCG@10, mean of two seeds
    default: float  # the same of the present settings
    values: dict[str, Any]  # of the best; empty where the present settings stay best
    trials: int


def tune_ranker(
    work: Work,
    config: Path | None,
    seconds: float,
    requests: int,
    out: Path,
    seed: int,
    say: Say,
    trials: int | None = None,
) -> dict[str, Any]:
    """Search for `seconds`, in `trials` at most; write the keys that beat the present settings to `out`, beside those that `config` states.

    Returns:
        `trials`; `seconds` taken; `objective`, what a grade counts; `default` and `best`, mean NDCG@10 of the present and the best settings over two
        seeds; `changed`, the keys of `ranker` that differ; `config`, the file written, or None where the present settings stay best.

    Raises:
        InputError: if retrieval finds nothing relevant for any request of either window.
    """
    began = time.monotonic()
    present = load_pipeline(config)
    learn, validate = training_sets(work, present, requests, say)
    objective = present.ranker.objective
    aims = [rewarded(rows, objective) for rows in (learn, validate)]
    found = search(aims[0], aims[1], present.ranker, began + seconds, seed, say, trials)
    changed = {k: v for k, v in found.values.items() if v != getattr(present.ranker, k)}
    if changed:
        written = overlaid(read_yaml(config) if config else {}, {"ranker": changed})
        atomic.write_bytes(out, yaml.safe_dump(written, sort_keys=False).encode())
        say(f"{out}: NDCG@10 {found.best:.4f} instead of {found.default:.4f} with {changed}; try it: --config {out}")
    else:
        say(f"the present settings stay best: NDCG@10 {found.default:.4f}")
    return {
        "trials": found.trials,
        "seconds": round(time.monotonic() - began, 1),
        "objective": "gain" if objective.share == 0 else f"{objective.share:g} {objective.worth}",
        "best": round(found.best, 4),
        "default": round(found.default, 4),
        "changed": changed,
        "config": str(out) if changed else None,
    }


def training_sets(
    work: Work, config: PipelineConfig, requests: int, say: Say, validating: int | None = None
) -> tuple[TrainingSet, TrainingSet]:
    """What `train-ranker` learns from and validates on, with at most so many requests, and `validating` (None: a quarter as many) to validate.

    Raises:
        InputError: if either has no request with a relevant candidate.
    """
    prepared, ranker = Prepared(work.latest("prepare")), config.ranker
    with tempfile.TemporaryDirectory() as statistics:
        cuts = Cutting(prepared, work.latest("train-retrieval"), Path(statistics), config, say)
        learn = cuts.training_set(TRAIN, requests_after(prepared, TRAIN, ranker), ranker.negatives, requests)
        validate = cuts.training_set(
            CHOOSE, requests_after(prepared, CHOOSE, ranker), None, validating or requests // 4
        )
    if not len(learn) or not len(validate):
        raise InputError(
            f"{prepared.path}: {len(learn)} requests in [T1, Tv) and {len(validate)} in [Tv, T2) have a relevant candidate: there is nothing to"
            " tune on; prepare more data, or move time.ranker and time.validation"
        )
    return learn, validate


def search(
    learn: TrainingSet,
    validate: TrainingSet,
    present: RankerConfig,
    deadline: float,
    seed: int,
    say: Say,
    most: int | None = None,
) -> Found:
    """Trials until shortly before `deadline` (of time.monotonic), `most` of them, at least the present settings; then the winner with another seed."""

    def reached(values: dict[str, Any]) -> float:
        config = checked(RankerConfig, present.model_dump() | values, "tune ranker")
        return probe(learn, validate, config)[1]

    def trial(one: optuna.Trial) -> float:
        values = {name: _suggest(one, name, getattr(present, name)) for name in RANGES}
        ndcg = reached(values)
        say(f"trial {one.number}: NDCG@10 {ndcg:.4f}, {values}")
        return ndcg

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=_STARTING)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.enqueue_trial({name: getattr(present, name) for name in RANGES})
    longest, enough = 0.0, False
    while not enough:
        began = time.monotonic()
        study.optimize(trial, n_trials=1)
        longest = max(longest, time.monotonic() - began)
        enough = len(study.trials) == most or time.monotonic() + _LEFT * longest > deadline
    first, winner = study.trials[0], study.best_trial
    default = study.trials[0].values[0]
    if winner.number == first.number:
        return Found(default, default, {}, len(study.trials))
    say(f"trial {winner.number} against the present settings with another seed")
    other = {"seed": present.seed + 1}
    best, default = ((t.values[0] + reached(t.params | other)) / 2 for t in (winner, first))
    return Found(max(best, default), default, winner.params if best > default else {}, len(study.trials))


def _suggest(trial: optuna.Trial, name: str, present: float) -> float:
    low, high = RANGES[name]
    low, high = min(low, present), max(high, present)
    logarithmic = low > 0 and high > 4 * low
    if isinstance(present, int):
        return trial.suggest_int(name, int(low), int(high), log=logarithmic)
    return round(trial.suggest_float(name, low, high, log=logarithmic), 4)
