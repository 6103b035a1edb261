"""Bandits against a shop whose truth is known: how much they lose by learning, how that grows, and how soon they follow a change.

Sessions come in rounds: between two rounds the shares stand still, as between two versions of the service's shares. A session succeeds with its arm's rate,
times what the hour makes of everybody (rates differ between shoppers too, but of sessions drawn at random only their mean can be seen: a binomial).
What a round brought is known some rounds later. All seeds run at once: the policies take leading axes.

Regret is what the best arm of each moment would have brought beyond what the shares bring in expectation. Published, for rates that stay: Lai & Robbins
(Adv. Appl. Math. 1985): no policy that is good everywhere stays below log t times the sum over arms of gap / KL(arm, best); UCB1 (Auer, Cesa-Bianchi &
Fischer 2002) and Thompson sampling (Agrawal & Goyal 2012; Kaufmann, Korda & Munos 2012) grow as log t, constant epsilon and fixed splits as t. The floor that
off-policy estimates need costs FLOOR / K of every arm for ever, which is linear: both are shown, with the floor and without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np

from core.columns import Array
from experiments.policies import Policy, Seen, epsilon_greedy, fixed, gaussian_thompson, thompson, ucb, without_floor

GROWTHS: Final = ("log", "sqrt", "linear")
_SEASON: Final = 0.2  # by how much the hour moves everybody's rate
ROUNDS_A_DAY: Final = 96


@dataclass(frozen=True)
class Shop:
    """What happens."""

    rates: tuple[float, ...]  # of the arms
    later: tuple[float, ...]  # from half of the rounds on
    rounds: int
    sessions: int  # a round
    delay: int = 1  # rounds until a round's successes are known

    def at(self, round: int) -> Array:
        """Rates of the arms in a round: float64 `[K]`."""
        season = 1 + _SEASON * np.sin(2 * np.pi * round / ROUNDS_A_DAY)
        return np.asarray(season * np.array(self.rates if round < self.rounds // 2 else self.later))


@dataclass(frozen=True)
class Learner:
    """A policy as it is served."""

    policy: Policy
    half_life: float | None = None  # rounds after which what was seen counts half
    floor: bool = True


@dataclass(frozen=True)
class Curves:
    """Of one learner: float64 `[seeds, rounds]` each."""

    regret: Array  # successes lost so far
    best: Array  # share of the best arm


def learners(arms: int, half_life: float, floor: bool = True) -> dict[str, Learner]:
    """All policies that allocate shares, and those that forget."""
    plain: dict[str, Policy] = {
        "fixed": fixed(np.ones(arms)),
        "epsilon-greedy": epsilon_greedy(0.1),
        "ucb": ucb(),
        "thompson": thompson(),
        "gaussian-thompson": gaussian_thompson(),
    }
    made = {name: Learner(policy, None, floor) for name, policy in plain.items()}
    forgetful = {f"{name}, forgetting": Learner(plain[name], half_life, floor) for name in list(plain)[1:]}
    return made | forgetful


def run(shop: Shop, learner: Learner, seeds: int, seed: int) -> Curves:
    """One learner in many shops that differ by chance alone; the same seed is the same chance."""
    rng = np.random.default_rng(seed)
    arms = len(shop.rates)
    sums = np.zeros((2, seeds, arms))  # sessions and successes that are known
    waiting: list[Array] = []
    regret, best = np.empty((seeds, shop.rounds)), np.empty((seeds, shop.rounds))
    keep = 1.0 if learner.half_life is None else 0.5 ** (1 / learner.half_life)
    for t in range(shop.rounds):
        shares = learner.policy(Seen.of(sums[0], sums[1], sums[1]))
        if not learner.floor:
            shares = without_floor(shares)
        rates = shop.at(t)
        came = rng.multinomial(shop.sessions, shares)
        waiting.append(np.stack([came, rng.binomial(came, rates)]).astype(np.float64))
        if len(waiting) > shop.delay:
            sums = keep * sums + waiting.pop(0)
        regret[:, t] = shop.sessions * (rates.max() - shares @ rates)
        best[:, t] = shares[:, int(rates.argmax())]
    return Curves(regret.cumsum(axis=1), best)


def growth(sessions: Array, regret: Array) -> dict[str, float]:
    """Which order a mean regret curve follows in its last nine tenths: the share of its variance that each leaves, and its exponent at the end.

    Args:
        sessions: float64 `[rounds]`, so far.
        regret: float64 `[rounds]`.
    """
    late = sessions >= sessions[-1] / 10
    x, y = sessions[late], regret[late]
    found: dict[str, float] = {}
    for name, basis in zip(GROWTHS, (np.log(x), np.sqrt(x), x), strict=True):
        design = np.stack([np.ones(len(x)), basis], axis=1)
        left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
        found[name] = float(left.var() / max(y.var(), 1e-300))
        if name == "log":
            found["per_log"] = float(np.polyfit(basis, y, 1)[0])  # to hold against `lai_robbins`
    # d log R / d log t over the last half: 0 for log t in the end, .5 for sqrt t, 1 for t
    half = int(np.searchsorted(sessions, sessions[-1] / 2))
    found["exponent"] = float(np.log(regret[-1] / regret[half]) / np.log(sessions[-1] / sessions[half]))
    return found


def lai_robbins(rates: tuple[float, ...]) -> float:
    """What log t is multiplied by in the least regret that is possible: sum of gap / KL(Bernoulli(rate), Bernoulli(best)).

    >>> round(lai_robbins((0.1, 0.2)), 3)  # .1 / (.1 log .5 + .9 log 1.125)
    2.726
    """
    best = max(rates)
    return sum((best - p) / (p * log(p / best) + (1 - p) * log((1 - p) / (1 - best))) for p in rates if p < best)


def recovery(shop: Shop, curves: Curves, level: float = 0.5) -> float:
    """Sessions from the change until the new best arm has `level` of the sessions, the mean over seeds; infinite where it never has."""
    change = shop.rounds // 2
    there = curves.best[:, change:].mean(axis=0) >= level
    return float((np.argmax(there) + 1) * shop.sessions) if there.any() else np.inf


def summary(shop: Shop, curves: Mapping[str, Curves]) -> dict[str, dict[str, float]]:
    """Of each learner: regret with its standard error; its order of growth, or recovery where the shop changes."""
    made: dict[str, dict[str, float]] = {}
    sessions = np.arange(1, shop.rounds + 1) * float(shop.sessions)
    for name, c in curves.items():
        last = c.regret[:, -1]
        made[name] = {
            "regret": float(last.mean()),
            "se": float(last.std(ddof=1) / np.sqrt(len(last))) if len(last) > 1 else float("nan"),
        }
        if shop.rates == shop.later:
            made[name] |= growth(sessions, c.regret.mean(axis=0))
        else:
            made[name]["recovery"] = recovery(shop, c)
    return made
