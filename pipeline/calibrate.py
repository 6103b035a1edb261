"""From the ranker's scores to probabilities (ranking/calibration.py): fitted on the validation window, measured again on the test window.

The candidates are all that the sources propose, unsampled; requests for which retrieval found nothing relevant count too, since nobody knows that of a
request that is asked now. What is predicted is a gain within as long a window as the one that validated the ranker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import numpy as np

from core.columns import Array
from core.config import PipelineConfig
from core.prepared import Fold, Prepared
from core.schema import Column
from core.threads import one_thread
from pipeline.candidates import Past
from pipeline.requests import Requests, requests_after
from ranking.calibrating import Outcomes, calibrated, curve, probabilities, reliability
from ranking.calibration import Calibration
from serving.levels import level_of
from serving.release import Release

WINDOW: Final = (
    "window_us"  # in `about`: how long after the cut a gain counts; 0 where the window is each person's next event
)
_MEASURED: Final = 500  # requests of the test window

Score = Callable[[Array], Array]


def calibrate(past: Past, fold: Fold, requests: Requests, score: Score, config: PipelineConfig) -> Calibration | None:
    """Fit to requests that `score` has not learned from, a quarter of `ranker.requests` at most; None where nothing came of any candidate.

    Args:
        past: The shop as of `fold`.
        fold: Whose window the requests are of.
        requests: A seeded sample of them is answered.
        score: float32 `[n, F]` -> float64 `[n]`: a ranker grown from other requests, which scores as the published one does.
        config: For the sample's size and seed.
    """
    outcomes = outcomes_of(past, sampled(requests, config.ranker.requests // 4, config.ranker.seed), score)
    if outcomes.gained.all() or not outcomes.gained.any():
        return None
    found = calibrated(outcomes, config.ranker.seed)
    return replace(found, about={**found.about, "method": found.method, WINDOW: window(past.prepared, fold)})


def judged(release: Release, prepared: Prepared, fold: Fold, config: PipelineConfig) -> dict[str, Any] | None:
    """How well a release's probabilities fit what followed `fold` (`ranking.calibrating.reliability`), as a whole and by level; None without any.

    Requests are made as those that it was fitted on, and a gain counts within as long a window, or to the end of the data.
    """
    calibration = None if release.scorer is None else release.scorer.calibration
    if release.scorer is None or calibration is None:
        return None
    requests = requests_after(prepared, fold, config.ranker)
    if length := int(calibration.about.get(WINDOW, 0)):
        requests = until(requests, prepared, prepared.until(fold) + length)
    past = Past.after(release, prepared, config)
    outcomes = outcomes_of(past, sampled(requests, _MEASURED, config.ranker.seed), release.scorer.score)
    if not len(outcomes.scores):
        return None
    of = {level: outcomes.levels == level for level in np.unique(outcomes.levels).tolist()}
    parts = {level: outcomes.only(mine) for level, mine in of.items()}
    probability = probabilities(calibration, outcomes)
    return {
        "method": calibration.method,
        **reliability(outcomes, probability),
        "curve": curve(outcomes, probability),
        "levels": {
            level: reliability(part, probabilities(calibration, part))
            for level, part in parts.items()
            if len(part.scores)
        },
    }


def window(prepared: Prepared, fold: Fold) -> int:
    """Microseconds from the cut of `fold` to the next one; 0 for protocol `last`, where each person's window is an event of their own."""
    if fold.protocol == "last":
        return 0
    cuts = prepared.cuts
    return (cuts.validation, cuts.test, cuts.end, cuts.end)[fold.below - 1] - prepared.until(fold)


def until(requests: Requests, prepared: Prepared, end: int) -> Requests:
    """The requests that something followed before `end`, microseconds, and that alone."""
    times = prepared.events.numbers(Column.TIME)
    stop = np.array(
        [
            start + np.searchsorted(times[start:stop], end)
            for start, stop in zip(requests.start.tolist(), requests.stop.tolist(), strict=True)
        ],
        np.int64,
    )
    return replace(requests, stop=stop).only(np.flatnonzero((requests.time < end) & (stop > requests.start)))


def sampled(requests: Requests, most: int, seed: int) -> Requests:
    """At most so many of the requests, left to chance."""
    return requests.only(np.random.default_rng(seed).permutation(len(requests))[:most])


@one_thread()
def outcomes_of(past: Past, requests: Requests, score: Score) -> Outcomes:
    """Every candidate of `requests` with its score and whether anything came of it; requests that only seen items followed are left out."""
    scores, gained = [np.empty(0)], [np.empty(0, bool)]
    levels, people = [], []
    for user, time, start, stop in zip(
        *(a.tolist() for a in (requests.user, requests.time, requests.start, requests.stop)), strict=True
    ):
        query, excluded = past.query(user, time)
        wanted, _ = past.relevant(start, stop, excluded)
        if not len(wanted):
            continue
        candidates, rows = past.features(query, excluded)
        scores.append(score(rows))
        gained.append(np.isin(candidates.rows, wanted))
        levels.append(str(level_of(query, past.config.sources.warm_events, past.sources)))
        people.append(user)
    sizes = np.array([len(s) for s in scores[1:]], np.int32)
    return Outcomes(
        np.concatenate(scores), np.concatenate(gained), sizes, np.array(levels, str), np.array(people, np.int32)
    )
