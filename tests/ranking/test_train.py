"""Training on a set that can be learned, and the scorer's refusals: every one names both sides."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest

from core.config import RankerConfig, load_pipeline
from core.errors import ArtifactError
from ranking import train
from ranking.feature_list import NAMES
from ranking.scorer import HEADER, MODEL, TREES, Scorer
from ranking.train import GRADES, TrainingSet, best_round, blend_ndcg, grow, ndcg, probe

SOURCES = ["item_knn", "popularity"]
SIGNAL = NAMES.index("item_knn.score")


def config(**changes: Any) -> RankerConfig:
    return load_pipeline().ranker.model_copy(update={"trees": 40, "rows_per_leaf": 10, "patience": 10} | changes)


def learnable(requests: int, seed: int, size: int = 30) -> TrainingSet:
    """One relevant candidate a request, the one with the greatest noisy `item_knn.score`; every other feature is noise."""
    rng = np.random.default_rng(seed)
    rows = rng.random((requests, size, len(NAMES))).astype(np.float32)
    grades = np.zeros((requests, size), np.int8)
    noisy = rows[:, :, SIGNAL] + 0.1 * rng.random((requests, size))
    grades[np.arange(requests), noisy.argmax(1)] = GRADES
    sizes = np.full(requests, size, np.int32)
    return TrainingSet(rows.reshape(-1, len(NAMES)), grades.ravel(), sizes, np.full(requests, float(GRADES)), 0)


def test_learns_what_can_be_learned() -> None:
    learn, validate = learnable(200, 1), learnable(80, 2)
    trees, reached = probe(learn, validate, config())
    by_chance = ndcg(validate, np.random.default_rng(3).random(len(validate.grades)))
    assert 1 <= trees <= 40
    assert reached > 0.8 > 2 * by_chance
    assert reached == pytest.approx(ndcg(validate, validate.matrix[:, SIGNAL].astype(float)), abs=0.1)


@pytest.mark.parametrize("rows", [0, 10**9])
def test_threads_do_not_change_the_trees(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """One thread below so many rows, two above."""
    learn = learnable(100, 1)
    expected = grow([learn], 5, config()).booster.model_to_string()
    assert "[num_threads: 1]" in expected
    monkeypatch.setattr(train, "_ALONE", rows)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    found = grow([learn], 5, config()).booster.model_to_string()
    assert found.replace("[num_threads: 2]", "[num_threads: 1]") == expected
    assert ("[num_threads: 2]" in found) == (rows == 0)


def test_a_lucky_peak_is_not_the_best_round() -> None:
    """A hill with its top at 60 of 100 rounds, and a spike on the third."""
    curve = 1 - np.abs(np.arange(1, 101) - 60) / 100
    curve[2] = 2.0
    assert best_round(curve) == pytest.approx(60, abs=1)
    assert best_round(np.array([0.5])) == 1


def test_ndcg_by_hand_with_a_dropped_request() -> None:
    """Two requests: the relevant item first, and second; a third was dropped. (1 + 1 / log2(3) + 0) / 3."""
    rows = TrainingSet(
        matrix=np.zeros((4, len(NAMES)), np.float32),
        grades=np.array([GRADES, 0, 0, GRADES], np.int8),
        sizes=np.array([2, 2], np.int32),
        ideals=np.array([GRADES, GRADES], float),
        dropped=1,
    )
    assert ndcg(rows, np.array([2.0, 1.0, 2.0, 1.0])) == pytest.approx((1 + 1 / np.log2(3)) / 3)


def test_the_blend_is_judged_by_the_same_matrix() -> None:
    rows = learnable(50, 4)
    assert blend_ndcg(rows, {"item_knn": 1.0}) == pytest.approx(ndcg(rows, rows.matrix[:, SIGNAL].astype(float)))


def test_thinning_keeps_what_is_relevant_and_leaves_the_rest_to_chance() -> None:
    rows = learnable(100, 5)
    few = rows.thinned(7, seed=1)
    assert few.sizes.tolist() == [8] * 100
    assert (few.grades > 0).sum() == 100
    kept = few.matrix[few.grades == 0, SIGNAL]
    assert kept.mean() == pytest.approx(rows.matrix[rows.grades == 0, SIGNAL].mean(), abs=0.05)
    assert np.array_equal(rows.thinned(30, 1).matrix, rows.matrix)


def shown(pages: int, seed: int, size: int = 8) -> tuple[TrainingSet, TrainingSet]:
    """Pages of an old ranking that goes by `popularity.score`; the same as everybody would click who looks at everything.

    People like what has a great `item_knn.score`, and look at position p with probability 1 / (1 + p).
    """
    rng, bias = np.random.default_rng(seed), NAMES.index("popularity.score")
    rows = np.zeros((pages, size, len(NAMES)), np.float32)
    rows[:, :, [SIGNAL, bias]] = rng.random((pages, size, 2))
    liked = rng.random((pages, size)) < 0.2 + 0.6 * rows[:, :, SIGNAL]
    order = (-(rows[:, :, bias] + 0.2 * rng.gumbel(size=(pages, size)))).argsort(1)
    position = order.argsort(1).astype(np.int32)
    looked = rng.random((pages, size)) < 1.0 / (1.0 + position)

    def as_set(clicked: np.ndarray[Any, Any], positions: np.ndarray[Any, Any] | None) -> TrainingSet:
        grades, sizes = np.where(clicked, GRADES, 0).astype(np.int8).ravel(), np.full(pages, size, np.int32)
        ideals = np.maximum((np.sort(clicked, 1)[:, ::-1] * GRADES / np.log2(np.arange(size) + 2.0)).sum(1), 1)
        return TrainingSet(rows.reshape(-1, len(NAMES)), grades, sizes, ideals, 0, positions=positions)

    return as_set(liked & looked, position.ravel()), as_set(liked, None)


def test_positions_take_the_blame_for_what_they_did() -> None:
    """The naive ranker learns what the old ranking liked, the other one what people like."""
    biased, truth = shown(1500, 1)[0], shown(400, 2)[1]
    reached = {
        name: ndcg(truth, grow([rows], 100, config()).booster.predict(truth.matrix))
        for name, rows in (("unbiased", biased), ("naive", replace(biased, positions=None)))
    }
    best = ndcg(truth, truth.matrix[:, SIGNAL].astype(float))
    assert reached["naive"] < reached["unbiased"] - 0.01
    assert reached["unbiased"] > best - 0.04


def test_rows_that_were_never_shown_have_one_position() -> None:
    """So that beside logged pages their source does not reveal their labels, and that alone they grow the trees they always did."""
    logged, built = shown(50, 3)[0], learnable(30, 4)
    both = TrainingSet.concatenate([logged, built]).positions
    assert both is not None
    assert both[: len(logged.grades)].max() == 7
    assert set(both[len(logged.grades) :].tolist()) == {-1}
    assert TrainingSet.concatenate([built, built]).positions is None
    alone = replace(built, positions=np.full(len(built.grades), -1, np.int32))
    with_position, without = (grow([rows], 5, config()).booster.predict(built.matrix) for rows in (alone, built))
    np.testing.assert_allclose(with_position, without, atol=1e-6)
    assert logged.thinned(3, 1).positions is not None


def test_two_runs_grow_the_same_trees(tmp_path: Path) -> None:
    for name in ("a", "b"):
        grow([learnable(3000, 6, 10)], 5, config()).write(tmp_path / name, SOURCES, {})
    assert (tmp_path / "a" / MODEL).read_bytes() == (tmp_path / "b" / MODEL).read_bytes()
    assert (tmp_path / "a" / HEADER).read_bytes() == (tmp_path / "b" / HEADER).read_bytes()


@pytest.fixture
def ranker(tmp_path: Path) -> Path:
    grow([learnable(30, 7)], 3, config()).write(tmp_path / "ranker", SOURCES, {"validation_ndcg@10": 0.5})
    return tmp_path / "ranker"


def test_the_scorer_scores_as_lightgbm_does(ranker: Path) -> None:
    rows = learnable(5, 8).matrix
    scores = Scorer.open(ranker, reversed(SOURCES)).score(rows)
    assert scores.dtype == np.float64
    assert np.array_equal(scores, lightgbm.Booster(model_file=ranker / MODEL).predict(rows))
    assert len(Scorer.open(ranker, SOURCES).score(rows[:0])) == 0


def edit(ranker: Path, change: Callable[[dict[str, Any]], None]) -> None:
    header = json.loads((ranker / HEADER).read_text())
    change(header)
    (ranker / HEADER).write_text(json.dumps(header))


def test_foreign_features_are_refused(ranker: Path) -> None:
    edit(ranker, lambda h: h.update(schema="f" * 64, features=[*h["features"][:-1], "moon.phase"]))
    with pytest.raises(ArtifactError, match=r"another release.*ffffffffffff.*only there \['moon.phase'\], only here"):
        Scorer.open(ranker, SOURCES)


def test_foreign_sources_are_refused(ranker: Path) -> None:
    with pytest.raises(ArtifactError, match=r"another release.*item_knn, popularity; here are item_knn, towers"):
        Scorer.open(ranker, ["towers", "item_knn"])


def test_another_format_is_refused(ranker: Path) -> None:
    edit(ranker, lambda h: h.update(format_version=99))
    with pytest.raises(ArtifactError, match="ranker format 99, this Aisle reads 1"):
        Scorer.open(ranker, SOURCES)


def test_a_model_of_another_width_is_refused(ranker: Path) -> None:
    rows = learnable(30, 9)
    narrow = lightgbm.Dataset(rows.matrix[:, :3], rows.grades, group=rows.sizes)
    lightgbm.train({"objective": "lambdarank", "verbose": -1}, narrow, 1).save_model(ranker / MODEL)
    shutil.rmtree(ranker / TREES)  # of the other model
    with pytest.raises(ArtifactError, match=f"takes 3 features.*names {len(NAMES)}"):
        Scorer.open(ranker, SOURCES)


@pytest.mark.parametrize("name", [MODEL, HEADER])
def test_a_missing_or_truncated_file_is_named(ranker: Path, name: str) -> None:
    (ranker / name).write_bytes((ranker / name).read_bytes()[:40])
    with pytest.raises(ArtifactError, match=name):
        Scorer.open(ranker, SOURCES)
    (ranker / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        Scorer.open(ranker, SOURCES)
