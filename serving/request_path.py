"""The request path, stage by stage. Every candidate ends in exactly one place: on the page, below it, or removed with a reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

import numpy as np

from core.candidates import Candidates, Source, gather, listed
from core.columns import Array
from core.history import Query
from core.narrowed import narrowed
from core.release import ReleaseSettings
from ranking.blend import blend
from ranking.features import matrix
from serving.answers import FILL, LISTED, NEW, RULE, TRENDING, Answer, Removal, Request, Rest
from serving.deadline import Deadline, Step
from serving.exploration import Chance, Drawn, left_to_chance
from serving.failures import Failure
from serving.fill import fill_of, first_showable
from serving.levels import Level, level
from serving.release import Release
from serving.rules.arrange import Arranged, arrange
from serving.rules.bound import PageRules

_MOST_FILL: Final = 4_000  # popular items that are tried where caps hold back all others
_NONE: Final = np.empty(0, np.int32)


def answer(release: Release, request: Request, sources: tuple[Source, ...] | None = None) -> Answer:
    """Run every stage in order. `sources` narrows the release's own (a baseline is the path with one source)."""
    settings, query, excluded, deadline = release.settings, request.query, request.never, request.deadline
    reach, watch = max(request.k, request.list_size), request.watch
    candidates = _candidates(release, request, release.sources if sources is None else sources, reach, excluded)
    if watch is not None:
        watch.step("gather")
    kept, removed = _available(release, candidates)
    hurried = deadline is not None and release.scorer is not None and not deadline.ranks()
    features = None if hurried else _features(release, query, candidates)
    every = _scores(release, candidates, features)
    if deadline is not None:
        deadline.end(Step.RANK)
    if watch is not None:
        watch.step("rank")
    missed = None if deadline is None else deadline.missed
    rung = Level.POPULAR if missed is Failure.DEADLINE_POPULAR else level(release, query)
    least = 0.0 if features is None else request.least  # no probability without the ranker
    kept, removed[Removal.UNLIKELY] = _likely(release, least, candidates, every, rung, kept)
    scores = every[kept]
    ordered = kept[_best_first(scores)]
    lead = first_showable(
        release, request.trending, request.lead if rung is Level.POPULAR else 0, excluded, request.allowed
    )
    if len(lead):
        ordered = ordered[~np.isin(candidates.rows[ordered], lead)]

    def line_with(places: int) -> tuple[Array, int]:
        """All that could be on the page, `places` of it at least where there is so much, and how much of the fill trends."""
        missing, first = places - len(lead) - len(ordered) if request.fill else 0, candidates.rows[ordered]
        if missing <= 0:
            return np.concatenate([lead, first]) if len(lead) else first, 0
        fill, trending = fill_of(release, request, missing, np.concatenate([candidates.rows, excluded, lead]))
        return np.concatenate([lead, first, fill]), trending

    ranked = len(lead) + len(ordered)
    arranged: Arranged | None = None
    if request.rules is not None and request.rules.arranges:
        line, trending, arranged = _arranged(request, request.rules, line_with, ranked)
        page, after = arranged.page, arranged.rest
    else:
        line, trending = line_with(reach)
        page, after = np.arange(min(request.k, len(line))), np.arange(request.k, len(line))
    drawn: Drawn | None = None
    if request.chance is not None:
        drawn, arranged = _drawn(request.chance, release, request, excluded, line, page, arranged)
        line, page = drawn.line, drawn.page
    highest, lowest = (float(scores.max()), float(scores.min())) if len(scores) else (0.0, 0.0)
    above = highest + np.arange(len(lead), 0, -1, dtype=np.float32)
    below = lowest - 1 - np.arange(len(line) - ranked, dtype=np.float32)
    worth = np.concatenate([above, every[ordered], below])
    ends = (len(lead), ranked, ranked + trending)
    otherwise = RULE if request.only is None else LISTED

    def shown(places: Array) -> Rest:
        sources = _sources(candidates, ordered, settings.weights, places, ends, otherwise)
        return Rest(line[places], worth[places].astype(np.float32), sources)

    removed |= _left_over(line, ranked, page, arranged)
    first = shown(page)
    if watch is not None:
        watch.step("page")
    return Answer(
        rows=first.rows,
        scores=first.scores,
        sources=first.sources if drawn is None else _with_new(first.sources, drawn.new_at),
        level=rung,
        candidates=candidates,
        removed=removed,
        features=features,
        every=every,
        line=_NONE if arranged is None else line,
        arranged=arranged,
        rest=shown(after[: max(0, request.list_size - len(page))]) if request.list_size else None,
        calibrated=features is not None and is_calibrated(release),
        drawn=drawn,
        missed=missed,
    )


