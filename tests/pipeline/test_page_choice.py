"""Pages teach where they order the validation window better, and are left alone where they do not."""

# bazel: size=medium

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core import artifact
from core.config import PipelineConfig, load_pipeline
from core.schema import DAY
from pipeline.page_choice import OFF, choose, remembered
from ranking.feature_list import NAMES
from ranking.train import GRADES, TrainingSet


def learnable(requests: int, seed: int, size: int = 20) -> TrainingSet:
    """Of the candidates of a request the one is relevant whose first two features have the greatest product."""
    rng = np.random.default_rng(seed)
    rows = rng.random((requests, size, len(NAMES))).astype(np.float32)
    grades = np.zeros((requests, size), np.int8)
    grades[np.arange(requests), (rows[:, :, 0] * rows[:, :, 1]).argmax(1)] = GRADES
    sizes = np.full(requests, size, np.int32)
    return TrainingSet(rows.reshape(-1, len(NAMES)), grades.ravel(), sizes, np.full(requests, float(GRADES)), 0)


def shown(pages: int, seed: int) -> TrainingSet:
    """Eight items each, anywhere on the page."""
    rows, rng = learnable(pages, seed, 8), np.random.default_rng(seed)
    return replace(rows, positions=np.argsort(rng.random((pages, 8)), axis=1).ravel().astype(np.int32))


def config(**ranker: object) -> PipelineConfig:
    base = load_pipeline()
    changes = {"trees": 30, "patience": 10, "rows_per_leaf": 10} | ranker
    return base.model_copy(update={"ranker": base.ranker.model_copy(update=changes)})


def test_pages_that_teach_are_taken() -> None:
    """Fifteen requests teach little of what six hundred pages show."""
    choice = choose(learnable(15, 1), shown(600, 2), learnable(150, 3), config())
    assert choice.way in ("unbiased", "naive")
    assert choice.about["pages"] == 600
    assert choice.about["lift"][choice.way][1] > 0
    assert choice.about["lift_of_two_seeds"][1] > 0


def test_pages_that_tell_nothing_are_left() -> None:
    """Which item of them was chosen is chance: the ranker is the very one without them."""
    learn, aim, pages = learnable(150, 1), learnable(60, 3), shown(100, 2)
    drawn = np.random.default_rng(5).permuted(pages.grades.reshape(-1, 8), axis=1).ravel()
    choice = choose(learn, replace(pages, grades=drawn), aim, config())
    alone = choose(learn, None, aim, config())
    assert (choice.way, choice.about["way"]) == (OFF, OFF)
    assert np.array_equal(choice.found.score(aim.matrix), alone.found.score(aim.matrix))


@pytest.mark.parametrize("way", ["unbiased", "naive"])
def test_a_way_that_is_named_is_taken(way: str) -> None:
    choice = choose(learnable(60, 1), shown(60, 2), learnable(30, 3), config(logged_pages=way))
    assert (choice.way, choice.about["because"]) == (way, "so configured")


def test_a_handful_is_too_few() -> None:
    choice = choose(learnable(60, 1), shown(49, 2), learnable(30, 3), config(logged_pages="naive"))
    assert choice.about == {
        "pages": 49,
        "rows": 49 * 8,
        "way": OFF,
        "because": "49 pages that something came of, wanted 50",
    }


def ranker_of(tmp_path: Path, **about: Any) -> Path:
    """A ranker's artifact that says so of logged pages."""
    with artifact.publish(tmp_path / "ranker", kind="ranker", format_version=1, id="r") as draft:
        draft.about["logged_pages"] = about
    return tmp_path / "ranker"


@pytest.mark.parametrize(("days", "way"), [(6.9, "naive"), (7.0, None), (-1.0, None)])
def test_what_an_earlier_night_found_out_holds_for_a_week(tmp_path: Path, days: float, way: str | None) -> None:
    last = ranker_of(tmp_path, way="naive", decided=100 * DAY)
    known = remembered(last, int((100 + days) * DAY), config().ranker)
    assert known.way == way
    assert known.settings.logged_pages == (way or "auto")
    end = int((100 + days) * DAY)
    assert known.over({}, end)["decided"] == (100 * DAY if way else end)


def test_what_the_shop_names_is_not_remembered(tmp_path: Path) -> None:
    last = ranker_of(tmp_path, way="naive", decided=100 * DAY)
    assert remembered(last, 101 * DAY, config(logged_pages="unbiased").ranker).way is None


def test_without_time_and_memory_pages_are_off_and_nothing_is_decided(tmp_path: Path) -> None:
    known = remembered(None, 100 * DAY, config().ranker, probe=False)
    assert known.settings.logged_pages == OFF
    assert known.over({}, 100 * DAY)["decided"] is None
    undecided = ranker_of(tmp_path, way=OFF, decided=None)
    assert remembered(undecided, 101 * DAY, config().ranker).way is None
