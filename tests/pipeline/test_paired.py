"""Two orders of the same requests, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from core.config import EvaluationConfig, load_pipeline
from pipeline.paired import lift
from ranking.feature_list import NAMES
from ranking.train import TrainingSet


def rows(people: list[int] | None, dropped: int = 0) -> TrainingSet:
    n = 40
    whose = None if people is None else np.array(people, np.int32)
    empty = np.zeros((n, len(NAMES)), np.float32)
    return TrainingSet(empty, np.ones(n, np.int8), np.ones(n, np.int32), np.ones(n), dropped, people=whose)


def config() -> EvaluationConfig:
    return load_pipeline().evaluation.model_copy(update={"bootstrap_samples": 1000})


OURS = np.tile([1.0, 0.0], 20)
THEIRS = np.full(40, 0.25)


def test_a_dropped_request_counts_as_nothing_in_both() -> None:
    """Half of 40 requests gain .75 and half lose .25: .25 on average, over 50 requests .2."""
    assert lift(OURS, THEIRS, rows(None), config()).mean == pytest.approx(0.25)
    assert lift(OURS, THEIRS, rows(None, 10), config()).mean == pytest.approx(0.2)


def test_people_are_drawn_and_not_requests() -> None:
    """Four people of ten requests each, two of whom gain throughout: the mean stays, and the interval is that of four values, two of .75 and two of -.25."""
    ours = np.repeat([1.0, 0.0, 1.0, 0.0], 10)
    each, whole = (
        lift(ours, THEIRS, rows(None), config()),
        lift(ours, THEIRS, rows(np.repeat([7, 3, 9, 1], 10).tolist()), config()),
    )
    assert each.mean == pytest.approx(whole.mean) == pytest.approx(0.25)
    # with four of four drawn the mean is -.25 once in 16 draws: below the 2.5 % quantile
    assert whole.low == pytest.approx(-0.25)
    assert each.low > 0
