"""Bandit policies: from what is known of the arms to the share of units that each gets next, which is the propensity of whoever gets it.

Every policy is a pure function of counts, means and variances, so that every process finds the same shares, and a simulation is the service. No arm falls
below FLOOR / K: off-policy estimates need support, and an arm that was unlucky can come back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import lgamma
from typing import Final

import numpy as np

from core.columns import Array

FLOOR: Final = 0.05
_POINTS: Final = 129  # of the quadratures, for each arm
_WIDE: Final = 8.0  # standard deviations on either side


@dataclass(frozen=True)
class Seen:
    """What is known of K arms, float64 `[..., K]` each: any axes in front are as many experiments at once."""

    count: Array  # units, discounted or not
    mean: Array  # of the reward of a unit; 0 where there is none
    variance: Array  # of one unit's reward

    @classmethod
    def of(cls, count: Array, total: Array, squares: Array) -> Seen:
        """From sums."""
        n = np.maximum(count, 1e-12)
        mean = np.where(count > 0, total / n, 0.0)
        return cls(count, mean, np.maximum(np.where(count > 0, squares / n, 0.0) - mean**2, 0.0))


Policy = Callable[[Seen], Array]
"""Shares float64 `[..., K]` that add up to 1, each at least FLOOR / K."""


def floored(shares: Array) -> Array:
    """The nearest shares to these with the floor: (1 - FLOOR) of them, and FLOOR evenly."""
    return np.asarray((1 - FLOOR) * shares + FLOOR / shares.shape[-1])


def without_floor(shares: Array) -> Array:
    """What `floored` made these of, for simulations."""
    found = np.clip((shares - FLOOR / shares.shape[-1]) / (1 - FLOOR), 0, 1)
    return np.asarray(found / found.sum(axis=-1, keepdims=True))


def fixed(weights: Array) -> Policy:
    """The same shares whatever is seen."""
    even = np.asarray(weights, np.float64) / np.sum(weights)
    return lambda seen: np.broadcast_to(even, seen.mean.shape)


def epsilon_greedy(epsilon: float) -> Policy:
    """All but `epsilon` to the arm with the best mean (Sutton and Barto, 2018, section 2.2); arms that nobody has seen come first."""

    def shares(seen: Seen) -> Array:
        best = best_of(np.where(seen.count > 0, seen.mean, np.inf))
        return floored((1 - epsilon) * best + epsilon / seen.mean.shape[-1])

    return shares


def ucb() -> Policy:
    """To the arm with the greatest upper bound: UCB1-tuned (Auer, Cesa-Bianchi and Fischer, 2002, section 4), for rewards in [0, 1]."""

    def shares(seen: Seen) -> Array:
        n = np.maximum(seen.count, 1.0)
        log = np.log(np.maximum(seen.count.sum(-1, keepdims=True), 1.0))
        spread = np.minimum(0.25, seen.variance + np.sqrt(2 * log / n))
        return floored(best_of(np.where(seen.count > 0, seen.mean + np.sqrt(log / n * spread), np.inf)))

    return shares


def thompson() -> Policy:
    """By the chance of being the best, for rewards in [0, 1] as if they were Bernoulli, from Beta(1, 1) (Thompson, 1933; Chapelle and Li, 2011).

    The chance is an integral over one dimension, by the trapezoid rule on a grid that resolves every arm: no sampling.
    """

    def shares(seen: Seen) -> Array:
        wins = np.clip(seen.mean, 0, 1) * seen.count
        a, b = 1 + wins, 1 + seen.count - wins
        middle, wide = a / (a + b), np.sqrt(a * b / ((a + b) ** 2 * (a + b + 1)))
        grid = _grid(np.maximum(middle - _WIDE * wide, 1e-9), np.minimum(middle + _WIDE * wide, 1 - 1e-9))
        constant = np.vectorize(lgamma, otypes=[float])
        log = (a - 1)[..., None] * np.log(grid) + (b - 1)[..., None] * np.log1p(-grid)
        return floored(_best_by_density(grid, np.exp(log + (constant(a + b) - constant(a) - constant(b))[..., None])))

    return shares


def gaussian_thompson() -> Policy:
    """The same for rewards of any size: each mean is normal around what was seen, as wide as its standard error (Agrawal and Goyal, 2013).

    Fewer than two units say nothing of the spread: such an arm counts as wide as all that was seen.
    """

    def shares(seen: Seen) -> Array:
        whole = np.maximum(seen.variance.max(-1, keepdims=True), 1e-12)
        pooled = np.where(seen.count > 1, np.maximum(seen.variance, 1e-6 * whole), whole)
        centre = np.where(seen.count > 0, seen.mean, seen.mean.max(-1, keepdims=True))
        return floored(best_of_normals(centre, np.sqrt(pooled / np.maximum(seen.count, 1.0))))

    return shares


def best_of_normals(centre: Array, wide: Array) -> Array:
    """The chance of each arm to be the greatest, of independent normals with these means and deviations (above 0), float64 `[..., K]`."""
    grid = _grid(centre - _WIDE * wide, centre + _WIDE * wide)
    scaled = (grid - centre[..., None]) / wide[..., None]
    return _best_by_density(grid, np.exp(-0.5 * scaled**2) / wide[..., None])


def best_of(values: Array) -> Array:
    """1 for the greatest, shared where several are."""
    top = values == values.max(-1, keepdims=True)
    return np.asarray(top / top.sum(-1, keepdims=True))


def _grid(low: Array, high: Array) -> Array:
    """Points for every arm between its bounds, all in one ascending line: `[..., 1, K * points]`. So the narrowest arm is as well resolved as the widest."""
    points = low[..., None] + (high - low)[..., None] * np.linspace(0.0, 1.0, _POINTS)
    return np.asarray(np.sort(points.reshape(*low.shape[:-1], -1), axis=-1)[..., None, :])


def _best_by_density(grid: Array, density: Array) -> Array:
    """The chance of each arm to be the greatest, from densities `[..., K, points]` that hold all their mass: the integral of f_i times the others' F_j."""
    width = np.diff(grid, axis=-1)
    below = np.concatenate(
        [np.zeros_like(density[..., :1]), np.cumsum((density[..., 1:] + density[..., :-1]) / 2 * width, -1)], -1
    )
    logs = np.log(np.maximum(below / below[..., -1:], 1e-300))
    others = np.exp(logs.sum(-2, keepdims=True) - logs)
    chances = np.trapezoid(density / below[..., -1:] * others, grid, axis=-1)
    return np.asarray(chances / chances.sum(-1, keepdims=True))
