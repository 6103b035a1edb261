"""Contextual bandits against shoppers of several kinds, of whom each likes another arm best: what it is worth to know who asks.

As in experiments/simulate.py; but a session is of a kind, and the policy is told which, and the hour, as numbers. Policies that look at no context learn
from the same sessions, and can at best give everybody what most like. Regret is held against the best arm of each kind and moment. Published, in the worst
case: sqrt(T), up to logarithms and the dimension, for LinUCB (in a variant: Chu, Li, Reyzin and Schapire 2011) and linear Thompson sampling (Agrawal and
Goyal 2013).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from core.columns import Array
from experiments.contextual import ContextPolicy, Known, lin_ucb, linear_thompson
from experiments.policies import Policy, Seen, fixed, gaussian_thompson, thompson, ucb, without_floor
from experiments.simulate import ROUNDS_A_DAY, Curves, Shop

_HOUR: Final = 2  # numbers of a context that say the hour


@dataclass(frozen=True)
class KindsShop(Shop):
    """What happens where kind c of shoppers has the rates of `rates`, moved on by c arms."""

    kinds: int = 3

    def of_kinds(self, round: int) -> Array:
        """Rates in a round: float64 `[C, K]`."""
        return np.stack([np.roll(self.at(round), kind) for kind in range(self.kinds)])

    def contexts(self, round: int) -> Array:
        """What is known of a session of each kind: 1, which kind but the first, the hour: float64 `[C, d]`."""
        turn = 2 * np.pi * round / ROUNDS_A_DAY
        hour = np.tile([np.sin(turn), np.cos(turn)], (self.kinds, 1))
        return np.concatenate([np.ones((self.kinds, 1)), np.eye(self.kinds)[:, 1:], hour], axis=1)


@dataclass(frozen=True)
class KindsLearner:
    """A policy that is told who asks, or one that is not."""

    policy: ContextPolicy | None
    blind: Policy | None = None
    half_life: float | None = None  # rounds after which what was seen counts half
    floor: bool = True

    def shares(self, known: Known, contexts: Array) -> Array:
        """For sessions of each kind: float64 `[..., C, K]`."""
        if self.policy is not None:
            found = self.policy(known, contexts)
        else:
            assert self.blind is not None
            # the first number of a context is 1, so that its sums are those of rewards
            one = self.blind(Seen.of(known.count, known.reward[..., 0], known.squares))
            found = np.broadcast_to(one[..., None, :], (*one.shape[:-1], len(contexts), one.shape[-1]))
        return found if self.floor else without_floor(found)


def learners(arms: int, half_life: float, floor: bool = True) -> dict[str, KindsLearner]:
    """The contextual policies, those that forget, and some that look at no context."""
    told = {"lin-ucb": KindsLearner(lin_ucb()), "linear-thompson": KindsLearner(linear_thompson())}
    forgetful = {f"{name}, forgetting": replace(one, half_life=half_life) for name, one in told.items()}
    blind = {
        "fixed": fixed(np.ones(arms)),
        "ucb": ucb(),
        "thompson": thompson(),
        "gaussian-thompson": gaussian_thompson(),
    }
    made = told | forgetful | {name: KindsLearner(None, policy) for name, policy in blind.items()}
    return {name: replace(one, floor=floor) for name, one in made.items()}


def run(shop: KindsShop, learner: KindsLearner, seeds: int, seed: int) -> Curves:
    """One learner in many shops that differ by chance alone; the same seed is the same chance."""
    rng = np.random.default_rng(seed)
    arms, d = len(shop.rates), shop.kinds + _HOUR
    known, waiting = Known.nothing(arms, d, (seeds,)), list[Known]()
    regret, best = np.empty((seeds, shop.rounds)), np.empty((seeds, shop.rounds))
    keep = 1.0 if learner.half_life is None else 0.5 ** (1 / learner.half_life)
    for t in range(shop.rounds):
        x, rates = shop.contexts(t), shop.of_kinds(t)
        shares = learner.shares(known, x)
        every = shares.reshape(seeds, -1) / shop.kinds
        came = rng.multinomial(shop.sessions, every / every.sum(axis=1, keepdims=True)).reshape(shares.shape)
        waiting.append(_sums(x, came.astype(np.float64), rng.binomial(came, rates).astype(np.float64)))
        if len(waiting) > shop.delay:
            known = _added(known, waiting.pop(0), keep)
        lost = rates.max(axis=1) - np.einsum("sck,ck->sc", shares, rates)
        regret[:, t] = shop.sessions * lost.mean(axis=1)
        best[:, t] = shares[:, np.arange(shop.kinds), rates.argmax(axis=1)].mean(axis=1)
    return Curves(regret.cumsum(axis=1), best)


def _sums(x: Array, came: Array, won: Array) -> Known:
    """Of sessions `[seeds, C, K]`; a success is 1, so that its square is too."""
    gram = np.einsum("sck,ci,cj->skij", came, x, x)
    return Known(came.sum(axis=1), gram, np.einsum("sck,ci->ski", won, x), won.sum(axis=1))


def _added(known: Known, new: Known, keep: float) -> Known:
    """The sums with what is new, of which what was before counts `keep`."""
    return Known(
        keep * known.count + new.count,
        keep * known.gram + new.gram,
        keep * known.reward + new.reward,
        keep * known.squares + new.squares,
    )
