from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.inference.moments import Moments, difference


def test_a_mean_is_compared_as_in_the_textbook() -> None:
    # Control 1, 3 (mean 2, variance 2), treatment 2, 4, 6 (mean 4, variance 4): difference 2, standard error sqrt(2 / 2 + 4 / 3).
    found = difference(Moments.of(np.array([2.0, 4, 6])), Moments.of(np.array([1.0, 3])), relative=False, burn_in=0)
    assert float(found.effect) == pytest.approx(2)
    assert float(found.se) == pytest.approx(np.sqrt(1 + 4 / 3))


def test_a_ratio_has_the_delta_methods_error() -> None:
    rng = np.random.default_rng(3)
    d = rng.poisson(5.0, (2, 4_000)) + 1.0
    y = rng.binomial(d.astype(int), 0.2).astype(float)
    found = difference(Moments.of(y[1], d[1]), Moments.of(y[0], d[0]), relative=False)
    # The published form (Deng et al. 2018): var(Y/D) = (s_y^2 - 2 R s_yd + R^2 s_d^2) / (n mean(d)^2).
    variance = 0.0
    for k in (0, 1):
        r, c = y[k].sum() / d[k].sum(), np.cov(y[k], d[k])
        variance += (c[0, 0] - 2 * r * c[0, 1] + r**2 * c[1, 1]) / (4_000 * d[k].mean() ** 2)
    assert float(found.effect) == pytest.approx(y[1].sum() / d[1].sum() - y[0].sum() / d[0].sum())
    assert float(found.se) == pytest.approx(np.sqrt(variance), rel=1e-9)


def test_the_covariate_takes_away_what_it_explains() -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(10, 3, (2, 5_000))
    y = x + rng.normal(5, 1, x.shape)  # of a variance of 9 + 1 the covariate explains 9
    found = difference(Moments.of(y[1], None, x[1]), Moments.of(y[0], None, x[0]), relative=False)
    assert float(found.kept) == pytest.approx(0.1, abs=0.01)
    assert abs(float(found.effect)) < 4 * float(found.se)


def test_a_relative_effect_is_the_logarithm_of_the_ratio() -> None:
    y = np.array([1.0, 2, 3] * 50)
    found = difference(Moments.of(1.1 * y), Moments.of(y), relative=True)
    assert float(found.lift(found.effect)) == pytest.approx(0.1)


def test_nothing_is_said_before_enough_units() -> None:
    few = Moments.of(np.r_[np.ones(9), np.zeros(200)])  # 9 that bought weigh as 9; a burn-in of 100 asks for 10
    assert np.isnan(difference(few, few, relative=True).se)
    enough = Moments.of(np.r_[np.ones(10), np.zeros(200)])
    assert np.isfinite(difference(enough, enough, relative=True).se)


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(0.1, 9), st.floats(-9, 9)), min_size=4, max_size=30), st.data())
def test_days_add_up(rows: list[tuple[float, float, float]], data: st.DataObject) -> None:
    y, d, x = np.array(rows).T
    cut = data.draw(st.integers(1, len(rows) - 1))
    both = Moments.of(y[:cut], d[:cut], x[:cut]) + Moments.of(y[cut:], d[cut:], x[cut:])
    whole = Moments.of(y, d, x)
    np.testing.assert_allclose(both.products, whole.products, atol=1e-9)
    np.testing.assert_allclose(both.sums, whole.sums, atol=1e-9)
