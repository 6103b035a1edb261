"""The query tower against simpler and older encoders, on the validation window: same loss, same items, same budget.

    python -m benchmarks.encoders --work WORK [--fold choose] [--seeds 3] [--config F]

attention   the shipped one: attention over the recency-weighted average
pooled      that average alone (`blocks: 0`)
recurrent   a gated recurrent unit (Cho et al., EMNLP 2014; for sessions Hidasi et al., GRU4Rec, ICLR 2016), begun anew for each person

Each learns from everything known at the fold and is judged after each epoch by what its people chose next (never after T2); the figures are those of
the best epoch by recall@100. The last line of output is JSON: for each encoder its figures by seed, mean and 95 % interval (Student's t over seeds).
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf
from scipy import stats

from core.columns import Array
from core.config import PipelineConfig, load_pipeline
from core.prepared import CHOOSE, LAST_TRAIN, TRAIN, Fold, Prepared
from core.work import Work
from pipeline.tune import Judged
from retrieval.towers import validate
from retrieval.towers.inputs import GAP_BUCKETS
from retrieval.towers.model import Feed, Shape, Towers
from retrieval.towers.noise import Noise

FOLDS = {f.name: f for f in (TRAIN, CHOOSE, LAST_TRAIN)}
_TYPES = 16  # at least as many as there are event types
_K = 10
_NO_CLOCK = 1e9  # seconds: patience alone ends a fit, so that a busy machine does not change the figures

Tensor = Any


class Recurrent(tf.keras.layers.Layer):
    """In place of QueryTower: the same inputs, the same feed-forward step after it, a gated recurrent unit between."""

    def __init__(self, shape: Shape, noise: Noise) -> None:
        super().__init__(name="query_tower")
        d = shape.dimensions
        self.type = tf.Variable(np.zeros((_TYPES, d), np.float32), name="type")
        self.gap = tf.Variable(np.zeros((GAP_BUCKETS, d), np.float32), name="gap")
        self._inputs = tf.keras.layers.Dense(3 * d)
        self._gates = tf.keras.layers.Dense(2 * d, use_bias=False, kernel_initializer="orthogonal")
        self._new = tf.keras.layers.Dense(d, use_bias=False, kernel_initializer="orthogonal")
        self._feed, self._norm = Feed(shape, noise), tf.keras.layers.LayerNormalization(epsilon=1e-6)
        self._drop = noise.dropout(shape.dropout)

    def call(self, vectors: Tensor, type: Tensor, gap: Tensor, segment: Tensor, training: bool = False) -> Tensor:
        """As QueryTower.call: float32 `[b, l, d]`, int32 `[b, l]` -> unit vectors float32 `[b, l, d]`."""
        x = vectors * vectors.shape[2] ** 0.5 + tf.gather(self.type, type) + tf.gather(self.gap, gap)
        x = self._inputs(self._drop(x, training=training))
        same = tf.concat([tf.zeros_like(segment[:, :1]), tf.cast(segment[:, 1:] == segment[:, :-1], tf.int32)], 1)
        by_step = (tf.transpose(x, [1, 0, 2]), tf.transpose(tf.cast(same, tf.float32))[:, :, None])
        start = tf.zeros_like(vectors[:, 0])
        self._gates(start), self._new(start)  # Keras makes weights at the first call, which must not be inside the loop
        h = tf.transpose(tf.scan(self._step, by_step, start), [1, 0, 2])
        return tf.math.l2_normalize(self._norm(self._feed(h, training=training)), -1)

    def _step(self, h: Tensor, inputs: tuple[Tensor, Tensor]) -> Tensor:
        x, same = inputs
        h = h * same
        update, reset, new = tf.split(x, 3, -1)
        from_h = tf.split(self._gates(h), 2, -1)
        update, reset = tf.sigmoid(update + from_h[0]), tf.sigmoid(reset + from_h[1])
        return update * h + (1 - update) * tf.tanh(new + self._new(reset * h))


class RecurrentTowers(Towers):
    """Towers that read histories with `Recurrent`."""

    encoder: ClassVar[type[tf.keras.layers.Layer]] = Recurrent


class JudgedFit(Judged):
    """Also keeps HR@10 of every epoch."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.hits: list[float] = []

    def ranked(self, asked: validate.Requests) -> Array:
        """The ranking, with its HR@10 kept."""
        best = super().ranked(asked)
        hits = [np.isin(row[:_K], wanted).any() for row, wanted in zip(best, asked.relevant, strict=True)]
        self.hits.append(float(np.mean(hits)))
        return best


class RecurrentFit(JudgedFit):
    """The fit with the other encoder."""

    model: ClassVar[type[Towers]] = RecurrentTowers


ENCODERS: dict[str, tuple[type[JudgedFit], dict[str, int]]] = {
    "attention": (JudgedFit, {}),
    "pooled": (JudgedFit, {"blocks": 0}),
    "recurrent": (RecurrentFit, {}),
}


def compare(prepared: Prepared, fold: Fold, config: PipelineConfig, seeds: int) -> dict[str, Any]:
    """Every encoder with every seed, seeds outermost, so that a busy hour meets all of them."""
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ENCODERS}
    for seed in range(config.towers.seed, config.towers.seed + seeds):
        for name, (kind, over) in ENCODERS.items():
            towers = config.towers.model_copy(update={**over, "seed": seed, "seconds": _NO_CLOCK})
            began, cpu = time.monotonic(), time.process_time()
            fit = kind(prepared, fold, config.model_copy(update={"towers": towers}), lambda _: None)
            progress = fit.judged()
            found = {
                "recall@100": round(progress.best, 4),
                "hit@10": round(fit.hits[progress.best_at - 1], 4),
                "epochs": progress.best_at,
                "seconds": round(time.monotonic() - began, 1),
                "cpu_seconds": round(time.process_time() - cpu, 1),
            }
            print(f"{name}, seed {seed}: {found}", flush=True)
            runs[name].append(found)
    return {
        name: {"runs": r, **{k: interval([f[k] for f in r]) for k in ("recall@100", "hit@10")}}
        for name, r in runs.items()
    }


def interval(values: list[float]) -> dict[str, float]:
    """Mean and half the width of its 95 % interval.

    >>> interval([0.1, 0.2, 0.3])  # deviation .1, t of 2 degrees of freedom 4.303: 4.303 * .1 / sqrt(3)
    {'mean': 0.2, 'plus_minus': 0.2484}
    """
    n = len(values)
    wide = stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n) if n > 1 else np.nan
    return {"mean": round(float(np.mean(values)), 4), "plus_minus": round(float(wide), 4)}


def main() -> None:
    """Compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--fold", choices=sorted(FOLDS), default=CHOOSE.name)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--config", type=Path)
    args = parser.parse_args()
    found = compare(
        Prepared(Work(args.work).latest("prepare")), FOLDS[args.fold], load_pipeline(args.config), args.seeds
    )
    print(json.dumps({"work": str(args.work), "fold": args.fold, **found}))


if __name__ == "__main__":
    main()
