"""The evidence that something happens to an arm's units too often: against numbers by hand, and looked at after every unit."""

from __future__ import annotations

import math

import numpy as np
import pytest

from experiments.inference.arrivals import log_evidence


def by_hand(arm: int, control: int, share: float, ratio: float, steps: list[float]) -> float:
    """The mean of the products, as the module's head writes it."""

    def theta(r: float) -> float:
        return share * r / (share * r + 1 - share)

    at = theta(ratio)
    return float(
        np.mean(
            [(theta(ratio * s) / at) ** arm * ((1 - theta(ratio * s)) / (1 - at)) ** control for s in steps],
        )
    )


@pytest.mark.parametrize("more", [True, False])
@pytest.mark.parametrize(("arm", "control", "share", "ratio"), [(3, 0, 0.05, 1.0), (2, 7, 0.5, 1.5), (1, 40, 0.1, 0.9)])
def test_it_is_the_mean_of_likelihood_ratios(arm: int, control: int, share: float, ratio: float, more: bool) -> None:
    steps = [2 ** (k / 2 * (1 if more else -1)) for k in range(1, 21)]
    found = math.exp(log_evidence(arm, control, share, ratio, more=more))
    assert found == pytest.approx(by_hand(arm, control, share, ratio, steps), rel=1e-12)


def test_a_few_failures_of_a_small_arm_are_enough() -> None:
    # at a share of .05 each unit of the arm is worth up to 1 / .05 = 20: three of three are beyond 1 / .01 by any wide mixture
    assert log_evidence(3, 0, 0.05, 1.0, more=True) > math.log(100)
    assert log_evidence(1, 0, 0.05, 1.0, more=True) < math.log(100)
    # the same number on both sides of an even split says nothing
    assert log_evidence(50, 50, 0.5, 1.0, more=True) < 0
    # what the arm lacks: 200 of the control and none of an arm that should have had 1 in 20
    assert log_evidence(0, 200, 0.05, 0.9, more=False) > math.log(100)


@pytest.mark.parametrize(("more", "ratio", "true"), [(True, 1.0, 1.0), (True, 1.5, 1.5), (False, 0.9, 0.9)])
def test_looking_after_every_unit_fools_nobody(more: bool, ratio: float, true: float) -> None:
    """400 innocent canaries of 500 units each, at the very edge of what is allowed: at most 5 % ever stopped at alpha .05."""
    rng, share, alpha = np.random.default_rng(3), 0.05, 0.05
    theta = share * true / (share * true + 1 - share)
    stopped = 0
    for _ in range(400):
        of_arm = np.cumsum(rng.random(500) < theta)
        # the counts move little between looks: every twentieth unit, and the first ten each
        looks = [*range(10), *range(10, 500, 20)]
        stopped += any(
            log_evidence(int(of_arm[n]), n + 1 - int(of_arm[n]), share, ratio, more=more) >= math.log(1 / alpha)
            for n in looks
        )
    # binomial: 20 expected at most, a standard error of 4.4
    assert stopped <= 20 + 3 * 4.4


def test_a_canary_of_twice_as_many_is_found() -> None:
    rng, share = np.random.default_rng(4), 0.05
    theta = share * 4 / (share * 4 + 1 - share)  # four times as often
    found = 0
    for _ in range(100):
        arm = int((rng.random(300) < theta).sum())
        found += log_evidence(arm, 300 - arm, share, 1.5, more=True) >= math.log(100)
    assert found >= 80
