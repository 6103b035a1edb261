from __future__ import annotations

import numpy as np
import pytest

from core.columns import Array
from core.errors import InputError
from experiments.inference.bandit import differences, terms
from experiments.inference.sequential import Mixture


def collected(seed: int, n: int = 3_000, batch: int = 100) -> tuple[Array, Array, Array]:
    """Two arms alike (30 %), shares that follow the results: most go to whichever has the higher rate so far."""
    rng = np.random.default_rng(seed)
    y, arm, propensity = np.zeros(n), np.zeros(n, np.int64), np.zeros(n)
    share = 0.5
    for start in range(0, n, batch):
        rows = slice(start, start + batch)
        arm[rows] = rng.random(batch) < share
        propensity[rows] = np.where(arm[rows] == 1, share, 1 - share)
        y[rows] = rng.random(batch) < 0.3
        means = [y[: start + batch][arm[: start + batch] == a].mean() for a in (0, 1)]
        share = 0.9 if means[1] > means[0] else 0.1
    return y, arm, propensity


def test_terms_by_hand() -> None:
    # Arm 0 has the first and third unit, each by a chance of .5: 0 + (1 - 0) / .5 = 2; then its mean so far is 1: 1 for arm 1's unit; 1 + (0 - 1) / .5 = -1.
    phi = terms(np.array([1.0, 1.0, 0.0]), np.array([0, 1, 0]), np.full(3, 0.5), 2)
    assert phi[:, 0].tolist() == [2.0, 1.0, -1.0]
    assert phi[:, 1].tolist() == [0.0, 2.0, 1.0]


def test_plain_means_are_biased_where_the_terms_are_not() -> None:
    plain, corrected = [], []
    for seed in range(150):
        y, arm, propensity = collected(seed, 600, 20)
        plain.append(y[arm == 1].mean() - 0.3)
        corrected.append(terms(y, arm, propensity, 2)[:, 1].mean() - 0.3)
    se = np.std(corrected) / np.sqrt(len(corrected))
    assert np.mean(plain) < -3 * np.std(plain) / np.sqrt(
        len(plain)
    )  # an arm that looks bad by chance is not looked at again
    assert abs(np.mean(corrected)) < 3 * se


def test_arms_that_are_alike_are_seldom_told_apart() -> None:
    # 300 bandits looked at 30 times: at most 5 % + 3 standard errors = 8.8 %.
    looks = list(range(100, 3_001, 100))
    mixture = Mixture.planned(np.log(1.2))
    wrong = 0
    for seed in range(300):
        found = differences(*_with_ones(collected(seed)), looks, pair=(1, 0), arms=2, relative=True)
        with np.errstate(invalid="ignore"):
            wrong += bool((np.abs(found.effect) > mixture.radius(found.se, 0.05)).any())
    assert wrong / 300 <= 0.088


def test_data_without_propensities_are_refused() -> None:
    with pytest.raises(InputError, match="propensities"):
        terms(np.ones(2), np.array([0, 1]), np.array([0.5, 0.0]), 2)


def _with_ones(data: tuple[Array, Array, Array]) -> tuple[Array, Array, Array, Array]:
    y, arm, propensity = data
    return y, np.ones(len(y)), arm, propensity
