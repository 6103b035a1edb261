"""Sums of an arm's units, and the difference between two arms that can be read off them.

A metric is a ratio of two sums over units: a mean has the denominator 1 for every unit, a rate besides a numerator of 0 or 1. An arm's ratio R is
asymptotically the mean of the influences u_i = (y_i - R d_i) / mean(d) (delta method; Deng, Knoblich & Lu, "Applying the Delta Method in Metric
Analytics", KDD 2018). CUPED (Deng, Xu, Kohavi & Walker, "Improving the Sensitivity of Online Controlled Experiments by Utilizing Pre-Experiment Data",
WSDM 2013) takes away what a covariate from before the experiment explains: the difference becomes (R1 - R0) - theta (x1 - x0), with the theta that
makes its variance least. Sums add up, so that a day is added to yesterday's, and thousands of experiments are computed at once over leading axes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.columns import Array

Y, D, X = 0, 1, 2  # numerator, denominator, covariate


@dataclass(frozen=True)
class Moments:
    """Of the units of one arm: how many, sums and sums of products of (numerator, denominator, covariate)."""

    n: Array  # float64 [...]
    sums: Array  # float64 [..., 3]
    products: Array  # float64 [..., 3, 3]

    @classmethod
    def of(cls, y: Array, d: Array | None = None, x: Array | None = None) -> Moments:
        """Of units, one a value: float `[n]` each; without `d` a mean, without `x` nothing is taken away."""
        rows = np.stack([y, np.ones(len(y)) if d is None else d, np.zeros(len(y)) if x is None else x], axis=1)
        rows = rows.astype(np.float64)
        return cls(np.float64(len(y)) + np.zeros(()), rows.sum(axis=0), rows.T @ rows)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.n + other.n, self.sums + other.sums, self.products + other.products)

    def cumulative(self, axis: int) -> Moments:
        """Running totals along a leading axis (from 0), such as days."""
        return Moments(*(part.cumsum(axis=axis) for part in (self.n, self.sums, self.products)))

    @property
    def value(self) -> Array:
        """The metric: sum of numerators by sum of denominators, float64 `[...]`; NaN where there is nothing."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.sums[..., Y] / self.sums[..., D])

    def covariance(self, a: int, b: int) -> Array:
        """Of two of Y, D, X over the units, float64 `[...]`."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(
                (self.products[..., a, b] - self.sums[..., a] * self.sums[..., b] / self.n) / (self.n - 1)
            )

    def mean(self, a: int) -> Array:
        """Of one of Y, D, X, float64 `[...]`."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.sums[..., a] / self.n)

    def influence(self) -> tuple[Array, Array]:
        """Variance of the units' influences on the metric, and their covariance with X: float64 `[...]` each."""
        with np.errstate(invalid="ignore", divide="ignore"):
            r, scale = self.value, self.mean(D)
            own = self.covariance(Y, Y) - 2 * r * self.covariance(Y, D) + r**2 * self.covariance(D, D)
            return np.maximum(own, 0) / scale**2, (self.covariance(Y, X) - r * self.covariance(D, X)) / scale


@dataclass(frozen=True)
class Difference:
    """Treatment against control: the logarithm of their ratio (`relative`), or treatment - control."""

    effect: Array  # float64 [...]
    se: Array  # float64 [...], its standard error; NaN where it is not known yet
    kept: Array  # float64 [...], share of the variance that the covariate left
    relative: bool

    def lift(self, effect: Array) -> Array:
        """An effect, or a bound of one, as people read it: .03 is +3 % of the control's value, or +.03 of the metric."""
        return np.expm1(effect) if self.relative else effect


def difference(treatment: Moments, control: Moments, *, relative: bool, burn_in: int = 100) -> Difference:
    """How much the treatment changes a metric.

    Args:
        treatment: Its units.
        control: The others, in the same leading axes.
        relative: Compare logarithms: a lift in per cent, for metrics that are positive.
        burn_in: Units that each arm needs, and a tenth as many with a numerator at work, before anything is said: all of this rests on sums that
            are about normal.
    """
    arms = (treatment, control)
    with np.errstate(invalid="ignore", divide="ignore"):
        scale = [arm.value if relative else np.ones_like(arm.n) for arm in arms]
        parts = [arm.influence() for arm in arms]
        own = sum(var / s**2 / arm.n for arm, s, (var, _) in zip(arms, scale, parts, strict=True))
        shared = sum(cov / s / arm.n for arm, s, (_, cov) in zip(arms, scale, parts, strict=True))
        spread = sum(arm.covariance(X, X) / arm.n for arm in arms)
        theta = np.where(spread > 0, shared / np.where(spread > 0, spread, 1.0), 0.0)
        values = [np.log(arm.value) if relative else arm.value for arm in arms]
        effect = values[0] - values[1] - theta * (treatment.mean(X) - control.mean(X))
        variance = own - theta * shared
    # A sum of n outcomes with mean m and second moment q has weighed as much as m^2 n / q outcomes that are all alike.
    ready = np.all([_weighed(arm) >= burn_in / 10 for arm in arms] + [arm.n >= burn_in for arm in arms], axis=0)
    ready &= variance > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        kept = variance / own
    return Difference(
        np.where(ready, effect, np.nan),
        np.sqrt(np.where(ready, variance, np.nan)),
        np.where(ready, kept, np.nan),
        relative,
    )


def _weighed(arm: Moments) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        weighed = arm.sums[..., Y] ** 2 / arm.products[..., Y, Y]
    return np.nan_to_num(weighed)
