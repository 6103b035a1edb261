"""How far a mean over queries may be off: the bootstrap over queries.

The method is Efron's bootstrap with percentile intervals (Efron & Tibshirani, An Introduction to the Bootstrap, 1993, section 13.3): draw q of the
q queries with replacement, take the mean, and read the interval off the quantiles of many such means. Two systems are compared on the same
queries, by the bootstrap of the per-query difference (Sakai, Evaluating Evaluation Metrics based on the Bootstrap, SIGIR 2006): the luck of which
queries were drawn then falls on both alike. A draw is a vector of multinomial weights, so that all metrics of all systems share each draw and cost
one matrix product. The same seed gives the same draws.

Queries are taken as independent: one a person. It says nothing about another month, or another shop.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from core.columns import Array

_CELLS = 1 << 20  # weights at a time: 8 MB


class Interval(NamedTuple):
    """A mean and the interval around it."""

    mean: float
    low: float
    high: float


def intervals(values: Array, *, samples: int, confidence: float, seed: int) -> list[Interval]:
    """The mean of each column of float64 `[q, m]` over the queries, with its interval at `confidence`.

    Raises:
        ValueError: without queries, with a value that is not finite, or with `samples` or `confidence` out of bounds.
    """
    if values.ndim != 2 or not len(values):
        raise ValueError(f"expected values [q, m] with q >= 1, got {list(values.shape)}")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite")
    if samples < 1 or not 0 < confidence < 1:
        raise ValueError(f"expected samples >= 1 and 0 < confidence < 1, got {samples}, {confidence}")
    means = resampled_means(values, samples=samples, seed=seed)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return [Interval(float(m), float(a), float(b)) for m, a, b in zip(values.mean(0), low, high, strict=True)]


def interval(values: Array, *, samples: int, confidence: float, seed: int) -> Interval:
    """The mean of float64 `[q]` over the queries, with its interval."""
    return intervals(values[:, None], samples=samples, confidence=confidence, seed=seed)[0]


def difference(ours: Array, theirs: Array, *, samples: int, confidence: float, seed: int) -> Interval:
    """The mean of `ours - theirs`, float64 `[q]` on the same queries, with its interval: an interval above 0 says that ours is better."""
    if ours.shape != theirs.shape:
        raise ValueError(f"not the same queries: {list(ours.shape)} and {list(theirs.shape)}")
    return interval(ours - theirs, samples=samples, confidence=confidence, seed=seed)


def resampled_means(values: Array, *, samples: int, seed: int) -> Array:
    """Means of `samples` draws of the queries with replacement: `[q, m]` -> float64 `[samples, m]`."""
    q = len(values)
    rng = np.random.default_rng(seed)
    means = np.empty((samples, values.shape[1]))
    step = max(1, _CELLS // q)
    for start in range(0, samples, step):
        n = min(step, samples - start)
        drawn = rng.integers(q, size=(n, q)) + q * np.arange(n)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=n * q).reshape(n, q).astype(np.float64)
        means[start : start + n] = weights @ values / q
    return means
