"""What another policy would have earned at each place of a page, from a log whose propensities are exact.

For the i-th row of a place let r be the reward, p the propensity of what was shown, pi the chance that the other policy shows it there, w = pi / p, and
q(a) a model's guess of the reward of a:

    IPS    mean(w r)                                        Horvitz & Thompson 1952
    SNIPS  sum(w r) / sum(w)                                Hajek 1971; Swaminathan & Joachims, NeurIPS 2015
    DM     mean(sum over a of pi(a) q(a))                   the direct method: as biased as its model
    DR     mean(sum over a of pi(a) q(a) + w (r - q))       Dudik, Langford & Li, ICML 2011

A place is judged given the others as they were (Li et al., "Counterfactual Estimation and Optimization of Click Metrics", 2015; Open Bandit: Saito et al.,
NeurIPS Datasets 2021): the value of a whole page would need weights for whole orders, whose variance nobody can pay, and is not offered. The value of
several places is the mean of theirs, each weighed by its rows.

q is the mean reward of a cell (what the caller says is alike: an item, a usual place) at a place, shrunk to the place's mean as if that had been seen
`prior` times, fitted without the rows' own fold: clusters (people, pages) are folded whole. Intervals are normal, from influences summed by cluster
(Liang & Zeger 1986), of DM as if its cells were right. Weights above `clip` are cut, which the diagnostics count: that bias is towards too little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.columns import Array
from core.errors import InputError
from core.ids import hash64
from experiments.inference.fixed import NORMAL

ESTIMATORS: Final = ("ips", "snips", "dm", "dr")
FOLDS: Final = 5
_UNFIT: Final = 5.0  # standard errors by which the mean weight may differ from what is covered


@dataclass(frozen=True)
class Log:
    """What was shown at places that were left to chance, and what came of it: arrays `[n]`, one row a place of a page."""

    reward: Array  # float64
    propensity: Array  # float64 in (0, 1], exact
    place: Array  # int64
    cell: Array  # int64 from 0: what the reward model knows of the item shown
    cluster: Array  # int64 from 0: rows that belong together

    def __post_init__(self) -> None:
        if not len(self.reward):
            raise InputError(
                "no row of the log can be used: expected pages of the exploration slice, with propensities"
            )
        bad = np.flatnonzero(~((self.propensity > 0) & (self.propensity <= 1) & np.isfinite(self.reward)))
        if len(bad):
            row = int(bad[0])
            raise InputError(
                f"row {row + 1} of the log: propensity {self.propensity[row]}, reward {self.reward[row]}; expected exact propensities in "
                "(0, 1] (GetStatus.exploration; docs/exploration.md) and finite rewards"
            )


@dataclass(frozen=True)
class Target:
    """The other policy, on the rows of a log."""

    chosen: Array  # float64 [n]: its chance of showing there what was shown
    rows: Array  # int64 [m]: the same for all that the log could have shown, as (row, cell, chance)
    cells: Array  # int64 [m]
    chances: Array  # float64 [m]


@dataclass(frozen=True)
class Estimate:
    """A value per place of a page, with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Diagnostics:
    """How much the log can say about the policy."""

    rows: int
    clusters: int
    coverage: float  # share of the policy's chances that fall on what the log could have shown
    mean_weight: float  # about the coverage, where propensities are right
    effective: float  # Kish's effective sample size, (sum w)^2 / sum w^2
    largest: float
    clipped: int  # weights that were cut


@dataclass(frozen=True)
class Evaluation:
    """Of one place, or of all."""

    estimates: dict[str, Estimate]
    diagnostics: Diagnostics
    logged: float  # what the log's own policy earned


def evaluate(
    log: Log,
    target: Target,
    *,
    clip: float = np.inf,
    floor: float = 0.9,
    confidence: float = 0.95,
    prior: float = 20.0,
    seed: int = 1,
) -> dict[str, Evaluation]:
    """The value of a policy per place, under the place's number, and of all places under `all`.

    Args:
        log: Rows with exact propensities.
        target: The policy on them.
        clip: The largest weight.
        floor: The least coverage.
        confidence: Of the intervals.
        prior: Of the reward model.
        seed: Of its folds.

    Raises:
        InputError: Too little of what the policy would show could have been shown, or the propensities contradict the log.
    """
    weights = target.chosen / log.propensity
    covered = np.bincount(target.rows, target.chances, len(weights))
    check(weights, covered, log.cluster, floor)
    cut = np.minimum(weights, clip)
    guess, expected = reward_model(log, target, prior, seed)
    own = _pull(log, target, guess, prior)
    found: dict[str, Evaluation] = {}
    for place in ("all", *np.unique(log.place).tolist()):
        rows = np.ones(len(weights), bool) if place == "all" else log.place == place
        terms = influences(log.reward[rows], cut[rows], guess[rows], expected[rows], own[rows])
        _, cluster = np.unique(log.cluster[rows], return_inverse=True)
        z = NORMAL.inv_cdf(0.5 + confidence / 2)
        estimates = {}
        for name, (value, influence) in terms.items():
            sums = np.bincount(cluster, influence)
            se = float(np.sqrt(sums @ sums) / rows.sum())
            estimates[name] = Estimate(value, value - z * se, value + z * se)
        w = weights[rows]
        said = Diagnostics(
            int(rows.sum()),
            int(cluster.max()) + 1,
            float(covered[rows].mean()),
            float(w.mean()),
            float(cut[rows].sum() ** 2 / (cut[rows] @ cut[rows])) if w.any() else 0.0,
            float(w.max()),
            int((w > clip).sum()),
        )
        found[str(place)] = Evaluation(estimates, said, float(log.reward[rows].mean()))
    return found


