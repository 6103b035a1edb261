"""Fits the towers of one fold: learn on its older part, stop by recall on its newest, then pass over the whole of it with a falling rate.

Cold, the number of epochs is chosen by recall@100 of the held-back part (validate.py). Warm (`warm_from`: towers of a window that ends no later),
only the final passes are made. Seeded: two runs on one machine give the same towers, unless the time budget ends one of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from core.columns import Array
from core.config import PipelineConfig
from core.prepared import Fold, Interactions, Prepared
from retrieval.towers import validate
from retrieval.towers.content import item_bags, look_up, vocabulary
from retrieval.towers.export import Facts, export, load_weights
from retrieval.towers.files import check_window
from retrieval.towers.inputs import Window
from retrieval.towers.loss import log_expected
from retrieval.towers.model import Shape, Towers
from retrieval.towers.optimizer import RowAdam
from retrieval.towers.stream import Rows, Stream

Say = Callable[[str], None]

_TOKEN_ITEMS = 2  # a token of fewer items says no more than their ids
_MOST_TOKENS = 50_000
_BUYS_AGAIN = 0.02  # share of repeats from which having an item does not rule it out (as `evaluation.seen: auto`)
_REPEAT_HORIZON = 50
_WARM_UP = 50  # steps
_LAST_RATE = 0.1  # of the learning rate, reached at the end of the final passes


def fit_towers(
    prepared: Prepared, fold: Fold, config: PipelineConfig, out: Path, say: Say, warm_from: Path | None = None
) -> None:
    """Fit the towers as of `fold` into the folder `out` (see export.py for what it then holds).

    Args:
        prepared: The data.
        fold: What may be known.
        config: `towers` and `evaluation.seen` are read.
        out: Made if it is not there.
        say: Progress for a person.
        warm_from: A folder that this function wrote for the same item rows and a window that ends no later than `fold`'s.
    """
    Fit(prepared, fold, config, say, warm_from).run(out)


class Fit:
    """One fold's fit."""

    def __init__(
        self, prepared: Prepared, fold: Fold, pipeline: PipelineConfig, say: Say, warm_from: Path | None
    ) -> None:
        self._prepared, self._fold, self._config, self._say = prepared, fold, pipeline.towers, say
        self._events, self._clock = prepared.interactions(fold), not prepared.synthetic_time
        self._fresh = _leaves_out_seen(prepared, pipeline)
        self._rng = np.random.default_rng(self._config.seed)
        tf.keras.utils.set_random_seed(self._config.seed)
        tf.config.experimental.enable_op_determinism()
        self._bags, n, c = item_bags(prepared.items), self._events.n_items, self._config
        self._tokens = vocabulary(self._bags, np.unique(self._events.item), _TOKEN_ITEMS, _MOST_TOKENS)
        content = look_up(self._bags, self._tokens)
        shape = Shape(n, len(self._tokens), c.dimensions, c.events, c.blocks, c.heads, c.dropout, c.id_dropout)
        unknown, rare = np.zeros(n, bool), np.zeros(n, np.float32)  # until the learner tells
        self.towers = Towers(shape, content, unknown, rare, c.uniform_negatives, self._rng)
        self._warm = warm_from is not None
        if warm_from is not None:
            check_window(warm_from, fold, self._events.until)
            load_weights(self.towers, self._tokens, warm_from)
        self._variables = self.towers.trainable_variables
        self._learner = Learner(self)

    def run(self, out: Path) -> None:
        """Learn and export."""
        start, c = time.monotonic(), self._config
        epochs, found = 0, None
        if not self._warm and len(self._events.item):
            older, newer = validate.hold_back(self._events, self._fold.protocol)
            epochs, found = self._until_it_stops(older, newer, start + 0.7 * c.seconds)
        if len(self._events.item):
            self._final(self._events, start + c.seconds)
        seconds = time.monotonic() - start
        known = self.towers.items.id_row.numpy() < self._events.n_items
        facts = Facts(
            fold=self._fold.name,
            protocol=self._fold.protocol,
            below=self._fold.below,
            prepared=self._prepared.manifest.id,
            until=self._events.until,
            clock=self._clock,
            epochs=epochs,
            validation_recall=found,
            config=c.fingerprint(),
        )
        export(self.towers, self._tokens, self._bags, facts, out)
        how = "warm" if self._warm else f"{epochs} epochs, recall@100 {found or 0:.3f} on the newest part"
        self._say(
            f"{self._fold.name}: towers of {known.sum():,} items learned from {len(self._events.item):,} events ({how}; {seconds:.0f} s)"
        )

    def _until_it_stops(self, older: Interactions, newer: Interactions, deadline: float) -> tuple[int, float]:
        """Epochs over `older` while recall of `newer` grows; leaves the best weights. The number of epochs that made them, and that recall."""
        c = self._config
        asked = validate.requests(older, newer, length=c.events, clock=self._clock, fresh=self._fresh, rng=self._rng)
        self._learner.take(older)
        best, best_at, kept = -1.0, 0, [v.numpy() for v in self._variables]
        for epoch in range(1, c.epochs + 1):
            began = time.monotonic()
            loss = self._learner.epoch()
            found = self._recall(asked) if asked.relevant else -loss
            self._say(
                f"{self._fold.name}: epoch {epoch}, loss {loss:.4f}, recall@100 {max(found, 0):.4f}, {time.monotonic() - began:.1f} s"
            )
            if found > best or epoch == 1:
                best, best_at, kept = found, epoch, [v.numpy() for v in self._variables]
            if epoch - best_at >= c.patience or 2 * time.monotonic() - began > deadline:
                break
        for variable, value in zip(self._variables, kept, strict=True):
            variable.assign(value)
        return best_at, max(best, 0.0)

    def _final(self, events: Interactions, deadline: float) -> None:
        """The passes over everything, at a rate that falls from `learning_rate` to a tenth of it."""
        self._learner.take(events)
        rates = np.linspace(1, _LAST_RATE, self._config.final_epochs + 1)
        for begin, end in pairwise(rates):
            began = time.monotonic()
            self._learner.epoch(float(begin), float(end))
            if 2 * time.monotonic() - began > deadline:
                break

    def _recall(self, asked: validate.Requests) -> float:
        vectors = self.vectors()
        allowed = self.towers.items.id_row.numpy() < len(vectors)
        return validate.recall(validate.ranked(asked, vectors, allowed, self._encoder(vectors), 100), asked.relevant)

    def vectors(self) -> Array:
        """Every item's vector float32 `[n, d]`."""
        n = self._events.n_items
        return np.concatenate([self.towers.items(tf.range(a, min(a + 65536, n))).numpy() for a in range(0, n, 65536)])

    @tf.function(reduce_retracing=True)
    def _encode(self, vectors: Any, type: Any, gap: Any, segment: Any) -> Any:
        return self.towers.query(vectors, type, gap, segment)[:, -1]

    def _encoder(self, vectors: Array) -> validate.Encode:
        def encode(w: Window) -> Array:
            out: Array = self._encode(
                tf.constant(vectors[w.item]), *map(tf.constant, (w.type, w.gap, w.segment))
            ).numpy()
            return out

        return encode


