"""How many units an experiment needs, and how long it takes.

Fixed horizon: the sample of a two-sided z-test (e.g. Kohavi, Tang & Xu, Trustworthy Online Controlled Experiments, 2020, chapter 17). Sequential: the
sample by which the always-valid test has found the effect with the same power, and the mean sample at which it stops, by simulating the Brownian
motion that its estimate follows; 2000 paths, seeded. Units are counted after their attribution window, so a plan's days include one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from experiments.inference.fixed import NORMAL
from experiments.inference.sequential import Mixture

_PATHS: Final = 2_000
_HORIZON: Final = 4.0  # times the fixed sample: how far paths are followed
_SEED: Final = 1


@dataclass(frozen=True)
class Plan:
    """Units over both arms that are compared."""

    fixed: int  # for one look at the end
    sequential: int  # by then the sequential test has found the effect with the asked power
    stopping: int  # where it stops on average, if one waits until `sequential` at most


def information(effect: float, alpha: float, power: float) -> float:
    """What 1/se^2 must be for a two-sided z-test at `alpha` to find `effect` with `power`."""
    return ((NORMAL.inv_cdf(1 - alpha / 2) + NORMAL.inv_cdf(power)) / effect) ** 2


def variance(shares: tuple[float, float], spread: float) -> float:
    """Of the estimated effect times the units of both arms, by the share of each and the variance of a unit's influence."""
    whole = sum(shares)
    return spread * sum(whole / s for s in shares)


def plan(
    effect: float, spread: float, shares: tuple[float, float] = (0.5, 0.5), alpha: float = 0.05, power: float = 0.8
) -> Plan:
    """What it takes to find an effect.

    Args:
        effect: The smallest worth finding: log(1 + lift) for a relative one.
        spread: Variance of a unit's influence on the metric; for a relative effect on a mean the squared coefficient of variation.
        shares: Of control and treatment.
        alpha: How often nothing is taken for something.
        power: How often the effect is found.
    """
    per_unit = variance(shares, spread)
    fixed = information(effect, alpha, power) * per_unit
    stops = _stops(effect, alpha, power)
    by = float(np.quantile(stops, power))
    return Plan(math.ceil(fixed), math.ceil(fixed * by), math.ceil(fixed * float(np.minimum(stops, by).mean())))


def _stops(effect: float, alpha: float, power: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """At how many times the fixed sample each path is found: float64 `[paths]`; looked at twenty times a fixed sample."""
    looks = np.arange(1, round(_HORIZON * 20) + 1) / 20
    whole = information(effect, alpha, power) * looks
    steps = np.random.default_rng(_SEED).standard_normal((_PATHS, len(looks)))
    walk = np.cumsum(steps * math.sqrt(whole[0]) + effect * whole[0], axis=1)
    mixture = Mixture.planned(effect)
    found = walk / whole > mixture.radius(whole**-0.5, alpha)
    return np.where(found.any(axis=1), looks[found.argmax(axis=1)], np.inf)


def conversion_spread(rate: float) -> float:
    """Squared coefficient of variation of a rate: (1 - p) / p.

    >>> conversion_spread(0.1)
    9.0
    """
    return (1 - rate) / rate
