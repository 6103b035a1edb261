"""Shares of bandits: by hand, against sampling, and what holds whatever was seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from experiments.policies import (
    FLOOR,
    Policy,
    Seen,
    epsilon_greedy,
    fixed,
    gaussian_thompson,
    thompson,
    ucb,
)

POLICIES = {
    "fixed": fixed(np.array([1.0, 2.0, 1.0])),
    "epsilon-greedy": epsilon_greedy(0.1),
    "ucb": ucb(),
    "thompson": thompson(),
    "gaussian-thompson": gaussian_thompson(),
}


def bernoulli(wins: list[float], count: list[float]) -> Seen:
    w, n = np.array(wins, np.float64), np.array(count, np.float64)
    return Seen.of(n, w, w)


def test_by_hand() -> None:
    """Means .1, .3, .2: the second is best. The floor takes .05 of the whole and spreads it evenly: .95 s + .05 / 3."""
    seen = bernoulli([10, 30, 20], [100, 100, 100])
    assert POLICIES["fixed"](seen).tolist() == [0.25, 0.5, 0.25]
    greedy = [0.95 * (0.1 / 3) + 0.05 / 3, 0.95 * (0.9 + 0.1 / 3) + 0.05 / 3, 0.95 * (0.1 / 3) + 0.05 / 3]
    assert POLICIES["epsilon-greedy"](seen) == pytest.approx(greedy)
    assert POLICIES["ucb"](seen) == pytest.approx([0.05 / 3, 0.95 + 0.05 / 3, 0.05 / 3])


@pytest.mark.parametrize("name", ["epsilon-greedy", "ucb"])
def test_who_was_never_seen_comes_first(name: str) -> None:
    shares = POLICIES[name](bernoulli([50, 0, 0], [100, 0, 0]))
    assert shares[1] == shares[2] > shares[0]


def test_ucb_leaves_an_arm_that_is_known_for_one_that_is_not() -> None:
    """4 log(1010) / 10 = 2.8 standard widths: the arm of ten units may yet be the better one."""
    assert POLICIES["ucb"](bernoulli([300, 2, 300], [1000, 10, 1000])).argmax() == 1


@pytest.mark.parametrize(
    ("wins", "count"), [([3, 5, 4], [10, 12, 40]), ([120, 150, 0], [1000, 1000, 3]), ([0, 0, 0], [0, 0, 0])]
)
def test_thompson_is_the_chance_of_being_the_best(wins: list[float], count: list[float]) -> None:
    """Against a million draws: standard error at most .0005."""
    rng, w, n = np.random.default_rng(3), np.array(wins), np.array(count)
    drawn = rng.beta(1 + w, 1 + n - w, (1_000_000, 3)).argmax(1)
    expected = (1 - FLOOR) * np.bincount(drawn, minlength=3) / 1e6 + FLOOR / 3
    assert POLICIES["thompson"](bernoulli(wins, count)) == pytest.approx(expected, abs=0.002)


def test_gaussian_thompson_is_the_chance_of_being_the_best() -> None:
    count, mean, variance = np.array([50.0, 80.0, 5.0]), np.array([3.0, 3.5, 2.0]), np.array([4.0, 9.0, 6.0])
    drawn = np.random.default_rng(3).normal(mean, np.sqrt(variance / count), (1_000_000, 3)).argmax(1)
    expected = (1 - FLOOR) * np.bincount(drawn, minlength=3) / 1e6 + FLOOR / 3
    assert POLICIES["gaussian-thompson"](Seen(count, mean, variance)) == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@given(arrays(np.int64, 3, elements=st.integers(0, 10_000_000)), arrays(np.float64, 3, elements=st.floats(0, 1)))
def test_shares_add_up_and_keep_the_floor(policy: Policy, count: np.ndarray, rate: np.ndarray) -> None:
    shares = policy(bernoulli((count * rate).round().tolist(), count.tolist()))
    assert shares.sum() == pytest.approx(1, abs=1e-9)
    assert (shares >= FLOOR / 3 - 1e-12).all()


def test_many_experiments_at_once_are_each_alone() -> None:
    rng = np.random.default_rng(5)
    count = rng.integers(0, 500, (7, 3)).astype(np.float64)
    wins = (count * rng.random((7, 3))).round()
    for policy in POLICIES.values():
        together = policy(Seen.of(count, wins, wins))
        for n in range(7):
            assert policy(Seen.of(count[n], wins[n], wins[n])) == pytest.approx(together[n], abs=1e-12)
