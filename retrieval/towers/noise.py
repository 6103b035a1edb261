"""The chance in training (dropout, negatives, dropped ids) as a function of seed, pass and step alone.

TensorFlow's stateful generators cannot be saved half-way; with these a fit that was killed draws, when it goes on, what it would have drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import tensorflow as tf

Tensor = Any
_PLACES: Final = 64  # operations of one model that draw, at most


def generator(*where: int) -> np.random.Generator:
    """The numpy generator for a place in a fit, such as (seed, phase, pass)."""
    return np.random.default_rng(where)


class Noise(tf.Module):
    """Draws for the operations of one model: each has a place of its own, and all of them move on with `step`."""

    def __init__(self) -> None:
        super().__init__(name="noise")
        self._at = tf.Variable([0, 0], dtype=tf.int64, trainable=False)
        self._places = 0

    def begin(self, rng: np.random.Generator) -> None:
        """Begin a pass, told from others by a number that `rng` draws."""
        self._at.assign([int(rng.integers(2**62)), 0])

    def step(self) -> None:
        """Move on to the next batch."""
        self._at.assign_add(tf.constant([0, _PLACES], tf.int64))

    def dropout(self, rate: float) -> Callable[..., Tensor]:
        """A function of (x, training) that drops a share `rate` of the numbers of x, and scales the others up by as much (Srivastava et al., JMLR 2014)."""
        seed = self._place()

        def drop(x: Tensor, training: bool = False) -> Tensor:
            return tf.nn.experimental.stateless_dropout(x, rate, seed()) if training and rate else x

        return drop

    def uniform(self) -> Callable[[Tensor], Tensor]:
        """A function that draws float32 in [0, 1) of the shape it is given."""
        seed = self._place()
        return lambda shape: tf.random.stateless_uniform(shape, seed())

    def below(self) -> Callable[[int, Tensor], Tensor]:
        """A function that draws `n` int32 in [0, high) for (n, high)."""
        seed = self._place()
        return lambda n, high: tf.random.stateless_uniform([n], seed(), 0, high, tf.int32)

    def _place(self) -> Callable[[], Tensor]:
        mine = np.array([0, self._places], np.int64)
        self._places += 1
        if self._places > _PLACES:
            raise ValueError(f"more than {_PLACES} operations that draw")
        return lambda: self._at + mine
