"""LightGBM LambdaRank over the candidates that retrieval really returned. Seeded and deterministic.

Burges, "From RankNet to LambdaRank to LambdaMART", MSR-TR-2010-82. Gains are linear in the label, as in our NDCG: label_gain[g] = g.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np

from core.columns import Array
from core.config import RankerConfig
from core.errors import InputError
from ranking.feature_list import NAMES, schema_hash
from ranking.scorer import FORMAT_VERSION, HEADER, MODEL

GRADES: Final = 20
"""Labels are integers 0 to GRADES, in proportion to the gain."""
_AT: Final = 10


@dataclass(frozen=True)
class TrainingSet:
    """Rows of q requests, request by request."""

    matrix: Array  # float32 [r, F]
    grades: Array  # int8 [r], 0 to GRADES
    sizes: Array  # int32 [q], rows of each request
    ideals: Array  # float64 [q], the best DCG@10 there could be, items that retrieval missed included
    dropped: int  # requests without any relevant item among the candidates

    def __len__(self) -> int:
        return len(self.sizes)

    @classmethod
    def concatenate(cls, sets: Iterable[TrainingSet]) -> TrainingSet:
        """One after the other."""
        sets = list(sets)
        arrays = (np.concatenate([getattr(s, name) for s in sets]) for name in ("matrix", "grades", "sizes", "ideals"))
        return cls(*arrays, sum(s.dropped for s in sets))


@dataclass(frozen=True)
class Trained:
    """A ranker and how it came out."""

    booster: lightgbm.Booster
    iterations: int
    metrics: dict[str, float]  # NDCG@10 of the validation requests, dropped ones counted as 0

    def write(self, folder: Path, sources: Iterable[str], about: dict[str, Any]) -> None:
        """Leave `model.txt` and `ranker.json` in `folder`, which is made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        self.booster.save_model(folder / MODEL, num_iteration=self.iterations)
        gains = self.booster.feature_importance("gain", iteration=self.iterations)
        importance = {n: round(float(g), 3) for g, n in sorted(zip(gains / max(gains.sum(), 1e-9), NAMES, strict=True), reverse=True)}
        header = {
            "format_version": FORMAT_VERSION,
            "features": NAMES,
            "schema": schema_hash(),
            "sources": sorted(sources),
            "iterations": self.iterations,
            "validation": self.metrics,
            "importance": importance,
            **about,
        }
        (folder / HEADER).write_text(json.dumps(header, indent=1) + "\n")


def train(learn: TrainingSet, validate: TrainingSet, config: RankerConfig, say: Callable[[str], None]) -> Trained:
    """Grow trees on `learn` until NDCG@10 on `validate` no longer rises; then, with that many trees, on both.

    Raises:
        InputError: if there is nothing to learn from.
    """
    if not len(learn):
        raise InputError("no request of the ranker window has a relevant candidate: nothing to train the ranker on")
    parameters = _parameters(config)
    rounds, metrics = config.trees, {}
    if len(validate):
        probe = _grow(parameters, learn, config.trees, validate, config.patience)
        rounds = probe.best_iteration or config.trees
        metrics = {"ndcg@10": round(ndcg(validate, probe.predict(validate.matrix, num_iteration=rounds)), 4)}
        say(f"ranker: {rounds} trees, NDCG@10 {metrics['ndcg@10']} on {len(validate) + validate.dropped} validation requests")
    both = TrainingSet.concatenate([learn, validate])
    return Trained(_grow(parameters, both, rounds), rounds, metrics)


def _parameters(config: RankerConfig) -> dict[str, Any]:
    return {
        "objective": "lambdarank",
        "label_gain": list(range(GRADES + 1)),
        "lambdarank_truncation_level": config.truncation,
        "metric": "ndcg",
        "eval_at": [_AT],
        "learning_rate": config.learning_rate,
        "num_leaves": config.leaves,
        "min_data_in_leaf": config.rows_per_leaf,
        "feature_fraction": config.feature_share,
        "bagging_fraction": config.row_share,
        "bagging_freq": 1,
        "lambda_l2": config.shrinkage,
        "seed": config.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 2,
        "verbose": -1,
    }


def _grow(parameters: dict[str, Any], learn: TrainingSet, rounds: int, validate: TrainingSet | None = None, patience: int = 0) -> lightgbm.Booster:
    data = _dataset(learn)
    if validate is None:
        return lightgbm.train(parameters, data, rounds)
    stop = lightgbm.early_stopping(patience, verbose=False)
    return lightgbm.train(parameters, data, rounds, valid_sets=[_dataset(validate, data)], callbacks=[stop])


def _dataset(rows: TrainingSet, reference: lightgbm.Dataset | None = None) -> lightgbm.Dataset:
    return lightgbm.Dataset(rows.matrix, rows.grades, group=rows.sizes, reference=reference, feature_name=list(NAMES), free_raw_data=False)


def ndcg(rows: TrainingSet, scores: Array) -> float:
    """Mean NDCG@10 of `scores` float64 `[r]` over all requests, those that were dropped for want of a relevant candidate as 0."""
    queries = np.repeat(np.arange(len(rows)), rows.sizes)
    order = np.lexsort((-scores, queries))
    place = np.arange(len(order)) - np.repeat(np.cumsum(rows.sizes) - rows.sizes, rows.sizes)
    dcg = np.bincount(queries, np.where(place < _AT, rows.grades[order] / np.log2(place + 2.0), 0.0), minlength=len(rows))
    return float((dcg / rows.ideals).sum() / max(len(rows) + rows.dropped, 1))
