"""The request path, stage by stage. Every candidate ends in exactly one place: on the page, below it, or removed with a reason."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np

from core.candidates import Candidates, Source, gather, listed
from core.columns import Array
from core.history import Query
from core.release import ReleaseSettings
from ranking.blend import blend
from ranking.features import matrix
from serving.release import Release

TRENDING: Final = "trending"
FILL: Final = "fill"
LISTED: Final = "list"  # an item of the caller's list that no source speaks for
_NONE: Final = np.empty(0, np.int32)


class Level(StrEnum):
    """Which rung of the fallback ladder answered (design 8)."""

    WARM = "warm"
    SHORT = "short-history"
    CONTEXT = "context"
    POPULAR = "popular"


class Removal(StrEnum):
    """Why a candidate is not on the page."""

    UNAVAILABLE = "unavailable"
    BELOW = "below-page"


@dataclass(frozen=True)
class Request:
    """What is asked, in rows."""

    query: Query
    k: int
    excluded: Array = field(default_factory=lambda: _NONE)  # item rows never to return
    exclude_seen: bool = False  # nor anything of the person's history
    fill: bool = True  # complete the page with popular items that nothing speaks for
    trending: Array = field(default_factory=lambda: _NONE)  # item rows, best first, preferred for that; offline none
    lead: int = 0  # how many of them may begin the page of somebody of whom nothing is known

    @property
    def never(self) -> Array:
        """Every item row that is not to be returned: excluded, on the page already, or the person's own; int32 ascending."""
        parts = [self.excluded, self.query.context]
        if self.exclude_seen:
            parts.append(self.query.history.items[self.query.history.gains > 0])
        return np.unique(np.concatenate(parts)).astype(np.int32)


@dataclass(frozen=True)
class Answer:
    """A page, and what became of every candidate."""

    rows: Array  # int32 [m], best first, m = k unless the catalogue is smaller
    scores: Array  # float32 [m], descending; what leads or fills the page carries finite scores above or below every candidate's
    sources: tuple[str, ...]  # [m] the source that speaks most for each item; where none does "trending" or "fill"
    level: Level
    candidates: Candidates
    removed: dict[Removal, Array]
    features: Array | None = None  # float32 [candidates, F], the ranker's matrix; None where the blend ranked
    every: Array = field(default_factory=lambda: np.empty(0))  # float [candidates]: the score of each


def answer(release: Release, request: Request, sources: tuple[Source, ...] | None = None) -> Answer:
    """Run every stage in order. `sources` narrows the release's own (a baseline is the path with one source)."""
    sources = release.sources if sources is None else sources
    settings, query = release.settings, request.query
    excluded = request.never

    candidates = gather(sources, quotas_of(settings, sources, request.k), query, excluded)
    kept, removed = _available(release, candidates)
    features = _features(release, query, candidates)
    every = _scores(release, candidates, features)
    scores = every[kept]
    order = _best_first(candidates.rows[kept], scores)
    rung = level(release, query)
    lead = _first(release, request.trending, request.lead if rung is Level.POPULAR else 0, excluded)
    if len(lead):
        order = order[~np.isin(candidates.rows[kept[order]], lead)]
    places = request.k - len(lead)
    page = kept[order[:places]]
    removed[Removal.BELOW] = candidates.rows[kept[order[places:]]]

    missing = places - len(page) if request.fill else 0
    fill, trending = _fill(release, request.trending, missing, np.concatenate([candidates.rows, excluded, lead]))
    highest, lowest = (float(scores.max()), float(scores.min())) if len(scores) else (0.0, 0.0)
    above = highest + np.arange(len(lead), 0, -1, dtype=np.float32)
    below = lowest - 1 - np.arange(len(fill), dtype=np.float32)
    return Answer(
        rows=np.concatenate([lead, candidates.rows[page], fill]),
        scores=np.concatenate([above, scores[order[:places]], below]).astype(np.float32),
        sources=(
            *(TRENDING for _ in lead),
            *_speakers(candidates, page, settings.weights),
            *(TRENDING if at < trending else FILL for at in range(len(fill))),
        ),
        level=rung,
        candidates=candidates,
        removed=removed,
        features=features,
        every=every,
    )


