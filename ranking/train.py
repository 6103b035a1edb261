"""LightGBM LambdaRank over the candidates that retrieval really returned. Seeded and deterministic.

Burges, "From RankNet to LambdaRank to LambdaMART", MSR-TR-2010-82. Gains are linear in the label, as in our NDCG: label_gain[g] = g.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import lightgbm
import numpy as np

from core.columns import Array
from core.config import RankerConfig
from ranking import model_text
from ranking.feature_list import NAMES, SOURCES, schema_hash
from ranking.scorer import FORMAT_VERSION, HEADER, MODEL, TREES

GRADES: Final = 20
"""Labels are integers 0 to GRADES, in proportion to the gain."""
_AT: Final = 10
# rows; fewer are grown by one thread. LightGBM's threads wait for one another busily, thousands of times a second: on a machine with other work each
# wait is a turn of the scheduler, and two threads take longer than one
_ALONE: Final = 250_000


@dataclass(frozen=True)
class TrainingSet:
    """Rows of q requests, request by request."""

    matrix: Array  # float32 [r, F]
    grades: Array  # int8 [r], 0 to GRADES
    sizes: Array  # int32 [q], rows of each request
    ideals: Array  # float64 [q], the best DCG@10 there could be, items that retrieval missed included
    dropped: int  # requests without any relevant item among the candidates
    names: tuple[str, ...] = NAMES  # of the matrix's columns
    positions: Array | None = (
        None  # int32 [r]: where on a page each row was shown, from 0; None: rows of candidates that nobody was shown
    )
    worths: Array | None = None  # float32 [r], of each item to the shop in medians (ranking.objective); None: not known
    people: Array | None = None  # int32 [q], whose each request is; None: not known

    def __len__(self) -> int:
        return len(self.sizes)

    @classmethod
    def concatenate(cls, sets: Iterable[TrainingSet]) -> TrainingSet:
        """One after the other."""
        sets = list(sets)
        if not sets:
            raise ValueError("no training set to concatenate")
        return cls(
            matrix=np.concatenate([s.matrix for s in sets]),
            grades=np.concatenate([s.grades for s in sets]),
            sizes=np.concatenate([s.sizes for s in sets]),
            ideals=np.concatenate([s.ideals for s in sets]),
            dropped=sum(s.dropped for s in sets),
            names=sets[0].names,
            positions=_positions(sets),
            worths=_worths(sets),
            people=_people(sets),
        )

    def thinned(self, negatives: int, seed: int) -> TrainingSet:
        """With at most `negatives` rows of grade 0 a request, left to chance."""
        drawn = np.random.default_rng(seed).random(len(self.grades))
        queries = np.repeat(np.arange(len(self)), self.sizes)
        order = np.lexsort((drawn, self.grades > 0, queries))  # of each request the nothings first, shuffled
        nothing = np.bincount(queries[self.grades == 0], minlength=len(self))
        place = np.arange(len(order)) - np.repeat(np.cumsum(self.sizes) - self.sizes, self.sizes)
        kept = np.sort(order[(place < negatives) | (place >= nothing[queries])])
        sizes = np.bincount(queries[kept], minlength=len(self)).astype(np.int32)
        return TrainingSet(
            self.matrix[kept],
            self.grades[kept],
            sizes,
            self.ideals,
            self.dropped,
            self.names,
            _at(self.positions, kept),
            _at(self.worths, kept),
            self.people,
        )


_NOT_SHOWN: Final = -1
"""The one position of all rows that were constructed: what is the same for all rows of a request moves no pair of them."""


def _positions(sets: list[TrainingSet]) -> Array | None:
    """Those of logged pages beside rows that were never shown; None where there are no pages."""
    if all(s.positions is None for s in sets):
        return None
    return np.concatenate(
        [np.full(len(s.grades), _NOT_SHOWN, np.int32) if s.positions is None else s.positions for s in sets]
    )


def _worths(sets: list[TrainingSet]) -> Array | None:
    """The median's beside known ones; None where none is known."""
    if all(s.worths is None for s in sets):
        return None
    return np.concatenate([np.ones(len(s.grades), np.float32) if s.worths is None else s.worths for s in sets])


def _people(sets: list[TrainingSet]) -> Array | None:
    """None where those of any set are not known."""
    known = [s.people for s in sets if s.people is not None]
    return np.concatenate(known) if len(known) == len(sets) else None


def _at(values: Array | None, kept: Array) -> Array | None:
    return None if values is None else values[kept]


@dataclass(frozen=True)
class Trained:
    """A grown ranker."""

    booster: lightgbm.Booster

    def write(self, folder: Path, sources: Iterable[str], about: Mapping[str, Any]) -> None:
        """Leave `model.txt`, its trees and `ranker.json` in `folder`, which is made if it is not there. `about`: how it was validated."""
        folder.mkdir(parents=True, exist_ok=True)
        self.booster.save_model(folder / MODEL)
        model_text.read(folder / MODEL).write(folder / TREES, folder / MODEL)
        gains = self.booster.feature_importance("gain")
        shares = sorted(zip(gains / max(gains.sum(), 1e-9), NAMES, strict=True), reverse=True)
        header = {
            "format_version": FORMAT_VERSION,
            "features": NAMES,
            "schema": schema_hash(),
            "sources": sorted(sources),
            "trees": self.booster.num_trees(),
            "validation": dict(about),
            "importance": {name: round(float(share), 4) for share, name in shares},
        }
        (folder / HEADER).write_text(json.dumps(header, indent=1) + "\n")


