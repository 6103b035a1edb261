"""Slopes by hand, and how often their intervals hold the truth."""

import os

import numpy as np
import pytest

from benchmarks.slopes import memory_mb, slope, slope_of_steps


def test_a_line_is_found_exactly() -> None:
    found = slope([0, 1, 2, 3], [5, 7, 9, 11])
    assert (found.slope, found.low, found.high) == pytest.approx((2, 2, 2))
    assert found.grows


def test_the_interval_by_hand() -> None:
    # x 0..3, y 0 2 1 3: slope = sum((x-1.5)(y-1.5)) / sum((x-1.5)^2) = (2.25-.25-.25+2.25)/5 = .8; intercept .3
    # residuals -.3 .9 -.9 .3, squares 1.8; standard error sqrt(1.8 / 2 / 5) = .42426; t(.975, 2) = 4.30265
    found = slope([0, 1, 2, 3], [0, 2, 1, 3])
    assert found.slope == pytest.approx(0.8)
    assert (found.low, found.high) == pytest.approx((0.8 - 4.30265 * 0.42426, 0.8 + 4.30265 * 0.42426), abs=1e-4)
    assert not found.grows


def test_noise_without_a_slope_seldom_grows() -> None:
    rng, x = np.random.default_rng(7), np.arange(90.0)
    grows = sum(slope(x, rng.normal(size=90)).grows for _ in range(1000))
    assert 10 <= grows <= 40  # one side of 5 %: 25 of 1,000


def test_steps_of_memory_are_no_independent_evidence() -> None:
    # one step in the middle: of 90 points a line through all of them is certain of its slope, one through ten means much less
    x, y = np.arange(90.0), np.where(np.arange(90) < 45, 100.0, 101.0)
    every, means = slope(x, y), slope_of_steps(x, y)
    assert means.slope == pytest.approx(every.slope, rel=0.05)
    assert means.high - means.low > 2 * (every.high - every.low)


def test_a_leak_is_seen() -> None:
    x = np.arange(90.0)
    assert slope_of_steps(x, 100 + np.floor(x / 7)).grows


def test_memory_is_what_a_process_has_written_to() -> None:
    before = memory_mb(os.getpid())
    held = np.ones(50_000_000, np.uint8)
    after = memory_mb(os.getpid())
    assert after["Anonymous"] - before["Anonymous"] == pytest.approx(held.nbytes / 1e6, abs=5)
    assert after["Rss"] > after["Anonymous"]  # libraries are pages of files
