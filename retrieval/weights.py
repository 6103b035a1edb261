"""Weights of the unlearned blend, chosen at night on the validation window: shops differ in what speaks for an item.

Coordinate ascent on NDCG@10 (Metzler and Croft, Linear feature-based models for information retrieval, Information Retrieval 10, 2007,
section 4.2): from the best single source, each weight in turn is moved along a grid until none moves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.candidates import Source, gather
from core.columns import Array
from retrieval.requests import PastRequest

# The least weight still orders what nothing else speaks for.
GRID: Final = (0.001, 0.03, 0.06, 0.12, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
_ROUNDS: Final = 6
_K: Final = 10


@dataclass(frozen=True)
class Cases:
    """Candidates of past requests, padded to the longest."""

    scores: Array  # float32 [q, n, S]: relative scores, 0 where padded
    filled: Array  # bool [q, n]
    relevant: Array  # bool [q, n]
    ideal: Array  # float64 [q]: the best DCG@10 possible, whether or not the candidates hold the items

    @classmethod
    def of(cls, sources: tuple[Source, ...], quotas: dict[str, int], requests: Sequence[PastRequest]) -> Cases:
        """Ask the sources as the request path does."""
        asked = [gather(sources, quotas, r.query, r.excluded) for r in requests]
        shape = (len(asked), max((len(c) for c in asked), default=0))
        scores, filled, relevant = (
            np.zeros((*shape, len(sources)), np.float32),
            np.zeros(shape, bool),
            np.zeros(shape, bool),
        )
        for q, (c, r) in enumerate(zip(asked, requests, strict=True)):
            n = len(c)
            top = c.scores.max(axis=0, initial=0)
            scores[q, :n] = c.scores / np.where(top > 0, top, 1)
            filled[q, :n] = True
            relevant[q, :n] = np.isin(c.rows, r.relevant)
        gains = np.concatenate([[0.0], np.cumsum(_discounts())])
        return cls(scores, filled, relevant, gains[np.minimum([len(r.relevant) for r in requests], _K)])

    def ndcg(self, weights: Array) -> float:
        """Mean NDCG@10 of the blend with weights float `[S]`; ties by row, except for the last of the ten places."""
        total = np.where(self.filled, self.scores @ weights.astype(np.float32), -1)
        best = _greatest(total, _K)
        hits = np.take_along_axis(self.relevant, best, axis=1)
        return float(((hits @ _discounts()[: hits.shape[1]]) / self.ideal).mean())


def choose_weights(cases: Cases, names: Sequence[str]) -> tuple[dict[str, float], float]:
    """The weights, the greatest of them 1, and the NDCG@10 they reach on the cases. Without cases every source weighs the same."""
    n = len(names)
    if not len(cases.ideal) or not cases.relevant.any():
        return dict.fromkeys(names, 1.0), float("nan")
    starts = [np.ones(n), *(np.where(np.arange(n) == s, 1.0, GRID[0]) for s in range(n))]
    values = [cases.ndcg(w) for w in starts]
    best = int(np.argmax(values))
    weights, value = starts[best], values[best]
    for _ in range(_ROUNDS):
        before = value
        for s in range(n):
            for step in GRID:
                tried = weights.copy()
                tried[s] = step
                # the grid is relative to the greatest weight, whichever source has it
                tried /= tried.max()
                if (reached := cases.ndcg(tried)) > value + 1e-6:
                    weights, value = tried, reached
        if value == before:
            break
    return {name: round(float(w), 6) for name, w in zip(names, weights, strict=True)}, value


def _greatest(values: Array, k: int) -> Array:
    """Columns of the k greatest values of each row, best first: a sixth of the time of sorting whole rows."""
    k = min(k, values.shape[1])
    if not k:
        return np.empty((len(values), 0), np.int64)
    some = np.sort(np.argpartition(-values, k - 1, axis=1)[:, :k], axis=1)
    order = np.argsort(-np.take_along_axis(values, some, axis=1), axis=1, kind="stable")
    return np.take_along_axis(some, order, axis=1)


def _discounts() -> Array:
    return np.asarray(1 / np.log2(np.arange(_K) + 2.0))