def rank(release: Release, query: Query, rows: Array) -> Answer:
    """Order the caller's own item rows (int32, ascending, distinct): nothing is added and nothing is removed."""
    settings = release.settings
    candidates = listed(release.sources, settings.quotas, query, rows)
    features = _features(release, query, candidates)
    scores = _scores(release, candidates, features)
    order = _best_first(candidates.rows, scores)
    return Answer(
        rows=candidates.rows[order],
        scores=scores[order].astype(np.float32),
        sources=_speakers(candidates, order, settings.weights),
        level=level(release, query),
        candidates=candidates,
        removed={},
        features=features,
        every=scores,
    )


def quotas_of(settings: ReleaseSettings, sources: tuple[Source, ...], k: int) -> dict[str, int]:
    """How many candidates each source is asked for: ranking wants several for each of the k places, also of a very long page."""
    if len(sources) == 1:
        return {sources[0].name: max(settings.candidates, k)}
    factor = max(1.0, settings.candidates_per_place * k / settings.candidates)
    return {name: round(quota * factor) for name, quota in settings.quotas.items()}


def level(release: Release, query: Query) -> Level:
    """The rung that a query stands on: how much is known of the person, else of the page."""
    return level_of(query, release.settings.warm_events)


def level_of(query: Query, warm_events: int) -> Level:
    """The same, where so many successes make a person warm."""
    successes = int(np.count_nonzero(query.history.gains > 0))
    if successes >= warm_events:
        return Level.WARM
    if successes:
        return Level.SHORT
    return Level.CONTEXT if len(query.context) else Level.POPULAR


def _features(release: Release, query: Query, candidates: Candidates) -> Array | None:
    """What the ranker reads, where there is one that knows the sources that spoke: float32 `[n, F]`."""
    if release.scorer is None or release.table is None or len(candidates.sources) != len(release.sources):
        return None
    return matrix(query, candidates, release.table, release.sources)


def _scores(release: Release, candidates: Candidates, features: Array | None) -> Array:
    """The ranker's scores, else the unlearned blend's: float `[n]`."""
    if release.scorer is not None and features is not None:
        return release.scorer.score(features)
    alone = dict.fromkeys(candidates.sources, 1.0)
    return blend(candidates, release.settings.weights if len(alone) > 1 else alone)


def _available(release: Release, candidates: Candidates) -> tuple[Array, dict[Removal, Array]]:
    ok = release.available[candidates.rows]
    return np.flatnonzero(ok), {Removal.UNAVAILABLE: candidates.rows[~ok]}


def _best_first(rows: Array, scores: Array) -> Array:
    """Positions by falling score; ties by row; a NaN never takes a slot before a number."""
    return np.lexsort((rows, -np.where(np.isnan(scores), -np.inf, scores)))


def _fill(release: Release, trending: Array, missing: int, taken: Array) -> tuple[Array, int]:
    """Available items that are not `taken`: those of `trending`, how many these are, then the most popular."""
    if missing <= 0:
        return _NONE, 0
    first = _first(release, trending, missing, taken)
    rest = _first(release, release.fill, missing - len(first), np.concatenate([taken, first]))
    return np.concatenate([first, rest]), len(first)


def _first(release: Release, order: Array, n: int, taken: Array) -> Array:
    """The first n rows of `order` that are available and not `taken`."""
    if n <= 0 or not len(order):
        return _NONE
    for reach in (n + len(taken), len(order)):
        rows = order[:reach]
        rows = rows[release.available[rows] & ~np.isin(rows, taken)]
        if len(rows) >= n:
            break
    return rows[:n]


def _speakers(candidates: Candidates, page: Array, weights: dict[str, float]) -> tuple[str, ...]:
    """For each item the source whose weighted, normalised score is highest among those that proposed it; LISTED where none did."""
    if not len(page):
        return ()
    top = candidates.scores.max(axis=0, initial=0)
    weight = np.array([weights.get(s, 0.0) for s in candidates.sources], np.float32)
    part = candidates.scores[page] / np.where(top > 0, top, 1) * weight
    part = np.where(candidates.ranks[page] >= 0, part, -1)
    spoken = np.asarray((candidates.ranks[page] >= 0).any(axis=1))
    return tuple(
        candidates.sources[s] if ok else LISTED for s, ok in zip(part.argmax(axis=1).tolist(), spoken, strict=True)
    )
