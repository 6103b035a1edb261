"""What a label is worth to the shop: the gain alone, or blended with the price or the margin of what was chosen.

A grade g of an item of relative worth v (1: the median of what people chose) becomes

    ceil(g * ((1 - share) + share * min(v, cap)) / ((1 - share) + share * cap)),  at least 1 where g is

so that share 0 leaves every grade as it is, share 1 counts worth alone, no currency matters, and one dear item cannot outweigh all others.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from core.columns import Array
from core.config import ObjectiveConfig
from ranking.train import GRADES, TrainingSet

_AT: Final = 10


def rewarded(rows: TrainingSet, objective: ObjectiveConfig) -> TrainingSet:
    """`rows` with the grades that a ranker of this objective learns from; the very same rows where gains alone count, or no worth is known."""
    if objective.share == 0 or rows.worths is None:
        return rows
    return replace(rows, grades=grades_of(rows.grades, rows.worths, objective))


def grades_of(grades: Array, worths: Array, objective: ObjectiveConfig) -> Array:
    """Grades int8 `[r]` of 0 to GRADES and relative worths float `[r]` as the new grades, int8 `[r]`."""
    share, cap = objective.share, objective.cap
    factor = (1 - share) + share * np.clip(worths.astype(np.float64), 0.0, cap)
    raised = np.ceil(grades * factor / ((1 - share) + share * cap) - 1e-6)
    return np.where(grades > 0, np.clip(raised, 1, GRADES), 0).astype(np.int8)


def worth_at_10(rows: TrainingSet, scores: Array) -> float | None:
    """What the ten best of each request are worth to the shop by `scores` float64 `[r]`: the sum of relative worth times gain, mean over all requests.

    In worths of the median item chosen; requests that were dropped for want of a relevant candidate count as 0. None where no worth is known.
    """
    if rows.worths is None:
        return None
    return float(request_worth(rows, rows.worths, scores).sum() / max(len(rows) + rows.dropped, 1))


def request_worth(rows: TrainingSet, worths: Array, scores: Array) -> Array:
    """What `worth_at_10` is the mean of, for each request that was not dropped, float64 `[q]`. `worths`: of each row, float `[r]`."""
    queries = np.repeat(np.arange(len(rows)), rows.sizes)
    order = np.lexsort((-scores, queries))
    place = np.arange(len(order)) - np.repeat(np.cumsum(rows.sizes) - rows.sizes, rows.sizes)
    top = order[place < _AT]
    return np.bincount(queries[top], rows.grades[top] / GRADES * worths[top], minlength=len(rows))