class Learner:
    """Passes over events, one optimizer through all passes over the same ones. TensorFlow traces the pass once."""

    def __init__(self, fit: Fit) -> None:
        c, self._fit = fit._config, fit
        self._horizon = c.horizon or (1 if fit._fresh else _REPEAT_HORIZON)
        self._targets, self._size = min(c.targets, self._horizon), c.batch_events // c.events
        self._adam = RowAdam(fit._variables)
        row, target = [None, c.events], [None, c.events, self._targets]
        rows = [
            *(tf.TensorSpec(row, tf.int32) for _ in range(4)),
            tf.TensorSpec(target, tf.int32),
            tf.TensorSpec(target),
        ]
        self._pass = tf.function(self._steps, input_signature=[tf.TensorSpec([None]), *rows])

    def take(self, events: Interactions) -> None:
        """From now on learn from these events, with a fresh optimizer."""
        c, fit = self._fit._config, self._fit
        self._stream = Stream(
            events, length=c.events, targets=self._targets, horizon=self._horizon, fresh=fit._fresh, clock=fit._clock
        )
        self._done = 0  # steps
        self._adam.reset()

    def epoch(self, begin: float = 1.0, end: float = 1.0) -> float:
        """One pass, from `begin` to `end` of the learning rate (the very first steps are gentler). The mean loss."""
        rows = self._stream.epoch(self._fit._rng)
        steps = -(-len(rows.item) // self._size)
        if not self._done:
            self._calibrate(rows)
        gentle = np.minimum(1, (self._done + 1 + np.arange(steps)) / _WARM_UP)
        rates = self._fit._config.learning_rate * gentle * np.linspace(begin, end, steps)
        self._done += steps
        inputs = (rows.item, rows.type, rows.gap, rows.segment, rows.target, rows.weight)
        return float(self._pass(tf.constant(rates, tf.float32), *map(tf.constant, inputs)))

    def _calibrate(self, rows: Rows) -> None:
        """Tell the loss which items there are and how often each is in a pool."""
        n, uniform = self._fit.towers.shape.items, self._fit._config.uniform_negatives
        frequency = np.bincount(self._stream.items, minlength=n) / max(len(self._stream), 1)
        batches = [slice(a, a + self._size) for a in range(0, len(rows.item), self._size)]
        distinct = np.mean(
            [len(np.union1d(rows.item[b][rows.segment[b] >= 0], rows.target[b][rows.weight[b] > 0])) for b in batches]
        )
        known = frequency > 0
        self._fit.towers.know(known, log_expected(frequency, float(distinct), known, uniform))

    def _steps(self, rates: Any, *rows: Any) -> Any:
        total = 0.0
        for step in tf.range(tf.size(rates)):
            batch = tuple(t[step * self._size : (step + 1) * self._size] for t in rows)
            with tf.GradientTape() as tape:
                loss = self._fit.towers.compute_loss(batch)
            self._adam.apply(tape.gradient(loss, self._fit._variables), rates[step])
            total += loss
        return total / tf.cast(tf.size(rates), tf.float32)


def _leaves_out_seen(prepared: Prepared, config: PipelineConfig) -> bool:
    """Whether pages leave out what a person already has, so that it is no target either (the rule of retrieval.fit.removes_seen)."""
    if config.evaluation.seen == "auto":
        return float(prepared.manifest.about["repeat_share"]) < _BUYS_AGAIN
    return config.evaluation.seen == "remove"