@dataclass(frozen=True)
class Probed:
    """A ranker grown on the learning requests alone."""

    rounds: int
    ndcg: float  # on the validation requests
    booster: lightgbm.Booster
    scores: Array  # float64 [r], of the rows of the validation requests

    def score(self, matrix: Array) -> Array:
        """float32 `[n, F]` of a request -> float64 `[n]`: the scores of a ranker that has not learned from the validation requests."""
        return np.asarray(self.booster.predict(matrix, num_iteration=self.rounds, num_threads=1), np.float64)


def probe(learn: TrainingSet, validate: TrainingSet, config: RankerConfig) -> tuple[int, float]:
    """How many trees `probed` grew, and their NDCG@10."""
    found = probed(learn, validate, config)
    return found.rounds, found.ndcg


def probed(learn: TrainingSet, validate: TrainingSet, config: RankerConfig) -> Probed:
    """Grow trees on `learn` until NDCG@10 on `validate` no longer rises.

    Requests that were dropped for want of a relevant candidate count as 0.
    """
    data = _dataset(learn)
    curve: dict[str, dict[str, list[float]]] = {}
    stop = lightgbm.early_stopping(config.patience, verbose=False)
    booster = lightgbm.train(
        _parameters(config, len(learn.grades)),
        data,
        config.trees,
        valid_sets=[_dataset(validate, data)],
        callbacks=[stop, lightgbm.record_evaluation(curve)],
    )
    rounds = best_round(np.array(curve["valid_0"][f"ndcg@{_AT}"]))
    scores = np.asarray(booster.predict(validate.matrix, num_iteration=rounds), np.float64)
    return Probed(rounds, ndcg(validate, scores), booster, scores)


def best_round(curve: Array) -> int:
    """How many trees to keep, given the metric after each one, float `[rounds]`.

    The top of the curve's moving average over a fifth of its length: a few hundred requests leave peaks of pure luck on it, often after a
    handful of trees.
    """
    reach = max(1, len(curve) // 10)
    around = np.convolve(curve, np.ones(2 * reach + 1), "same") / np.convolve(
        np.ones(len(curve)), np.ones(2 * reach + 1), "same"
    )
    return int(around[: len(curve)].argmax()) + 1


def grow(rows: Iterable[TrainingSet], rounds: int, config: RankerConfig) -> Trained:
    """Grow `rounds` trees on all of `rows`."""
    whole = TrainingSet.concatenate(rows)
    return Trained(lightgbm.train(_parameters(config, len(whole.grades)), _dataset(whole), rounds))


def _parameters(config: RankerConfig, rows: int) -> dict[str, Any]:
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
        # by row: LightGBM 4.7 draws whole requests (`bagging_by_query`) from one random state on several threads, each time differently
        "bagging_fraction": config.row_share,
        "bagging_freq": 1,
        "lambda_l2": config.shrinkage,
        "seed": config.seed,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1 if rows < _ALONE else os.cpu_count() or 1,  # either way the same trees
        "verbose": -1,
    }


def _dataset(rows: TrainingSet, reference: lightgbm.Dataset | None = None) -> lightgbm.Dataset:
    """For LightGBM. What a position of a logged page does to an item's chance is learned beside the trees and is no part of the score.

    LightGBM adds a term for each position to the scores that it compares while it learns (after Yan et al., "Revisiting Two-tower Models for Unbiased
    Learning to Rank", SIGIR 2022, section 3).
    """
    return lightgbm.Dataset(
        rows.matrix,
        rows.grades,
        group=rows.sizes,
        position=rows.positions,
        reference=reference,
        feature_name=list(rows.names),
        free_raw_data=False,
    )


def ndcg(rows: TrainingSet, scores: Array) -> float:
    """Mean NDCG@10 of `scores` float64 `[r]` over all requests, those that were dropped for want of a relevant candidate as 0."""
    return float(request_ndcg(rows, scores).sum() / max(len(rows) + rows.dropped, 1))


def request_ndcg(rows: TrainingSet, scores: Array) -> Array:
    """NDCG@10 of `scores` float64 `[r]` for each request that was not dropped, float64 `[q]`."""
    queries = np.repeat(np.arange(len(rows)), rows.sizes)
    order = np.lexsort((-scores, queries))
    place = np.arange(len(order)) - np.repeat(np.cumsum(rows.sizes) - rows.sizes, rows.sizes)
    dcg = np.bincount(
        queries, np.where(place < _AT, rows.grades[order] / np.log2(place + 2.0), 0.0), minlength=len(rows)
    )
    return np.asarray(dcg / rows.ideals)


def blend_ndcg(rows: TrainingSet, weights: Mapping[str, float]) -> float:
    """`ndcg` of the unlearned blend, from the normalised scores in the matrix."""
    scores = sum(
        (w * rows.matrix[:, NAMES.index(f"{s}.score")] for s, w in weights.items() if s in SOURCES),
        np.zeros(len(rows.grades)),
    )
    return ndcg(rows, scores)
