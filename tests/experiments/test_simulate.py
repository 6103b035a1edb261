from __future__ import annotations

import math

import numpy as np
import pytest

from experiments.simulate import Curves, Learner, Shop, growth, lai_robbins, learners, recovery, run, summary

SHOP = Shop((0.1, 0.3), (0.3, 0.1), 200, 50)


def test_a_fixed_split_loses_half_of_the_gap() -> None:
    # Gap .2 of half the sessions, 50 a round: 5 a round; the hour moves it about, but not over whole days (192 rounds are two).
    shop = Shop((0.1, 0.3), (0.1, 0.3), 192, 50)
    made = run(shop, learners(2, 50)["fixed"], 3, 1)
    np.testing.assert_allclose(made.regret[:, -1], 192 * 5, rtol=1e-9)


def test_the_same_seed_is_the_same_chance() -> None:
    learner = learners(2, 50)["thompson"]
    np.testing.assert_array_equal(run(SHOP, learner, 3, 7).regret, run(SHOP, learner, 3, 7).regret)


def test_bandits_beat_the_split_and_those_that_forget_come_back() -> None:
    all_ = learners(2, 20)
    made = {name: run(SHOP, all_[name], 10, 1) for name in ("fixed", "thompson", "thompson, forgetting")}
    figures = summary(SHOP, made)
    assert figures["thompson, forgetting"]["regret"] < figures["thompson"]["regret"] < figures["fixed"]["regret"]
    assert figures["thompson, forgetting"]["recovery"] < 50 * 100


def test_without_the_floor_no_share_is_kept_back() -> None:
    shop = Shop((0.1, 0.5), (0.1, 0.5), 100, 100)
    kept = run(shop, Learner(learners(2, 50)["thompson"].policy), 5, 1).best[:, -1]
    free = run(shop, Learner(learners(2, 50)["thompson"].policy, floor=False), 5, 1).best[:, -1]
    np.testing.assert_allclose(kept, 0.975, atol=1e-6)  # .95 + .05 / 2
    np.testing.assert_allclose(free, 1.0, atol=1e-6)


@pytest.mark.parametrize(("order", "curve"), [("log", np.log), ("sqrt", np.sqrt), ("linear", lambda t: t)])
def test_orders_of_growth_are_told_apart(order: str, curve: np.ufunc) -> None:
    t = np.arange(1.0, 5_001)
    found = growth(t, 3 * curve(t) + 10)
    assert min(("log", "sqrt", "linear"), key=lambda g: found[g]) == order
    assert found[order] < 1e-9


def test_recovery_counts_from_the_change() -> None:
    best = np.zeros((2, 200))
    best[:, 104:] = 0.6  # the change is at round 100; the fifth round after it is the first
    assert recovery(SHOP, Curves(best, best)) == 5 * 50
    assert recovery(SHOP, Curves(best, np.zeros((2, 200)))) == math.inf


def test_the_least_regret_that_is_possible() -> None:
    # Gap .1, KL(.1, .2) = .1 ln .5 + .9 ln 1.125 = .036690.
    assert lai_robbins((0.1, 0.2)) == pytest.approx(0.1 / 0.0366902, rel=1e-4)
