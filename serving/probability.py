"""What the calibrated ranker says of the items of a page, beside the order that its scores make."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from core.columns import Array
from serving.answers import FILL, NEW, TRENDING, Answer
from serving.release import Release

_UNSCORED = (
    TRENDING,
    FILL,
    NEW,
)  # lead or fill a page, or are on it for being new, and carry scores that no model gave


def probabilities(release: Release, page: Answer) -> list[float | None]:
    """How likely it is that something comes of each item of the page, `[m]`; None where no calibrated ranker scored it."""
    calibration = _calibration(release, page)
    if calibration is None:
        return [None] * len(page.rows)
    found = calibration(page.scores, page.level).tolist()
    return [None if source in _UNSCORED else p for p, source in zip(found, page.sources, strict=True)]


def probability(release: Release, page: Answer, score: float) -> float | None:
    """The same of any candidate of the answer, by its score."""
    calibration = _calibration(release, page)
    return None if calibration is None else float(calibration(np.array([score]), page.level)[0])


def _calibration(release: Release, page: Answer) -> Callable[[Array, str], Array] | None:
    """What the scores of a page mean; None where no calibrated ranker gave them."""
    return None if not page.calibrated or release.scorer is None else release.scorer.calibration