def check(weights: Array, covered: Array, cluster: Array, floor: float) -> None:
    """Refuse a policy that the log says too little about, and propensities that cannot be.

    Args:
        weights: float64 `[n]`.
        covered: float64 `[n]`, the policy's chances on what could have been shown.
        cluster: int64 `[n]`.
        floor: The least mean of `covered`.
    """
    coverage = float(covered.mean())
    if coverage < floor:
        raise InputError(
            f"the log covers {coverage:.1%} of what the policy would show; expected {floor:.0%} at least (--floor): widen exploration.reach "
            "of configs/serving.yaml, or judge a policy nearer to the usual order"
        )
    sums = np.bincount(cluster, weights - covered)
    off, se = float((weights - covered).mean()), float(np.sqrt(sums @ sums) / len(weights))
    if abs(off) > _UNFIT * se and abs(off) > 1e-9:
        raise InputError(
            f"the weights' mean is {weights.mean():.4f} where exact propensities give {coverage:.4f} +- {se:.4f}: either the log's "
            "propensities are not those of the policy that made it, or caps kept what this policy would show from its place"
        )


def influences(
    reward: Array, weights: Array, guess: Array, expected: Array, own: Array
) -> dict[str, tuple[float, Array]]:
    """Each estimator's value, and how much each row pulls it from there: float64 `[n]` with mean about 0."""
    n = len(reward)
    ips = weights * reward
    whole = float(weights.sum())
    snips = float(ips.sum() / whole) if whole else 0.0
    dr = expected + weights * (reward - guess)
    mean = [float(a.mean()) for a in (ips, expected, dr)]
    return {
        "ips": (mean[0], ips - mean[0]),
        "snips": (snips, weights * (reward - snips) * (n / whole if whole else 0.0)),
        "dm": (mean[1], expected - mean[1] + own * (reward - guess)),
        "dr": (mean[2], dr - mean[2]),
    }


def reward_model(log: Log, target: Target, prior: float, seed: int) -> tuple[Array, Array]:
    """The guess for what was shown, and the policy's mean guess, of each row: float64 `[n]` twice, each without the row's own fold."""
    _, place = np.unique(log.place, return_inverse=True)
    cells = int(max(log.cell.max(), target.cells.max(initial=0))) + 1
    fold = np.array([hash64(f"{seed}:{c}") % FOLDS for c in range(int(log.cluster.max()) + 1)])[log.cluster]
    at = place * cells + log.cell
    size = (int(place.max()) + 1) * cells
    guess, expected = np.empty(len(at)), np.zeros(len(at))
    for k in range(FOLDS):
        others, ours = fold != k, fold == k
        n = np.bincount(at[others], minlength=size)
        total = np.bincount(at[others], log.reward[others], size)
        by_place = n.reshape(-1, cells).sum(axis=1)
        typical = total.reshape(-1, cells).sum(axis=1) / np.maximum(by_place, 1)
        q = (total + prior * np.repeat(typical, cells)) / (n + prior)
        guess[ours] = q[at[ours]]
        theirs = ours[target.rows]
        rows = target.rows[theirs]
        expected += np.bincount(rows, target.chances[theirs] * q[place[rows] * cells + target.cells[theirs]], len(at))
    return guess, expected


def _pull(log: Log, target: Target, guess: Array, prior: float) -> Array:
    """How much a row's reward moves the direct method through its cell's mean: float64 `[n]`."""
    _, place = np.unique(log.place, return_inverse=True)
    cells = int(max(log.cell.max(), target.cells.max(initial=0))) + 1
    at = place * cells + log.cell
    size = (int(place.max()) + 1) * cells
    asked = np.bincount(place[target.rows] * cells + target.cells, target.chances, size)
    return np.asarray((asked / (np.bincount(at, minlength=size) + prior))[at])