def _candidates(
    release: Release, request: Request, sources: tuple[Source, ...], reach: int, excluded: Array
) -> Candidates:
    """What the sources propose, and the rules; or the caller's own items, as far as these may be shown."""
    asked, deadline = sources if request.only is not None else narrowed(sources, request.allowed), request.deadline
    if deadline is not None:
        deadline.begin()
        asked = deadline.watched(asked)
    if request.only is None:
        quotas = quotas_of(release.settings, asked, reach)
        found = gather(asked, quotas, request.query, excluded, _wanted(request, excluded))
    else:
        rows = request.only[~np.isin(request.only, excluded)]
        rows = rows if request.allowed is None else rows[request.allowed[rows]]
        found = listed(asked, release.settings.quotas, request.query, rows)
    if deadline is not None:
        deadline.end(Step.SOURCES)
        deadline.gathered(len(found))
    return found


def is_calibrated(release: Release) -> bool:
    """Whether the release can say how likely it is that something comes of an item."""
    return release.table is not None and release.scorer is not None and release.scorer.calibration is not None


def _likely(
    release: Release, least: float, candidates: Candidates, every: Array, rung: Level, kept: Array
) -> tuple[Array, Array]:
    """Which of the positions `kept` reach the least probability, and the rows of the others."""
    if not least:
        return kept, _NONE
    assert release.scorer is not None and release.scorer.calibration is not None  # noqa: PT018 - the service asks first
    likely = release.scorer.calibration(every[kept].astype(np.float32), rung)
    enough = likely.astype(np.float32) >= np.float32(
        least
    )  # as answers state it: who asks for what one said keeps that item
    return kept[enough], candidates.rows[kept[~enough]]


def _wanted(request: Request, excluded: Array) -> Array:
    """Rows that are candidates because a rule wants them: int32."""
    if request.rules is None:
        return _NONE
    rows = request.rules.wanted
    rows = rows[~np.isin(rows, excluded)]
    return rows if request.filter is None else rows[request.filter[rows]]


def _arranged(
    request: Request, rules: PageRules, line_with: Callable[[int], tuple[Array, int]], ranked: int
) -> tuple[Array, int, Arranged]:
    """The line, how much of its fill trends, and the page that the rules make of it; the line is as long as it takes to fill the page."""
    places = max(request.k, request.list_size)
    while True:
        line, trending = line_with(places)
        arranged = arrange(rules, request.query, line, ranked, request.k)
        if len(arranged.page) == request.k or len(line) < places or places > ranked + _MOST_FILL:
            return line, trending, arranged
        places = max(ranked, places) + max(request.k, places - ranked)


def _drawn(
    chance: Chance,
    release: Release,
    request: Request,
    excluded: Array,
    line: Array,
    page: Array,
    arranged: Arranged | None,
) -> tuple[Drawn, Arranged | None]:
    """The page after what is left to chance, and what the rules made of it then."""
    fixed = np.zeros(len(page), bool)
    if arranged is not None:
        fixed = np.isin(page, list(arranged.put))
    rest = np.arange(len(page), len(line)) if arranged is None else arranged.rest
    if request.filter is not None and not request.strict:
        fixed, rest = fixed | ~request.filter[line[page]], rest[request.filter[line[rest]]]

    def showable(rows: Array) -> Array:
        able = release.available[rows] if request.allowed is None else release.available[rows] & request.allowed[rows]
        return able & ~np.isin(rows, excluded) if len(excluded) else able

    drawn = left_to_chance(chance, release, line, page, rest, fixed, showable, request.rules, request.k)
    if arranged is None:
        return drawn, None
    usual, more = np.concatenate([page, arranged.rest]), np.zeros(len(drawn.line) - len(line))
    moves = tuple((rule, np.concatenate([places, more])) for rule, places in arranged.moves)
    return drawn, replace(arranged, page=drawn.page, rest=usual[~np.isin(usual, drawn.page)], moves=moves)


