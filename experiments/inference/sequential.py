"""Tests and intervals that may be looked at whenever one likes: mixture martingales (numpy only, so that a server may watch a guardrail by them).

Let S be the estimate times its information I = 1/se^2. If the effect were b, S - b I would be a Brownian motion in time I, up to a vanishing error, and

    E_b = mean over t ~ mixture of exp(t (S - b I) - t^2 I / 2)

a martingale that starts at 1. By Ville's inequality it ever exceeds 1/alpha with a chance of at most alpha; the b that it never rejects are a
confidence sequence (Robbins, "Statistical methods related to the law of the iterated logarithm", Ann. Math. Statist. 1970; as the mSPRT: Johari, Koomen,
Pekelis & Walsh, "Always Valid Inference", Operations Research 2022). That the estimate is only asymptotically normal leaves an error that vanishes as the
first look comes later (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences", Annals of
Statistics 2024, Theorem 2.2, whose interval is `Mixture(0, s)`): hence the burn-in of experiments.inference.moments.

The mixture is two normals, N(+-center, scale^2). Where the smallest effect worth finding was planned, its mass lies around that effect, which finds
it sooner than a mass around nothing does; validity does not depend on it, only width does. It must be chosen before the data are seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.columns import Array

_CENTER: Final = (
    0.7  # of the planned effect: chosen on Brownian motion for power at 1.8 x the fixed sample and for width later on
)
_SCALE: Final = 0.4
_ROUNDS: Final = 60


@dataclass(frozen=True)
class Mixture:
    """Which effects the test listens for, in units of the effect: `scale` above 0."""

    center: float
    scale: float

    @classmethod
    def planned(cls, effect: float) -> Mixture:
        """For the smallest effect that is worth finding: of a relative difference its logarithm, log(1.03) for +3 %."""
        return cls(_CENTER * abs(effect), _SCALE * abs(effect))

    @classmethod
    def at(cls, se: float, alpha: float = 0.05) -> Mixture:
        """Without a planned effect: narrowest about when the standard error is `se` (Waudby-Smith et al. 2024, appendix B.2)."""
        wide = -2 * math.log(alpha)
        return cls(0.0, se * math.sqrt(wide + math.log(wide + 1)))

    def log_evidence(self, effect: Array, se: Array) -> Array:
        """Logarithm of the e-value against no effect: float64 `[...]`; -inf where there is no estimate yet."""
        information = se**-2.0
        return np.nan_to_num(self._log(np.abs(effect) * information, information), nan=-np.inf)

    def radius(self, se: Array, alpha: float) -> Array:
        """Half the width of the interval at `1 - alpha`: float64 `[...]`; infinite where there is no estimate yet.

        Newton's method from above: the logarithm of E is convex and rises with the distance, so that it never steps below the root.
        """
        known = np.isfinite(se)
        information = np.where(known, np.where(known, se, 1.0) ** -2.0, 1.0)
        v, target = 1 + information * self.scale**2, math.log(1 / alpha)
        u = np.sqrt(2 * v * (target + 0.5 * np.log(v)) + self.center**2 * information) / self.scale
        for _ in range(_ROUNDS):
            slope = (self.scale**2 * u + self.center * np.tanh(self.center * u / v)) / v
            step = (self._log(u, information) - target) / slope
            u = u - step
            if np.all(np.abs(step) <= 1e-12 * u):
                break
        return np.where(known, u / information, np.inf)

    def _log(self, u: Array, information: Array) -> Array:
        v = 1 + information * self.scale**2
        tilt = self.center * u / v
        both = np.abs(tilt) + np.log1p(np.exp(-2 * np.abs(tilt))) - math.log(2)  # log cosh
        return np.asarray(-0.5 * np.log(v) + (self.scale**2 * u**2 - self.center**2 * information) / (2 * v) + both)


def p_value(log_evidence: Array, axis: int = -1) -> Array:
    """Always-valid p-values along an axis of looks: 1 by the highest evidence so far, at most 1."""
    return np.exp(-np.maximum(np.maximum.accumulate(log_evidence, axis=axis), 0.0))


def breached(effect: Array, se: Array, margin: float, mixture: Mixture, alpha: float) -> Array:
    """Whether a guardrail is broken beyond doubt: the whole interval lies below `-margin` (an effect above 0 is good). bool `[...]`."""
    with np.errstate(invalid="ignore"):
        return np.asarray(effect + mixture.radius(se, 2 * alpha) < -margin)  # one side of it is asked for
