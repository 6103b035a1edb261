"""The loss against numbers derived by hand, and against TFRS' own retrieval task."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from retrieval.towers.loss import draws_for, expected_counts, log_expected, sampled_softmax
from retrieval.towers.optimizer import RowAdam


def loss(
    scores: list[float],
    positive: list[list[int]],
    weight: list[list[float]],
    expected: list[float],
    sharpness: float = 1.0,
) -> float:
    """One query [1] against items [s]: inner products are the scores themselves."""
    pool = np.array(scores, np.float32)[:, None]
    args = np.ones((len(positive), 1), np.float32), pool, np.array(positive), np.array(weight, np.float32)
    return float(sampled_softmax(*args, np.log(np.array(expected, np.float32)), np.float32(sharpness)))


def test_log_q_is_subtracted_after_the_temperature_and_for_the_positive_too() -> None:
    # Scores 0.1 and 0.3, temperature 0.1, so logits 1 and 3. The positive is in one pool of four (Q = 1/4), the other in every second (Q = 1/2).
    # Corrected: 1 - ln(1/4) = 1 + ln 4 and 3 - ln(1/2) = 3 + ln 2, that is weights 4e and 2e^3.
    # Loss = -ln(4e / (4e + 2e^3)) = ln(1 + e^2 / 2) = 1.54609...
    got = loss([0.1, 0.3], [[0]], [[1.0]], [0.25, 0.5], sharpness=10.0)
    assert got == pytest.approx(math.log(1 + math.e**2 / 2), rel=1e-5)


def test_without_sampling_it_is_the_plain_softmax() -> None:
    # Every item always in the pool: Q = 1. Loss = ln(e^1 + e^0 + e^2) - 1
    assert loss([1, 0, 2], [[0]], [[1.0]], [1, 1, 1]) == pytest.approx(math.log(math.e + 1 + math.e**2) - 1, rel=1e-5)


def test_a_popular_item_is_pushed_down_less_than_a_rare_one() -> None:
    # The wrong sign (a well-known bug) would reward the model for popularity.
    pool = tf.Variable(np.zeros((3, 1), np.float32))
    with tf.GradientTape() as tape:
        one, positive = np.ones((1, 1), np.float32), np.array([[0]])
        value = sampled_softmax(
            one, pool, positive, np.ones((1, 1), np.float32), np.log(np.array([0.5, 0.9, 0.1], np.float32)), 1.0
        )
    gradient = tape.gradient(value, pool).numpy().ravel()
    # softmax weights 1 / Q: 2, 10/9, 10 of 118/9
    assert gradient == pytest.approx([18 / 118 - 1, 10 / 118, 90 / 118], rel=1e-5)


def test_targets_count_by_their_weight() -> None:
    log_sum = math.log(math.e + 1)
    # weights 3 and 1: (3 * (ln(e + 1) - 1) + 1 * (ln(e + 1) - 0)) / 4; the second query weighs nothing
    got = loss([1, 0], [[0, 1], [1, 1]], [[3.0, 1.0], [0.0, 0.0]], [1, 1])
    assert got == pytest.approx(log_sum - 0.75, rel=1e-5)


def test_no_target_is_no_loss() -> None:
    assert loss([1, 0], [[0]], [[0.0]], [1, 1]) == 0.0


def test_it_is_what_tfrs_computes_over_in_batch_candidates_without_accidental_hits() -> None:
    # TFRS keeps one candidate a query and masks the copies of each query's own item: a pool that holds each item once needs no mask.
    rng = np.random.default_rng(0)
    items, queries = rng.normal(size=(4, 3)).astype(np.float32), rng.normal(size=(4, 3)).astype(np.float32)
    q = np.array([0.5, 0.3, 0.2, 0.9], np.float32)
    task = tfrs.tasks.Retrieval(temperature=0.2, remove_accidental_hits=True)
    ids = tf.constant(["a", "b", "c", "d"])
    theirs = task(
        queries, items, candidate_sampling_probability=tf.constant(q), candidate_ids=ids, compute_metrics=False
    )
    ours = sampled_softmax(queries, items, np.arange(4)[:, None], np.ones((4, 1), np.float32), np.log(q), 5.0)
    assert float(ours) == pytest.approx(float(theirs) / 4, rel=1e-4)  # theirs is a sum


def test_the_written_out_gradient_is_the_derived_one() -> None:
    # The oracle is the same loss in plain operations, which TensorFlow differentiates itself; targets repeat, one query has none, one weight is 0.
    rng = np.random.default_rng(2)
    queries, pool = (tf.constant(rng.normal(size=(n, 4)), tf.float32) for n in (5, 7))
    positive = tf.constant([[0, 0], [3, 6], [1, 1], [6, 3], [2, 5]])
    weight = tf.constant([[1.0, 2.0], [0.5, 0.0], [0.0, 0.0], [3.0, 1.0], [1.0, 1.0]])
    log_q, sharpness = tf.constant(np.log(rng.uniform(0.1, 1, 7)), tf.float32), tf.constant(2.0)

    def plain(queries: tf.Tensor, pool: tf.Tensor, sharpness: tf.Tensor) -> tf.Tensor:
        logits = sharpness * queries @ tf.transpose(pool) - log_q
        surprise = tf.reduce_logsumexp(logits, 1)[:, None] - tf.gather(logits, positive, batch_dims=1)
        return tf.reduce_sum(weight * surprise) / tf.reduce_sum(weight)

    def ours(queries: tf.Tensor, pool: tf.Tensor, sharpness: tf.Tensor) -> tf.Tensor:
        return sampled_softmax(queries, pool, positive, weight, log_q, sharpness)

    values, gradients = [], []
    for f in (plain, ours):
        with tf.GradientTape() as tape:
            tape.watch([queries, pool, sharpness])
            value = 3 * f(queries, pool, sharpness)
        values.append(float(value))
        gradients.append(tape.gradient(value, [queries, pool, sharpness]))
    assert values[1] == pytest.approx(values[0], rel=1e-5)
    for want, got in zip(*gradients, strict=True):
        assert got.numpy() == pytest.approx(want.numpy(), abs=1e-5)


def test_no_target_has_no_gradient() -> None:
    queries = tf.ones((1, 2))
    with tf.GradientTape() as tape:
        tape.watch(queries)
        value = sampled_softmax(queries, tf.eye(2), tf.constant([[0]]), tf.zeros((1, 1)), tf.zeros(2), tf.constant(1.0))
    assert tape.gradient(value, queries).numpy().tolist() == [[0, 0]]


def test_expected_counts_by_hand() -> None:
    # Two draws from (1/2, 1/2, 0) and one from the two known items: missed with (1/2)^2 * 1/2 = 1/8. The third is never drawn.
    got = expected_counts(np.array([0.5, 0.5, 0.0]), 2, np.array([True, True, False]), 1)
    assert got.tolist() == [7 / 8, 7 / 8, 0.0]


def test_expected_counts_are_the_share_of_pools_that_hold_the_item() -> None:
    rng, frequency = np.random.default_rng(1), np.array([0.6, 0.3, 0.1])
    pools = [np.unique(np.concatenate([rng.choice(3, 3, p=frequency), rng.integers(3, size=1)])) for _ in range(20_000)]
    share = np.bincount(np.concatenate(pools), minlength=3) / len(pools)
    assert share == pytest.approx(expected_counts(frequency, 3, np.ones(3, bool), 1), abs=0.015)


def test_draws_are_found_from_how_many_items_differ() -> None:
    frequency = np.array([0.5, 0.5])
    assert draws_for(frequency, 1.75) == pytest.approx(3)  # 2 * (1 - 2^-3) = 1.75
    assert np.exp(log_expected(frequency, 1.75, np.array([True, True]), 1)) == pytest.approx([15 / 16] * 2)


def test_adam_moves_only_the_rows_of_a_sparse_gradient() -> None:
    table = tf.Variable(np.ones((3, 2), np.float32))
    adam = RowAdam([table])
    gradient = tf.IndexedSlices(tf.constant([[1.0, -1.0], [1.0, -1.0]]), tf.constant([2, 2]), tf.constant([3, 2]))
    adam.apply([gradient], tf.constant(0.1))
    # The first Adam step is the rate times the sign of the gradient, whatever its size; row 2 came twice and moves once.
    assert table.numpy() == pytest.approx(np.array([[1, 1], [1, 1], [0.9, 1.1]]), rel=1e-5)


def test_sparse_and_dense_steps_agree_where_every_row_is_touched() -> None:
    rng = np.random.default_rng(2)
    start = rng.normal(size=(4, 3)).astype(np.float32)
    sparse, dense = tf.Variable(start), tf.Variable(start)
    a, b = RowAdam([sparse]), RowAdam([dense])
    for _ in range(3):
        gradient = tf.constant(rng.normal(size=(4, 3)), tf.float32)
        a.apply([tf.IndexedSlices(gradient, tf.range(4), tf.constant([4, 3]))], tf.constant(0.01))
        b.apply([gradient], tf.constant(0.01))
    assert sparse.numpy() == pytest.approx(dense.numpy(), abs=1e-6)
