"""How unlike the ranker's inputs are in the release and in the twin that it was judged with (design 5).

The ranker is published as it was judged, over sources that were refitted up to the end of the data. What retrieval tells it are ranks and scores of
each request over their greatest, which the refit must not move. Here both answer the same people, each at its own moment, and every feature that
comes from retrieval is held against its other self by the Kolmogorov-Smirnov distance of its values.

What was popular in the last days is left out: nothing of it is learned, and two weeks differ by themselves (one much-wanted item makes all other
shares small), which the ranker has met at every moment of its window.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from core.columns import Array
from core.config import PipelineConfig
from core.prepared import Prepared
from core.threads import one_thread
from pipeline.candidates import Past
from pipeline.gates import Verdict
from ranking.feature_list import AGREE, LATE, NAMES, RANKS, SCORES
from retrieval.sources.recent_popularity import RecentPopularity
from serving.release import Release

COMPARED: Final = tuple(
    f.name for f in (*SCORES, *RANKS, *LATE, *AGREE) if not f.name.startswith(f"{RecentPopularity.name}.")
)
_PEOPLE: Final = 300
_FEWEST: Final = 30


@one_thread()
def shifts(twin: Path, release: Path, prepared: Prepared, config: PipelineConfig) -> dict[str, float]:
    """Feature -> distance 0 to 1. Empty where either has no ranker, or too few people have a history."""
    opened = [Release.open(path) for path in (twin, release)]
    if any(r.table is None for r in opened):
        return {}
    pasts = [Past.after(r, prepared, config) for r in opened]
    people = _people(prepared, opened[0].window_end, config)
    if len(people) < _FEWEST:
        return {}
    rows = [
        np.concatenate([past.features(*past.query(user, r.window_end))[1] for user in people])
        for past, r in zip(pasts, opened, strict=True)
    ]
    return {NAMES[i]: round(distance(rows[0][:, i], rows[1][:, i]), 4) for i in map(NAMES.index, COMPARED)}


def verdict(found: dict[str, float], config: PipelineConfig) -> list[Verdict]:
    """What the gate says of them."""
    most = config.gates.input_shift
    if most is None or not found:
        return []
    name = max(found, key=lambda n: found[n])
    reason = f"most of all {name}: KS {found[name]:.2f} between twin and release, refused beyond {most:g}"
    return [Verdict("ranker-inputs", found[name] <= most, reason, found[name], most)]


def distance(a: Array, b: Array) -> float:
    """Kolmogorov-Smirnov: the greatest difference of the distribution functions of two samples, float `[n]` and `[m]`."""
    values = np.concatenate([a, b])
    one, other = (np.searchsorted(np.sort(x), values, side="right") / len(x) for x in (a, b))
    return float(np.abs(one - other).max())


def _people(prepared: Prepared, until: int, config: PipelineConfig) -> list[int]:
    """Some who were known at `until`: a seeded sample."""
    histories = prepared.histories(config.sources.history_events)
    order = np.random.default_rng(config.evaluation.seed).permutation(histories.users).tolist()
    found: list[int] = []
    for user in order:
        if len(histories.before(user, until)):
            found.append(user)
        if len(found) == _PEOPLE:
            break
    return found
