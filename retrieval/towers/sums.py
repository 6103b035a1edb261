"""Weighted sums of token embeddings for rows of ragged bags: what items and people have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from core.columns import Array

Tensor = Any
_DEVIATION = 0.02  # of initial embeddings


class BagSums(tf.Module):
    """Of n bags `content`: (row int64, token row int64, weight float32) of every known token, in the order of the rows."""

    def __init__(self, content: tuple[Array, Array, Array], n: int) -> None:
        super().__init__(name="bags")
        rows, tokens, weights = content
        self._starts = tf.constant(np.searchsorted(rows, np.arange(n + 1)), tf.int64)
        self._tokens, self._weights = tf.constant(tokens, tf.int64), tf.constant(weights, tf.float32)

    def __call__(self, rows: Tensor, table: Any) -> Tensor:
        """The sums float32 `[m, d]` for rows int32 `[m]` over the embeddings `table` float32 `[v, d]`; a bag without tokens gives 0."""
        spans = tf.ragged.range(tf.gather(self._starts, rows), tf.gather(self._starts, rows + 1))
        at, row = spans.flat_values, spans.value_rowids()
        pairs = tf.sparse.SparseTensor(
            tf.stack([row, tf.gather(self._tokens, at)], 1),
            tf.gather(self._weights, at),
            tf.stack([spans.nrows(), tf.shape(table, tf.int64)[0]]),
        )
        return tf.sparse.sparse_dense_matmul(pairs, table)


def embeddings(name: str, rows: int, columns: int, rng: np.random.Generator) -> Any:
    """A table `[rows, columns]` near 0."""
    return tf.Variable(rng.normal(0, _DEVIATION, (rows, columns)).astype(np.float32), name=name)
