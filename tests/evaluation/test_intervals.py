from typing import Any

import numpy as np
import pytest

from core.columns import Array
from evaluation.intervals import difference, interval, intervals, resampled_means

SURE: dict[str, Any] = {"samples": 1000, "confidence": 0.95, "seed": 7}


def test_values_that_do_not_vary_leave_no_doubt() -> None:
    assert interval(np.full(30, 0.25), samples=100, confidence=0.95, seed=1) == (0.25, 0.25, 0.25)
    assert interval(np.array([0.5]), samples=100, confidence=0.95, seed=1) == (0.5, 0.5, 0.5)


def test_two_queries_by_hand() -> None:
    # of 2 queries with 0 and 1, the draws are {0,0}, {0,1}, {1,0}, {1,1}: means 0, 1/2, 1/2, 1 with chances 1/4, 1/2, 1/4
    means = resampled_means(np.array([[0.0], [1.0]]), samples=40_000, seed=2)[:, 0]
    values, times = np.unique(means, return_counts=True)
    assert values.tolist() == [0, 0.5, 1]
    assert times / 40_000 == pytest.approx([1 / 4, 1 / 2, 1 / 4], abs=0.01)


def test_the_spread_is_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=(400, 1))
    means = resampled_means(values, samples=4000, seed=3)[:, 0]
    assert means.std() == pytest.approx(values.std() / np.sqrt(400), rel=0.05)


def test_the_same_seed_gives_the_same_interval_and_columns_do_not_mix() -> None:
    values = np.random.default_rng(0).random((50, 3))
    both = intervals(values, **SURE)
    assert both == intervals(values, **SURE)
    assert both[1] == pytest.approx(interval(values[:, 1], **SURE), abs=1e-12)
    assert both != intervals(values, samples=1000, confidence=0.95, seed=8)


def test_less_confidence_is_narrower() -> None:
    values = np.random.default_rng(0).random(50)
    wide, narrow = interval(values, **SURE), interval(values, samples=1000, confidence=0.5, seed=7)
    assert wide.low < narrow.low < narrow.mean == wide.mean < narrow.high < wide.high


def test_blocks_of_draws_do_not_change_the_means(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((20, 2))
    whole = resampled_means(values, samples=100, seed=5)
    monkeypatch.setattr("evaluation.intervals._CELLS", 70)
    np.testing.assert_allclose(resampled_means(values, samples=100, seed=5), whole, rtol=1e-12)


def test_95_percent_intervals_cover_the_truth_about_95_percent_of_the_time() -> None:
    # 400 worlds of 80 queries, mean 1/4 (three quarters score 0). The count of covers has a standard deviation of
    # sqrt(.95 * .05 / 400) = .011; percentile intervals of skewed data fall a little short of their level.
    rng = np.random.default_rng(11)
    worlds = rng.random((80, 400)) * (rng.random((80, 400)) < 0.5)
    found = intervals(worlds, **SURE)
    covered = np.mean([i.low <= 0.25 <= i.high for i in found])
    assert 0.91 <= covered <= 0.98


def test_pairing_finds_a_difference_that_separate_intervals_hide() -> None:
    rng = np.random.default_rng(5)
    hard = rng.random(300)
    ours, theirs = hard + 0.02 + rng.normal(0, 0.02, 300), hard + rng.normal(0, 0.02, 300)
    better = difference(ours, theirs, **SURE)
    assert 0 < better.low < better.mean < better.high < 0.04
    assert interval(ours, **SURE).low < interval(theirs, **SURE).high
    assert difference(ours, ours, **SURE) == (0, 0, 0)
    assert difference(theirs, ours, **SURE) == pytest.approx((-better.mean, -better.high, -better.low), abs=1e-12)


@pytest.mark.parametrize(
    ("values", "samples", "confidence", "message"),
    [
        (np.empty(0), 10, 0.95, "q >= 1"),
        (np.array([0.1, np.nan]), 10, 0.95, "finite"),
        (np.array([0.1]), 0, 0.95, "samples >= 1"),
        (np.array([0.1]), 10, 1.0, "0 < confidence < 1"),
    ],
)
def test_what_has_no_interval_is_refused(values: Array, samples: int, confidence: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        interval(values, samples=samples, confidence=confidence, seed=1)


def test_different_queries_cannot_be_compared() -> None:
    with pytest.raises(ValueError, match="not the same queries"):
        difference(np.ones(3), np.ones(2), **SURE)
