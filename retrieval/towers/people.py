"""What people say of themselves, in training: embeddings of their attributes, which the query tower adds to what it read in the history.

In training some positions do without the attributes, so that histories alone stay understood, and some without the history, so that attributes
alone learn to ask for something: dropout of whole inputs, as in Volkovs, Yu, Poutanen: DropoutNet (NIPS 2017), section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import tensorflow as tf

from core.columns import Array
from core.tokens import Bags, look_up
from retrieval.towers.noise import Noise
from retrieval.towers.sums import BagSums, embeddings

Tensor = Any
_SILENT: Final = 0.3  # share of the positions without attributes
_ALONE: Final = 0.1  # share without the history


@dataclass(frozen=True)
class People:
    """What the towers know of the attributes of everybody."""

    tokens: Array  # uint64 [v], sorted hashes
    content: tuple[Array, Array, Array]  # person row int64, token row int64, weight float32; by person
    n: int  # people

    @classmethod
    def of(cls, bags: Bags, tokens: Array) -> People:
        """The known `tokens` of the `bags`; those of a person share the length 1, as in retrieval.person_tower."""
        rows, at, _ = look_up(bags, tokens)
        counts = np.bincount(rows, minlength=len(bags))
        return cls(tokens, (rows, at, (1 / np.sqrt(counts[rows])).astype(np.float32)), len(bags))


class PersonTower(tf.keras.layers.Layer):
    """Sum of the embeddings of a person's tokens over the root of their number; 0 for somebody of whom none is known."""

    def __init__(self, people: People, dimensions: int, rng: np.random.Generator, noise: Noise) -> None:
        super().__init__(name="person_tower")
        self.tokens = people.tokens
        self.token = embeddings("person_token", len(people.tokens), dimensions, rng)
        self._sums, self._n = BagSums(people.content, people.n + 1), people.n  # the last row is nobody
        self._told = tf.constant(np.bincount(people.content[0], minlength=people.n + 1) > 0)
        self._chance = noise.uniform()

    def call(self, people: Tensor, training: bool = False) -> tuple[Tensor, Tensor]:
        """Rows int32 `[b, l]` (negative: nobody) -> vectors float32 `[b, l, d]`, and float32 `[b, l, 1]`: 0 where the history must not be read."""
        rows = tf.where(people < 0, self._n, people)
        distinct, place = tf.unique(tf.reshape(rows, [-1]))
        vectors = tf.reshape(
            tf.gather(self._sums(distinct, self.token), place), [*tf.unstack(tf.shape(rows)), self.token.shape[1]]
        )
        heard = tf.ones_like(vectors[:, :, :1])
        if training:
            chance = self._chance(tf.shape(rows))[:, :, None]
            vectors = tf.where(chance < _SILENT, 0.0, vectors)
            alone = tf.logical_and(chance > 1 - _ALONE, tf.gather(self._told, rows)[:, :, None])
            heard = tf.where(alone, 0.0, heard)
        return vectors, heard
