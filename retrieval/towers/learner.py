"""Passes over the events of one fold: rows dealt by stream.py, the loss of model.py, the steps of optimizer.py."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import tensorflow as tf

from core.columns import Array
from core.config import TowersConfig
from core.prepared import Interactions
from retrieval.towers.loss import log_expected
from retrieval.towers.model import Towers
from retrieval.towers.noise import generator
from retrieval.towers.optimizer import RowAdam
from retrieval.towers.stream import Rows, Stream

_REPEAT_HORIZON: Final = 50
_WARM_UP: Final = 50  # steps


class Learner:
    """Passes over events, one optimizer through all passes over the same ones. TensorFlow traces the pass once."""

    def __init__(self, towers: Towers, config: TowersConfig, *, fresh: bool, clock: bool) -> None:
        c, self._towers, self._config, self._fresh, self._clock = config, towers, config, fresh, clock
        self._horizon = c.horizon or (1 if fresh else _REPEAT_HORIZON)
        self._targets, self.size = min(c.targets, self._horizon), c.batch_events // c.events
        self._variables = towers.trainable_variables
        self.adam = RowAdam(self._variables)
        row, target = [None, c.events], [None, c.events, self._targets]
        rows = [
            *(tf.TensorSpec(row, tf.int32) for _ in range(4)),
            tf.TensorSpec(target, tf.int32),
            tf.TensorSpec(target),
        ]
        self._pass = tf.function(self._steps, input_signature=[tf.TensorSpec([None]), *rows])

    def take(self, events: Interactions, phase: int) -> None:
        """From now on learn from these events, with a fresh optimizer and the chance of `phase`."""
        self._stream = Stream(
            events,
            length=self._config.events,
            targets=self._targets,
            horizon=self._horizon,
            fresh=self._fresh,
            clock=self._clock,
        )
        self._phase = phase
        self.adam.reset()

    def epoch(self, number: int, begin: float = 1.0, end: float = 1.0) -> float:
        """Pass `number`, from 1, from `begin` to `end` of the learning rate (the very first steps are gentler). The mean loss."""
        rng = generator(self._config.seed, self._phase, number)
        rows, done = self._stream.epoch(rng), int(self.adam.step.numpy())
        steps = -(-len(rows.item) // self.size)
        if not done:
            self._calibrate(rows)
        gentle = np.minimum(1, (done + 1 + np.arange(steps)) / _WARM_UP)
        rates = self._config.learning_rate * gentle * np.linspace(begin, end, steps)
        self._towers.noise.begin(rng)
        return self.steps(rates.astype(np.float32), rows)

    def steps(self, rates: Array, rows: Rows) -> float:
        """One step at each of the learning rates float32 `[s]`, on as many batches of `rows`. The mean loss."""
        inputs = (rows.item, rows.type, rows.gap, rows.segment, rows.target, rows.weight)
        return float(self._pass(tf.constant(rates), *map(tf.constant, inputs)))

    def _calibrate(self, rows: Rows) -> None:
        """Tell the loss which items there are and how often each is in a pool."""
        n, uniform = self._towers.shape.items, self._config.uniform_negatives
        frequency = np.bincount(self._stream.items, minlength=n) / max(len(self._stream), 1)
        batches = [slice(a, a + self.size) for a in range(0, len(rows.item), self.size)]
        distinct = np.mean(
            [len(np.union1d(rows.item[b][rows.segment[b] >= 0], rows.target[b][rows.weight[b] > 0])) for b in batches]
        )
        known = frequency > 0
        self._towers.know(known, log_expected(frequency, float(distinct), known, uniform))

    def _steps(self, rates: Any, *rows: Any) -> Any:
        total = 0.0
        for step in tf.range(tf.size(rates)):
            batch = tuple(t[step * self.size : (step + 1) * self.size] for t in rows)
            with tf.GradientTape() as tape:
                loss = self._towers.compute_loss(batch)
            self.adam.apply(tape.gradient(loss, self._variables), rates[step])
            self._towers.noise.step()
            total += loss
        return total / tf.cast(tf.size(rates), tf.float32)
