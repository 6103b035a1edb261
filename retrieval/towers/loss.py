"""Sampled softmax over one shared pool of items, corrected for how often an item gets into the pool.

The pool of a batch holds every item of its events and targets and some uniformly drawn ones, each once: no item competes with a copy of itself
(accidental hits), and popular items, which are nearly always there, do not crowd out the rest because of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from core.columns import Array

Tensor = Any


def expected_counts(frequency: Array, draws: float, known: Array, uniform: int) -> Array:
    """How often each item is in a pool without duplicates, float64 `[n]`, in expectation.

    One that is missed by `draws` draws from `frequency` (float `[n]`, sums to 1) and by `uniform` draws from the `known` items (bool `[n]`) is not
    in it: 1 - (1 - f)^draws (1 - 1 / known)^uniform.
    """
    even = known / max(int(known.sum()), 1)
    return 1 - (1 - frequency) ** draws * (1 - even) ** uniform


def draws_for(frequency: Array, distinct: float) -> float:
    """How many independent draws from `frequency` give `distinct` different items in expectation.

    The events of a batch are not independent (people return to items), so a batch of b events is worth fewer draws than b.
    """
    low, high = 0.0, 1.0
    while (1 - (1 - frequency) ** high).sum() < distinct and high < 1e9:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if (1 - (1 - frequency) ** middle).sum() < distinct else (low, middle)
    return high


def sampled_softmax(
    queries: Tensor, pool: Tensor, positive: Tensor, weight: Tensor, log_expected: Tensor, sharpness: Tensor
) -> Tensor:
    """Weighted mean of the cross-entropy of each target against the whole pool.

    The logit of item j is `sharpness * <query, j> - log Q(j)`, for the positive as for the others, and after the temperature: the pool is then an
    unbiased sample of the catalogue (Bengio & Senecal 2008; Yi et al., RecSys 2019, section 4).

    The gradient, for queries, pool and sharpness, is written out: it needs one exponential a logit and no array of their size beside it, which halves
    the time of a step against the one that TensorFlow derives (benchmarks/steps.py).

    Args:
        queries: float32 `[q, d]`.
        pool: float32 `[p, d]`, distinct items.
        positive: int32 `[q, k]`, the place of each target in the pool.
        weight: float32 `[q, k]`, 0 for a target that does not count.
        log_expected: float32 `[p]`, log Q(j): of the expected count of j in the pool.
        sharpness: float32 scalar, one over the temperature.
    """
    loss: Tensor = _sampled_softmax(queries, pool, positive, weight, log_expected, sharpness)
    return loss


@tf.custom_gradient
def _sampled_softmax(
    queries: Tensor, pool: Tensor, positive: Tensor, weight: Tensor, log_expected: Tensor, sharpness: Tensor
) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
    scaled = sharpness * queries
    # log Q rides along as one more dimension, which saves a pass over the logits
    wider = tf.concat([scaled, tf.ones_like(queries[:, :1])], 1), tf.concat([pool, -log_expected[:, None]], 1)
    logits = tf.matmul(*wider, transpose_b=True)
    peak = tf.reduce_max(logits, 1, keepdims=True)
    found = tf.gather(logits, positive, batch_dims=1)
    mass = tf.exp(logits - peak)  # probability of each item, times `total`
    total = tf.reduce_sum(mass, 1, keepdims=True)
    weights = tf.reduce_sum(weight)
    loss = tf.math.divide_no_nan(tf.reduce_sum(weight * (tf.math.log(total) + peak - found)), weights)

    def gradient(upstream: Tensor) -> tuple[Tensor, ...]:
        # of a logit: share of the query's targets * probability, less the target's share where it is the positive
        share = tf.math.divide_no_nan(upstream * weight, weights)
        each = tf.reduce_sum(share, 1, keepdims=True) / total
        of_scaled = each * tf.matmul(mass, pool) - tf.reduce_sum(share[:, :, None] * tf.gather(pool, positive), 1)
        to_positive = tf.reshape(share[:, :, None] * scaled[:, None, :], [-1, tf.shape(pool)[1]])
        of_pool = tf.matmul(mass, each * scaled, transpose_a=True) - tf.math.unsorted_segment_sum(
            to_positive, tf.reshape(positive, [-1]), tf.shape(pool)[0]
        )
        return sharpness * of_scaled, of_pool, None, None, None, tf.reduce_sum(of_scaled * queries)

    return loss, gradient


def log_expected(frequency: Array, distinct: float, known: Array, uniform: int) -> Array:
    """Logarithm of the expected counts Q, float32 `[n]` for batches that hold `distinct` different items on average."""
    return np.log(np.maximum(expected_counts(frequency, draws_for(frequency, distinct), known, uniform), 1e-12)).astype(
        np.float32
    )
