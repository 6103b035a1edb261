"""benchmarks.ranker_variants: what a variant changes, and that variants are judged in pairs."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.ranker_variants import Variant, changed, compare, with_blend
from core.config import load_pipeline
from core.errors import ConfigError
from ranking.feature_list import NAMES
from ranking.train import TrainingSet

_Q, _N = 60, 10


def _rows(seed: int) -> TrainingSet:
    """Requests in which the item with the greatest sum of two sources' scores is the one chosen."""
    rng = np.random.default_rng(seed)
    matrix = np.zeros((_Q * _N, len(NAMES)), np.float32)
    told = [NAMES.index("linear.score"), NAMES.index("towers.score")]
    matrix[:, told] = rng.random((_Q * _N, 2), np.float32)
    grades = np.zeros(_Q * _N, np.int8)
    best = matrix[:, told].sum(axis=1).reshape(_Q, _N).argmax(axis=1) + np.arange(_Q) * _N
    grades[best] = 20
    people = np.arange(_Q, dtype=np.int32)
    return TrainingSet(matrix, grades, np.full(_Q, _N, np.int32), np.full(_Q, 20.0), 0, people=people)


def test_the_blends_score_is_the_last_column() -> None:
    rows = _rows(1)
    rows.matrix[0, NAMES.index("linear.score")], rows.matrix[0, NAMES.index("towers.score")] = 0.5, 1.0
    wider = with_blend(rows, {"linear": 0.5, "towers": 2.0, "somebody else's": 1.0})
    assert wider.matrix.shape == (_Q * _N, len(NAMES) + 1)
    assert wider.names[-1] == "blend"
    assert wider.matrix[0, -1] == 2.25  # 0.5 * 0.5 + 2 * 1; a source without a feature says nothing
    assert rows.matrix.shape[1] == len(NAMES)


def test_a_setting_that_is_none_is_refused() -> None:
    present = load_pipeline(None).ranker
    assert changed(present, Variant.of("leaves=15,blend")).leaves == 15
    with pytest.raises(ConfigError, match="--variant leafs=15"):
        changed(present, Variant.of("leafs=15"))


def test_variants_are_held_against_the_present_ranker() -> None:
    config = load_pipeline(None)
    config = config.model_copy(update={"ranker": config.ranker.model_copy(update={"rows_per_leaf": 5})})
    weights = {"linear": 1.0, "towers": 1.0}
    variants = [Variant.of("blend"), Variant.of(f"leaves={config.ranker.leaves}")]
    found = compare(_rows(1), _rows(2), config, variants, weights, [1, 2], 20)
    assert found["blended"] == 1.0  # the blend orders by the very sum that decided
    assert found["variants"][variants[1].name] == {"lift": [0.0, 0.0, 0.0], "by_seed": [0.0, 0.0]}  # the same ranker
    mean, low, high = found["variants"]["blend"]["lift"]
    # told the sum, the trees need no second column; 1.0 is what there is to gain at most
    assert 0 < mean <= 1 - found["ndcg@10"] + 1e-4
    assert low <= mean <= high
