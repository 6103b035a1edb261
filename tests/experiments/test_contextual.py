"""Contextual bandits: by hand, against sampling, and what holds whatever was seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import ArrayLike

from core.columns import Array
from experiments.contextual import ContextPolicy, Known, lin_ucb, linear_thompson
from experiments.policies import FLOOR, Seen, gaussian_thompson

POLICIES = {"lin-ucb": lin_ucb(), "linear-thompson": linear_thompson()}


def known(x: Sequence[ArrayLike], rewards: Sequence[ArrayLike]) -> Known:
    """Of each arm, its units' contexts and rewards."""
    xs, rs = [np.array(one, np.float64) for one in x], [np.array(one, np.float64) for one in rewards]
    return Known(
        np.array([float(len(r)) for r in rs]),
        np.stack([one.T @ one for one in xs]),
        np.stack([one.T @ r for one, r in zip(xs, rs, strict=True)]),
        np.array([float(r @ r) for r in rs]),
    )


def random_known(seed: int, arms: int = 3, d: int = 4, units: int = 200) -> Known:
    rng = np.random.default_rng(seed)
    x = [rng.normal(size=(units, d)) for _ in range(arms)]
    theta = rng.normal(size=(arms, d))
    return known(x, [one @ theta[k] + rng.normal(size=units) for k, one in enumerate(x)])


def test_scores_by_hand() -> None:
    """One number of context, always 1; rewards 1, 0, 1, 1 of four units: theta = 3 / (4 + 1) = .6.

    What the model leaves: 3 - 2 * .6 * 3 + .36 * 4 = .84 over 4 - 1 free ones = .28, at most .25; so unsure by sqrt(.25 / 5).
    An arm that nobody had: 0, as unsure as the prior: sqrt(.25 / 1).
    """
    mean, unsure = Known(
        np.array([4.0, 0.0]), np.array([[[4.0]], [[0.0]]]), np.array([[3.0], [0.0]]), np.array([3.0, 0.0])
    ).scores(np.ones((1, 1)))
    assert mean == pytest.approx(np.array([[0.6, 0.0]]))
    assert unsure == pytest.approx(np.array([[np.sqrt(0.05), 0.5]]))


def test_ridge_regression_against_least_squares() -> None:
    rng = np.random.default_rng(1)
    x, r = rng.normal(size=(50, 3)), rng.random(50)
    # the ridge of 1 is three more units, one in each direction, with a reward of 0
    theta = np.linalg.lstsq(np.concatenate([x, np.eye(3)]), np.concatenate([r, np.zeros(3)]), rcond=None)[0]
    asked = rng.normal(size=(4, 3))
    mean, _ = known([x], [r]).scores(asked)
    assert mean[:, 0] == pytest.approx(asked @ theta)


def test_each_context_gets_the_arm_that_suits_it() -> None:
    """Arm 0 is good for the first kind, arm 1 for the second, both often seen."""
    first, second = [1.0, 0.0], [0.0, 1.0]
    x = [first, second] * 500
    seen = known([x, x], [[0.9, 0.1] * 500, [0.1, 0.9] * 500])
    for policy in POLICIES.values():
        shares = policy(seen, np.array([first, second]))
        assert shares == pytest.approx(np.array([[1 - FLOOR / 2, FLOOR / 2], [FLOOR / 2, 1 - FLOOR / 2]]), abs=1e-6)


def test_linear_thompson_is_the_chance_of_being_the_best() -> None:
    """Against a million draws of every theta: standard error at most .0005."""
    seen, context, rng = random_known(5, units=8), np.array([[1.0, 0.5, -0.5, 0.2]]), np.random.default_rng(3)
    inverse = np.linalg.inv(seen.gram + np.eye(4))
    centre = np.einsum("kij,kj->ki", inverse, seen.reward)
    mean, unsure = seen.scores(context)
    noise = (unsure[0] ** 2) / np.einsum("i,kij,j->k", context[0], inverse, context[0])
    drawn = np.stack(
        [rng.multivariate_normal(centre[k], noise[k] * inverse[k], 1_000_000) @ context[0] for k in range(len(centre))]
    ).argmax(axis=0)
    expected = (1 - FLOOR) * np.bincount(drawn, minlength=3) / 1e6 + FLOOR / 3
    assert linear_thompson()(seen, context)[0] == pytest.approx(expected, abs=0.002)
    assert mean.shape == (1, 3)


def test_without_anything_to_tell_it_is_the_plain_policy() -> None:
    """A context that is always 1, and many units: the ridge of one unit and the model's spread do not matter."""
    rng = np.random.default_rng(2)
    rewards = [rng.random(4000) * scale for scale in (0.9, 0.92, 0.91)]
    seen = known([[[1.0]] * 4000] * 3, rewards)
    plain = Seen.of(seen.count, seen.reward[:, 0], seen.squares)
    assert linear_thompson()(seen, np.ones((1, 1)))[0] == pytest.approx(gaussian_thompson()(plain), abs=0.005)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@given(st.integers(0, 10_000), st.integers(0, 300))
def test_shares_add_up_keep_the_floor_and_follow_their_arms(policy: ContextPolicy, seed: int, units: int) -> None:
    seen = random_known(seed, units=units)
    asked = np.random.default_rng(seed).normal(size=(5, 4))
    shares = policy(seen, asked)
    assert shares.sum(axis=-1) == pytest.approx(1)
    assert (shares >= FLOOR / 3 - 1e-12).all()
    other = np.array([2, 0, 1])
    turned = Known(seen.count[other], seen.gram[other], seen.reward[other], seen.squares[other])
    assert policy(turned, asked) == pytest.approx(shares[:, other], abs=1e-9)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_arms_that_are_alike_share_evenly(policy: ContextPolicy) -> None:
    assert policy(Known.nothing(4, 3), np.eye(3)) == pytest.approx(np.full((3, 4), 0.25))


def test_many_experiments_at_once_are_each_alone() -> None:
    both = [random_known(1), random_known(2)]
    at_once = Known(*(np.stack([getattr(k, name) for k in both]) for name in ("count", "gram", "reward", "squares")))
    asked: Array = np.eye(4)
    for policy in POLICIES.values():
        assert policy(at_once, asked) == pytest.approx(np.stack([policy(k, asked) for k in both]), abs=1e-9)
