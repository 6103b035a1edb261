"""The search ends in time, begins with the present settings, and takes others only where they are better twice."""

# bazel: size=medium

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from core.config import RankerConfig, load_pipeline
from core.errors import NotFoundError
from core.work import Work
from pipeline import tune_ranker
from pipeline.tune_ranker import RANGES, search
from ranking.feature_list import NAMES
from ranking.train import GRADES, TrainingSet, probe


def learnable(requests: int, seed: int) -> TrainingSet:
    """Of 20 candidates of a request the one is relevant whose first two features have the greatest product."""
    rng = np.random.default_rng(seed)
    rows = rng.random((requests, 20, len(NAMES))).astype(np.float32)
    grades = np.zeros((requests, 20), np.int8)
    grades[np.arange(requests), (rows[:, :, 0] * rows[:, :, 1]).argmax(1)] = GRADES
    sizes = np.full(requests, 20, np.int32)
    return TrainingSet(rows.reshape(-1, len(NAMES)), grades.ravel(), sizes, np.full(requests, float(GRADES)), 0)


def crippled() -> RankerConfig:
    """Trees of two leaves, of a twentieth of the features: anything else is better."""
    changes = {"trees": 30, "patience": 10, "leaves": 2, "rows_per_leaf": 20, "feature_share": 0.05}
    return load_pipeline().ranker.model_copy(update=changes)


def test_better_settings_are_found() -> None:
    said: list[str] = []
    learn, validate = learnable(150, 1), learnable(60, 2)
    found = search(learn, validate, crippled(), math.inf, 7, said.append, 4)
    assert found.trials == 4
    assert found.best > found.default
    assert set(found.values) == set(RANGES)
    assert f"NDCG@10 {probe(learn, validate, crippled())[1]:.4f}" in said[0]  # the present settings come first
    again = probe(learn, validate, crippled().model_copy(update=found.values))[1]
    other = probe(learn, validate, crippled().model_copy(update=found.values | {"seed": crippled().seed + 1}))[1]
    assert found.best == pytest.approx((again + other) / 2)


def test_without_time_the_present_settings_stay() -> None:
    found = search(learnable(60, 1), learnable(30, 2), crippled(), time.monotonic(), 7, lambda _: None)
    assert (found.trials, found.values) == (1, {})
    assert found.best == found.default


def test_what_is_found_is_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys that the person's file states stay beside those that were found."""
    sets = learnable(150, 1), learnable(60, 2)
    monkeypatch.setattr(tune_ranker, "training_sets", lambda *_: sets)
    base = {"ranker": {"trees": 30, "patience": 10, "leaves": 2, "feature_share": 0.05}, "towers": {"epochs": 3}}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(base))
    out = tmp_path / "tuned.yaml"
    said = tune_ranker.tune_ranker(Work(tmp_path), tmp_path / "mine.yaml", 600, 100, out, 7, lambda _: None, 3)
    config = load_pipeline(out)
    assert said["config"] == str(out)
    assert said["best"] > said["default"]
    assert (config.towers.epochs, config.ranker.trees) == (3, 30)
    assert {k: getattr(config.ranker, k) for k in said["changed"]} == said["changed"]


def test_the_objective_is_what_is_searched_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Worths of 1 and share 1: a grade of 20 counts 5 (ranking/objective.py), so that the present settings reach a quarter of their NDCG in gains."""
    learn, validate = (
        replace(rows, worths=np.ones(len(rows.grades), np.float32)) for rows in (learnable(60, 1), learnable(30, 2))
    )
    monkeypatch.setattr(tune_ranker, "training_sets", lambda *_: (learn, validate))
    small = {"trees": 10, "patience": 10}
    reached = {}
    for share in (0.0, 1.0):
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"ranker": small | {"objective": {"share": share}}}))
        reached[share] = tune_ranker.tune_ranker(
            Work(tmp_path), tmp_path / "mine.yaml", 600, 100, tmp_path / "out.yaml", 7, lambda _: None, 1
        )
    assert [said["objective"] for said in reached.values()] == ["gain", "1 price"]
    in_gains = probe(learn, validate, load_pipeline().ranker.model_copy(update=small))[1]
    assert reached[0.0]["default"] == pytest.approx(in_gains, abs=1e-4)
    first, second = (replace(rows, grades=(rows.grades // 4).astype(np.int8)) for rows in (learn, validate))
    in_worths = probe(first, second, load_pipeline().ranker.model_copy(update=small))[1]
    assert reached[1.0]["default"] == pytest.approx(in_worths, abs=1e-4)
    assert in_worths < 0.3


def test_without_sources_it_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        tune_ranker.tune_ranker(Work(tmp_path), None, 1, 100, tmp_path / "out.yaml", 7, lambda _: None)
