"""Adam (Kingma & Ba 2015, algorithm 1) whose sparse updates touch only the rows that a batch touched, moments included (as in LazyAdam)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

Tensor = Any


class RowAdam(tf.Module):
    """Adam over `variables`; a gradient that is `tf.IndexedSlices` updates its rows only, at a cost that does not depend on the table's size.

    tf_keras' own Adam decays the moments of every row at every step: for a table of a million rows that is most of the training time.
    """

    def __init__(
        self,
        variables: Sequence[Any],
        decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.98,
        epsilon: float = 1e-8,
    ) -> None:
        super().__init__(name="adam")
        self.variables_ = list(variables)
        self._m = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]
        self._v = [tf.Variable(tf.zeros_like(v), trainable=False) for v in variables]
        self.step = tf.Variable(0.0, trainable=False)
        self._decay, self._beta1, self._beta2, self._epsilon = decay, beta1, beta2, epsilon

    def apply(self, gradients: Sequence[Tensor], rate: Tensor) -> None:
        """One step at learning rate `rate`; matrices also shrink by `rate * decay` (decoupled, Loshchilov & Hutter 2019)."""
        self.step.assign_add(1.0)
        rate = rate * tf.sqrt(1 - self._beta2**self.step) / (1 - self._beta1**self.step)
        for variable, m, v, gradient in zip(self.variables_, self._m, self._v, gradients, strict=True):
            if isinstance(gradient, tf.IndexedSlices):
                self._rows(variable, m, v, gradient, rate)
            elif gradient is not None:
                m.assign(self._beta1 * m + (1 - self._beta1) * gradient)
                v.assign(self._beta2 * v + (1 - self._beta2) * tf.square(gradient))
                shrink = self._decay * rate if len(variable.shape) > 1 else 0.0
                variable.assign(variable * (1 - shrink) - rate * m / (tf.sqrt(v) + self._epsilon))

    @property
    def state(self) -> list[Any]:
        """The number of steps and the moments."""
        return [self.step, *self._m, *self._v]

    def reset(self) -> None:
        """Forget the moments and the number of steps."""
        for variable in self.state:
            variable.assign(tf.zeros_like(variable))

    def _rows(self, variable: Any, m: Any, v: Any, gradient: Any, rate: Tensor) -> None:
        rows, at = tf.unique(gradient.indices)
        summed = tf.math.unsorted_segment_sum(gradient.values, at, tf.size(rows))
        new_m = self._beta1 * tf.gather(m, rows) + (1 - self._beta1) * summed
        new_v = self._beta2 * tf.gather(v, rows) + (1 - self._beta2) * tf.square(summed)
        m.scatter_update(tf.IndexedSlices(new_m, rows))
        v.scatter_update(tf.IndexedSlices(new_v, rows))
        step = rate * (new_m / (tf.sqrt(new_v) + self._epsilon) + self._decay * tf.gather(variable, rows))
        variable.scatter_sub(tf.IndexedSlices(step, rows))
