"""Two orders of the same validation requests, held against one another."""

from __future__ import annotations

import numpy as np

from core.columns import Array
from core.config import EvaluationConfig
from evaluation.intervals import Interval, difference
from ranking.train import TrainingSet


def lift(ours: Array, theirs: Array, rows: TrainingSet, config: EvaluationConfig) -> Interval:
    """How far the mean of `ours` is above that of `theirs`, float64 `[q]` each on the requests of `rows`; a dropped request is 0 in both.

    The bootstrap draws people, where it is known whose each request is: what one person asks for at ten moments is much the same.
    """
    asked = len(rows) + rows.dropped
    people = np.arange(len(rows)) if rows.people is None else np.unique(rows.people, return_inverse=True)[1]
    sums = [np.bincount(people, values) for values in (ours, theirs)]
    sure = difference(*sums, samples=config.bootstrap_samples, confidence=config.confidence, seed=config.seed)
    return Interval(*(v * len(sums[0]) / asked for v in sure))