def _left_over(line: Array, ranked: int, page: Array, arranged: Arranged | None) -> dict[Removal, Array]:
    """What of the first `ranked` rows of the line is not on the page: held back by a cap, or below it."""
    if arranged is None:
        left = np.ones(len(line), bool)
        left[page] = False
        return {Removal.CAPPED: _NONE, Removal.BELOW: line[:ranked][left[:ranked]]}
    rest = arranged.rest[arranged.rest < ranked]
    held = np.zeros(len(line), bool)
    held[list(arranged.held)] = True
    capped = held[rest]
    return {Removal.CAPPED: line[rest[capped]], Removal.BELOW: line[rest[~capped]]}


def _sources(
    candidates: Candidates,
    ordered: Array,
    weights: dict[str, float],
    page: Array,
    ends: tuple[int, int, int],
    otherwise: str,
) -> tuple[str, ...]:
    """The source of each position of the line that is on the page; `ends` of what leads, of the candidates, and of what trends among the fill."""
    lead, ranked, trending = ends
    proposed = page[(page >= lead) & (page < ranked)]
    speak = _speakers(candidates, ordered[proposed - lead], weights, otherwise)
    if len(proposed) == len(page):
        return speak
    speakers = iter(speak)
    return tuple(next(speakers) if lead <= at < ranked else TRENDING if at < trending else FILL for at in page.tolist())


def _with_new(sources: tuple[str, ...], at: int | None) -> tuple[str, ...]:
    """The sources of a page on which a new item got the place `at`, from 0."""
    return sources if at is None else (*sources[:at], NEW, *sources[at + 1 :])


def rank(release: Release, query: Query, rows: Array, deadline: Deadline | None = None) -> Answer:
    """Order the caller's own item rows (int32, ascending, distinct): nothing is added and nothing is removed."""
    settings = release.settings
    candidates = listed(release.sources, settings.quotas, query, rows)
    hurried = deadline is not None and release.scorer is not None and not deadline.ranks()
    features = None if hurried else _features(release, query, candidates)
    scores = _scores(release, candidates, features)
    order = _best_first(scores)
    return Answer(
        rows=candidates.rows[order],
        scores=scores[order].astype(np.float32),
        sources=_speakers(candidates, order, settings.weights),
        level=level(release, query),
        candidates=candidates,
        removed={},
        features=features,
        every=scores,
        calibrated=features is not None and is_calibrated(release),
        missed=None if deadline is None else deadline.missed,
    )


def quotas_of(settings: ReleaseSettings, sources: tuple[Source, ...], k: int) -> dict[str, int]:
    """How many candidates each source is asked for: ranking wants several for each of the k places, also of a very long page."""
    if len(sources) == 1:
        return {sources[0].name: max(settings.candidates, k)}
    factor = max(1.0, settings.candidates_per_place * k / settings.candidates)
    return {name: round(quota * factor) for name, quota in settings.quotas.items()}


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


def _best_first(scores: Array) -> Array:
    """Positions by falling score; ties by row, which ascend; a NaN, which sorts behind everything, never takes a slot before a number."""
    return np.argsort(-scores, kind="stable")


def _speakers(
    candidates: Candidates, page: Array, weights: dict[str, float], otherwise: str = LISTED
) -> tuple[str, ...]:
    """For each item the source whose weighted, normalised score is highest among those that proposed it; `otherwise` where none did."""
    if not len(page):
        return ()
    # numpy goes through the longer axis sooner where that is the last one
    top, proposed = np.ascontiguousarray(candidates.scores.T).max(axis=1, initial=0), candidates.ranks[page] >= 0
    weight = np.array([weights.get(s, 0.0) for s in candidates.sources], np.float32)
    part = np.where(proposed, candidates.scores[page] / np.where(top > 0, top, 1) * weight, -1)
    best, spoken = part.argmax(axis=1).tolist(), np.asarray(proposed.any(axis=1))
    return tuple(candidates.sources[s] if ok else otherwise for s, ok in zip(best, spoken, strict=True))
