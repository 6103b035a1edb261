"""Fits the curves of `ranking.calibration` to unsampled candidates, and measures how far their probabilities can be trusted.

Two methods are tried, and the one with the lower log-loss on people that it was not fitted to is taken:

- isotonic regression: Ayer et al., "An empirical distribution function for sampling with incomplete information", Annals of Mathematical Statistics 1955;
  of classifier scores: Zadrozny & Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002
- a logistic curve: Platt, "Probabilistic outputs for support vector machines", 1999, with the targets and Newton's method of Lin, Lin & Weng,
  "A note on Platt's probabilistic outputs", Machine Learning 2007

A level's curve is drawn towards that of all requests, the more the fewer requests the level has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from core.columns import Array
from ranking.calibration import Calibration, Curve

_PARTS: Final = 5  # of the people, each predicted by a fit to the others
_EVEN: Final = 200  # a level of so many requests counts for half of its curve
_BINS: Final = 20
_PAGE: Final = 10
_STEPS: Final = 50  # of Newton's method at most; it needs about ten


@dataclass(frozen=True)
class Outcomes:
    """Scored candidates of q requests, request by request, and what came of them."""

    scores: Array  # float64 [r]
    gained: Array  # bool [r]
    sizes: Array  # int32 [q], candidates of each request
    levels: Array  # text [q]: where on the ladder each request stood
    people: Array  # int32 [q]

    def __len__(self) -> int:
        return len(self.sizes)

    @property
    def request(self) -> Array:
        """The request of each candidate, int64 `[r]`."""
        return np.repeat(np.arange(len(self)), self.sizes)

    def only(self, requests: Array) -> Outcomes:
        """The requests of a mask, bool `[q]`."""
        rows = np.repeat(requests, self.sizes)
        return Outcomes(
            self.scores[rows], self.gained[rows], self.sizes[requests], self.levels[requests], self.people[requests]
        )


def calibrated(outcomes: Outcomes, seed: int) -> Calibration:
    """The better method, fitted to all of `outcomes`; `about` holds its reliability on people it was not fitted to.

    Raises:
        ValueError: if every candidate gained, or none did: then nothing can be told apart.
    """
    if outcomes.gained.all() or not outcomes.gained.any():
        raise ValueError(
            f"{int(outcomes.gained.sum())} of {len(outcomes.gained)} candidates gained, expected some and not all"
        )
    held_out = {name: _held_out(outcomes, fit, seed) for name, fit in METHODS.items()}
    losses = {name: log_loss(p, outcomes.gained) for name, p in held_out.items()}
    best = min(losses, key=lambda name: losses[name])
    about = reliability(outcomes, held_out[best]) | {
        f"log_loss_{name}": round(loss, 6) for name, loss in losses.items()
    }
    whole, levels = curves(outcomes, METHODS[best])
    return Calibration(best, whole, levels, about)


def curves(outcomes: Outcomes, fit: Callable[[Array, Array], Curve]) -> tuple[Curve, dict[str, Curve]]:
    """The curve of all requests, and that of each level, drawn towards it."""
    whole, levels = fit(outcomes.scores, outcomes.gained), {}
    for level in np.unique(outcomes.levels).tolist():
        part = outcomes.only(outcomes.levels == level)
        levels[level] = (
            fit(part.scores, part.gained).mixed(whole, len(part) / (len(part) + _EVEN)) if len(part.scores) else whole
        )
    return whole, levels


def isotonic(scores: Array, gained: Array) -> Curve:
    """The rising step function nearest to what came of scores float64 `[r]`, straight from where a step ends to where the next one begins.

    One candidate more gained at the lowest score, and one did not at the highest, so that no step is certain.
    """
    values, inverse = np.unique(scores, return_inverse=True)
    n, good = np.bincount(inverse).astype(np.float64), np.bincount(inverse, weights=gained)
    n[[0, -1]] += 1 if len(n) > 1 else 2
    good[0] += 1
    first = np.arange(len(n))  # where each step begins
    while True:
        # steps may be joined in any order, so every run that does not rise becomes one at once
        opens = np.flatnonzero(np.append(True, good[1:] * n[:-1] > good[:-1] * n[1:]))
        if len(opens) == len(n):
            break
        n, good, first = np.add.reduceat(n, opens), np.add.reduceat(good, opens), first[opens]
    log_odds = np.log(good / (n - good))
    knots, step = np.unique(np.concatenate([first, np.append(first[1:], len(values)) - 1]), return_index=True)
    return Curve(values[knots], log_odds[step % len(n)])


def logistic(scores: Array, gained: Array) -> Curve:
    """A straight line in log-odds, by maximum likelihood; level where it would fall."""
    good = int(gained.sum())
    target = np.where(gained, (good + 1.0) / (good + 2.0), 1.0 / (len(gained) - good + 2.0))
    centre, spread = scores.mean(), max(float(scores.std()), 1e-12)
    x = np.stack([np.ones(len(scores)), (scores - centre) / spread], axis=1)
    mean = target.mean()
    line = np.array([np.log(mean / (1 - mean)), 0.0])
    for _ in range(_STEPS):
        p = 1.0 / (1.0 + np.exp(-(x @ line)))
        curvature = (x * (p * (1 - p))[:, None]).T @ x + 1e-9 * np.eye(2)
        step = np.linalg.solve(curvature, x.T @ (target - p))
        line = line + step * min(1.0, 2.0 / max(float(np.abs(step).max()), 1e-12))
        if np.abs(step).max() < 1e-8:
            break
    if line[1] <= 0:
        return Curve(np.array([centre]), np.array([np.log(mean / (1 - mean))]))
    return Curve(np.array([centre]), line[:1], float(line[1] / spread))


METHODS: Final[Mapping[str, Callable[[Array, Array], Curve]]] = {"isotonic": isotonic, "logistic": logistic}


def probabilities(calibration: Calibration, outcomes: Outcomes) -> Array:
    """What `calibration` says of every candidate, float64 `[r]`."""
    out, of = np.empty(len(outcomes.scores)), np.repeat(outcomes.levels, outcomes.sizes)
    for level in np.unique(outcomes.levels).tolist():
        out[of == level] = calibration(outcomes.scores[of == level], level)
    return out


def _held_out(outcomes: Outcomes, fit: Callable[[Array, Array], Curve], seed: int) -> Array:
    """The probability of every candidate by a fit to other people, float64 `[r]`."""
    people, person = np.unique(outcomes.people, return_inverse=True)
    parts = np.random.default_rng(seed).permutation(len(people))[person] % _PARTS
    out = np.empty(len(outcomes.scores))
    for part in range(_PARTS):
        mine = parts == part
        if mine.any():
            others = outcomes if mine.all() else outcomes.only(~mine)
            out[np.repeat(mine, outcomes.sizes)] = probabilities(
                Calibration("", *curves(others, fit)), outcomes.only(mine)
            )
    return out


def log_loss(probability: Array, gained: Array) -> float:
    """Mean negative log-likelihood in nats of bool `[r]` under float `[r]`."""
    return float(-np.log(np.where(gained, probability, 1.0 - probability)).mean())


def reliability(outcomes: Outcomes, probability: Array) -> dict[str, Any]:
    """How well the probabilities float64 `[r]` fit what came of the candidates.

    `ece`, the expected calibration error: mean distance between mean probability and share that gained, over 20 bins of as many candidates each by rising
    probability (Nguyen & O'Connor, "Posterior calibration and exploratory analysis for NLP models", EMNLP 2015); `ece@10` over the ten best of each request.
    `base_log_loss` is that of the one share for all.
    """
    share = float(outcomes.gained.mean())
    place = np.empty(len(probability), np.int64)
    order = np.lexsort((-outcomes.scores, outcomes.request))
    place[order] = np.arange(len(order)) - np.repeat(np.cumsum(outcomes.sizes) - outcomes.sizes, outcomes.sizes)
    page = place < _PAGE
    return {
        "requests": len(outcomes),
        "candidates": len(probability),
        "gained": int(outcomes.gained.sum()),
        "log_loss": round(log_loss(probability, outcomes.gained), 6),
        "base_log_loss": round(log_loss(np.full(len(probability), share), outcomes.gained), 6),
        "ece": round(_ece(probability, outcomes.gained), 6),
        f"ece@{_PAGE}": round(_ece(probability[page], outcomes.gained[page]), 6),
        f"probability@{_PAGE}": round(float(probability[page].mean()), 6),
        f"gained@{_PAGE}": round(float(outcomes.gained[page].mean()), 6),
    }


def curve(outcomes: Outcomes, probability: Array) -> list[dict[str, float]]:
    """What `ece` is made of: the mean probability, the share that gained and the candidates of each bin, by rising probability."""
    parts = np.array_split(np.argsort(probability, kind="stable"), min(_BINS, len(probability)))
    return [
        {
            "probability": round(float(probability[p].mean()), 6),
            "gained": round(float(outcomes.gained[p].mean()), 6),
            "candidates": len(p),
        }
        for p in parts
    ]


def _ece(probability: Array, gained: Array) -> float:
    parts = np.array_split(np.argsort(probability, kind="stable"), min(_BINS, len(probability)))
    return float(sum(abs(probability[p].sum() - gained[p].sum()) for p in parts) / len(probability))
