from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.inference.corrections import benjamini_hochberg, e_benjamini_hochberg
from experiments.inference.sample_ratio import log_evidence, p_value
from experiments.inference.sequential import Mixture, breached
from experiments.inference.sequential import p_value as always_valid


def test_without_a_center_it_is_the_published_interval() -> None:
    # Waudby-Smith et al. 2024, theorem 2.2, with sigma = 2, t = 400, rho = .1: sigma sqrt(2 (t rho^2 + 1) / (t^2 rho^2) log(sqrt(t rho^2 + 1) / alpha)).
    t, rho, sigma, alpha = 400, 0.1, 2.0, 0.05
    published = sigma * math.sqrt(2 * (t * rho**2 + 1) / (t**2 * rho**2) * math.log(math.sqrt(t * rho**2 + 1) / alpha))
    # Its mixture N(0, rho^2) is of the mean in units of sigma.
    ours = Mixture(0.0, rho * sigma).radius(np.array([sigma / math.sqrt(t)]), alpha)
    assert ours[0] == pytest.approx(published, rel=1e-12)


def test_evidence_is_the_mean_over_the_mixture() -> None:
    # The integral over the two normals, by quadrature, against the closed form.
    mixture, effect, se = Mixture(0.7, 0.4), 0.9, 0.5
    t, width = np.linspace(-12, 12, 240_001, retstep=True)
    density = sum(np.exp(-((t - c) ** 2) / (2 * 0.4**2)) for c in (0.7, -0.7)) / (2 * 0.4 * math.sqrt(2 * math.pi))
    information = se**-2
    integral = float((density * np.exp(t * effect * information - t**2 * information / 2)).sum() * width)
    assert mixture.log_evidence(np.array(effect), np.array(se)) == pytest.approx(math.log(integral), rel=1e-9)


@given(st.floats(1e-4, 10), st.floats(0, 3), st.floats(0.05, 3), st.floats(0.001, 0.2))
def test_the_radius_is_where_evidence_suffices(se: float, center: float, scale: float, alpha: float) -> None:
    mixture = Mixture(center, scale)
    radius = mixture.radius(np.array([se]), alpha)
    assert mixture.log_evidence(radius, np.array([se]))[0] == pytest.approx(-math.log(alpha), rel=1e-6, abs=1e-6)


def test_no_estimate_says_nothing() -> None:
    mixture = Mixture.planned(0.03)
    nothing = np.array([np.nan])
    assert mixture.radius(nothing, 0.05)[0] == math.inf
    assert mixture.log_evidence(nothing, nothing)[0] == -math.inf
    assert not breached(nothing, nothing, 0.01, mixture, 0.05)[0]


def test_a_walk_without_drift_seldom_leaves() -> None:
    # 4000 walks of 400 looks: at most 5 % may ever be outside; 5 % + 3 standard errors = 6.03 %.
    walk = np.random.default_rng(7).standard_normal((4_000, 400)).cumsum(axis=1)
    t = np.arange(1, 401)
    for mixture in (Mixture.planned(0.2), Mixture.at(0.1)):
        outside = np.abs(walk / t) > mixture.radius(t**-0.5, 0.05)
        assert outside.any(axis=1).mean() <= 0.0603
        p = always_valid(mixture.log_evidence(walk / t, np.broadcast_to(t**-0.5, walk.shape)))
        assert ((p[:, -1] < 0.05) == outside.any(axis=1)).mean() > 0.999


def test_a_guardrail_breaks_only_beyond_its_margin() -> None:
    mixture = Mixture.at(0.01)
    # Standard error .01: one-sided radius at .05 is that at .1, below 3.2 standard errors.
    assert breached(np.array([-0.06]), np.array([0.01]), 0.02, mixture, 0.05)[0]
    assert not breached(np.array([-0.04]), np.array([0.01]), 0.02, mixture, 0.05)[0]


def test_findings_by_e_values_are_fewer_than_by_p_values() -> None:
    # m = 3 at .05: e-BH asks 60, 30, 20 of the ordered e-values; as p-values .02, .04, .06 with BH .0167, .033, .05.
    assert e_benjamini_hochberg(np.log([59.0, 31.0, 1.0]), 0.05).tolist() == [True, True, False]
    assert e_benjamini_hochberg(np.log([59.0, 29.0, 1.0]), 0.05).tolist() == [False, False, False]
    assert benjamini_hochberg(np.zeros(0), 0.05).tolist() == []


def test_a_lost_share_of_units_is_noticed() -> None:
    assert p_value([10_000, 10_050], [0.5, 0.5]) > 0.5
    assert p_value([10_000, 9_400], [0.5, 0.5]) < 0.001


def test_the_sample_ratio_is_a_martingale() -> None:
    # After n units the mean of the Bayes factor over all outcomes, each as likely as the shares say, is 1.
    n, shares = 6, [0.3, 0.7]
    mean = sum(
        math.comb(n, k) * 0.3**k * 0.7 ** (n - k) * math.exp(log_evidence([k, n - k], shares)) for k in range(n + 1)
    )
    assert mean == pytest.approx(1.0, rel=1e-9)
