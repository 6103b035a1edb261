"""The unlearned order of candidates: what ranks them until a ranker is there, and when it is not."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from core.candidates import Candidates
from core.columns import Array


def blend(candidates: Candidates, weights: Mapping[str, float]) -> Array:
    """Weighted sum of every source's scores, each divided by its greatest among the candidates: float32 `[n]`.

    A source without a weight, or without evidence for any candidate, adds nothing.

    >>> two = np.array([[4.0, 0.0], [1.0, 0.5]], np.float32)
    >>> blend(Candidates(np.array([3, 8]), ("a", "b"), two, np.zeros((2, 2), np.int32)), {"a": 1.0, "b": 0.5})
    array([1.  , 0.75], dtype=float32)
    """
    weight = np.array([weights.get(name, 0.0) for name in candidates.sources], np.float64)
    return np.asarray(relative(candidates.scores) @ weight, np.float32)


def parts(candidates: Candidates, weights: Mapping[str, float]) -> Array:
    """What each source adds to the blended score of each candidate, float64 `[n, S]`: a row adds up to the score (to rounding)."""
    return relative(candidates.scores) * np.array([weights.get(name, 0.0) for name in candidates.sources], np.float64)


def relative(scores: Array) -> Array:
    """Scores float32 `[n, S]` divided by the greatest of each column, float64 `[n, S]`; a column without a positive score is 0."""
    top = scores.max(axis=0, initial=0.0).astype(np.float64)
    return np.asarray(np.divide(scores, top, out=np.zeros(scores.shape), where=top > 0))
