"""What a training step is made of, on made-up batches of the default size: the loss and the query tower, forward and backward, with XLA and without.

    python -m benchmarks.steps [--repeats 10]

CPU milliseconds (all threads, the least of several repeats): on a busy machine wall time says little. `loss` is the production loss with its
written-out gradient, `derived` the same formula with the gradient that TensorFlow derives. The pool has one size here, which is XLA's best case: in
training every batch has another, and XLA would compile each anew. The last line of output is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from core.config import load_pipeline
from retrieval.towers.inputs import GAP_BUCKETS
from retrieval.towers.loss import sampled_softmax
from retrieval.towers.model import QueryTower, Shape
from retrieval.towers.noise import Noise

Tensor = Any
_POOL = 4500  # items in a pool, as in a shop of ten thousand
_CALLS = 3  # timed together


def derived(
    queries: Tensor, pool: Tensor, positive: Tensor, weight: Tensor, log_expected: Tensor, sharpness: Tensor
) -> Tensor:
    """As sampled_softmax."""
    logits = sharpness * tf.matmul(queries, pool, transpose_b=True) - log_expected
    surprise = tf.reduce_logsumexp(logits, 1)[:, None] - tf.gather(logits, positive, batch_dims=1)
    return tf.math.divide_no_nan(tf.reduce_sum(weight * surprise), tf.reduce_sum(weight))


def measured(repeats: int) -> dict[str, dict[str, float]]:
    """CPU milliseconds of each part with (`xla`) and without (`plain`), and their ratio."""
    steps = {**_losses(), "query tower": _query_tower()}
    modes = {"plain": False, "xla": True}
    calls = {(n, m): tf.function(step, jit_compile=jit) for n, step in steps.items() for m, jit in modes.items()}
    for call in calls.values():
        call()  # trace, compile
    best = dict.fromkeys(calls, np.inf)
    for _ in range(repeats):
        for key, call in calls.items():
            begin = time.process_time()
            for _ in range(_CALLS):
                call()
            best[key] = min(best[key], (time.process_time() - begin) * 1000 / _CALLS)
    found = {name: {mode: round(best[name, mode], 2) for mode in modes} for name in steps}
    return {name: {**ms, "ratio": round(ms["plain"] / ms["xla"], 2)} for name, ms in found.items()}


def _losses() -> dict[str, Callable[[], Tensor]]:
    c, rng = load_pipeline().towers, np.random.default_rng(0)
    queries, pool = (_unit(rng, n, c.dimensions) for n in (c.batch_events, _POOL))
    positive = tf.constant(rng.integers(0, _POOL, (c.batch_events, c.targets)), tf.int32)
    weight = tf.constant(rng.random((c.batch_events, c.targets)), tf.float32)
    rest = positive, weight, tf.constant(np.log(rng.random(_POOL)), tf.float32), tf.constant(20.0)

    def step(loss: Callable[..., Tensor]) -> Callable[[], Tensor]:
        def call() -> Tensor:
            with tf.GradientTape() as tape:
                tape.watch([queries, pool])
                value = loss(queries, pool, *rest)
            return tape.gradient(value, [queries, pool])

        return call

    return {"loss": step(sampled_softmax), "derived": step(derived)}


def _query_tower() -> Callable[[], Tensor]:
    c, rng = load_pipeline().towers, np.random.default_rng(0)
    tower = QueryTower(Shape(1, 1, c.dimensions, c.events, c.blocks, c.heads, c.dropout, c.id_dropout), Noise())
    rows = c.batch_events // c.events
    vectors = tf.reshape(_unit(rng, rows * c.events, c.dimensions), [rows, c.events, c.dimensions])
    type, gap, segment = (
        tf.constant(rng.integers(0, high, (rows, c.events)), tf.int32) for high in (8, GAP_BUCKETS, 2)
    )
    tower(vectors, type, gap, segment)  # Keras makes the weights

    def call() -> Tensor:
        with tf.GradientTape() as tape:
            value = tf.reduce_sum(tower(vectors, type, gap, segment, training=True)[:, :, 0])
        return [tf.convert_to_tensor(g) for g in tape.gradient(value, tower.trainable_variables)]

    return call


def _unit(rng: np.random.Generator, rows: int, columns: int) -> Tensor:
    values = rng.normal(size=(rows, columns))
    return tf.constant(values / np.linalg.norm(values, axis=1, keepdims=True), tf.float32)


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=10)
    print(json.dumps(measured(parser.parse_args().repeats)))


if __name__ == "__main__":
    main()
