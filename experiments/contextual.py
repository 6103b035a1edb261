"""Contextual bandit policies: from what is known of each arm's linear model, and who asks, to the share that each arm gets of such requests.

Disjoint models: the expected reward of an arm is `x . theta`, with a theta of its own, by ridge regression over all units that had the arm. Pure functions,
exact without sampling, with the floor of experiments/policies.py: the shares are the propensities.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import log, sqrt
from typing import Final

import numpy as np

from core.columns import Array
from experiments.policies import best_of, best_of_normals, floored

_RIDGE: Final = 1.0  # the prior is as much as one unit in every direction
_WIDEST: Final = 0.25  # the variance of a reward in [0, 1] is at most so much, and counts as that until a model has more units than dimensions


@dataclass(frozen=True)
class Known:
    """Sums over the units that had each of K arms, with contexts x of d numbers: any axes in front are as many experiments at once."""

    count: Array  # float64 [..., K], discounted or not
    gram: Array  # float64 [..., K, d, d]: of x x'
    reward: Array  # float64 [..., K, d]: of r x
    squares: Array  # float64 [..., K]: of r squared

    @classmethod
    def nothing(cls, arms: int, d: int, before: tuple[int, ...] = ()) -> Known:
        """No unit yet."""
        shape = (*before, arms)
        return cls(np.zeros(shape), np.zeros((*shape, d, d)), np.zeros((*shape, d)), np.zeros(shape))

    def scores(self, contexts: Array) -> tuple[Array, Array]:
        """Mean reward of each arm for contexts float64 `[..., C, d]`, and how unsure it is (a standard deviation): float64 `[..., C, K]` each."""
        inverse = np.linalg.inv(self.gram + _RIDGE * np.eye(self.gram.shape[-1]))
        theta = np.einsum("...kij,...kj->...ki", inverse, self.reward)
        mean = np.einsum("...cd,...kd->...ck", contexts, theta)
        wide = np.einsum("...ci,...kij,...cj->...ck", contexts, inverse, contexts)
        return mean, np.sqrt(np.maximum(wide, 0) * self._noise(theta)[..., None, :])

    def _noise(self, theta: Array) -> Array:
        """The variance of a reward around the model: float64 `[..., K]`."""
        explained = 2 * np.einsum("...ki,...ki->...k", theta, self.reward)
        explained -= np.einsum("...ki,...kij,...kj->...k", theta, self.gram, theta)
        free = self.count - theta.shape[-1]
        left = np.maximum(self.squares - explained, 0) / np.maximum(free, 1.0)
        return np.where(free > 1, np.clip(left, 1e-6, _WIDEST), _WIDEST)


ContextPolicy = Callable[[Known, Array], Array]
"""What is known, and contexts float64 `[..., C, d]`, to shares float64 `[..., C, K]` of each that add up to 1, each at least FLOOR / K."""


def lin_ucb(delta: float = 0.05) -> ContextPolicy:
    """To the arm with the greatest upper bound, `1 + sqrt(ln(2 / delta) / 2)` deviations up (LinUCB: Li, Chu, Langford and Schapire, 2010, algorithm 1).

    Theirs takes a reward to have a deviation of 1; ours is what the model leaves: for rates of some percent it would explore for ever.
    """
    alpha = 1 + sqrt(log(2 / delta) / 2)

    def shares(known: Known, contexts: Array) -> Array:
        mean, unsure = known.scores(contexts)
        return floored(best_of(mean + alpha * unsure))

    return shares


def linear_thompson() -> ContextPolicy:
    """By the chance of being the best for who asks, each model's theta normal around what was seen (Agrawal and Goyal, 2013).

    For one context the arms' rewards are independent normals, so that the chance is an integral over one dimension.
    """

    def shares(known: Known, contexts: Array) -> Array:
        return floored(best_of_normals(*known.scores(contexts)))

    return shares
