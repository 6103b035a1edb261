"""Why an item is in an answer, and why it is not: the one stage that lost it, what the sources said, and what made its score."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import numpy as np

from core.columns import Array
from core.ids import NO_ROW
from core.narrowed import narrowed
from core.schema import EventType
from ranking import blend
from ranking.feature_list import NAMES
from ranking.groups import GROUP_OF, Group, grouped
from serving.answers import FILL, NEW, RULE, TRENDING, Answer, Removal, Request
from serving.release import Release
from serving.request_path import quotas_of
from serving.ruled_answer import ruled


class Outcome(StrEnum):
    """Where an item ended."""

    ON_PAGE = "on-page"
    BELOW = "below-page"
    UNAVAILABLE = "unavailable"
    NOT_RETRIEVED = "not-retrieved"
    EXCLUDED = "excluded"
    ON_CONTEXT = "on-context"
    SEEN = "seen"
    PURCHASED = "purchased"
    FILTERED = "filtered"
    HIDDEN = "hidden"
    CAPPED = "capped"
    UNLISTED = "unlisted"
    UNLIKELY = "unlikely"
    UNKNOWN = "unknown-item"


RANKER: Final = "ranker"
BLEND: Final = "blend"


@dataclass(frozen=True)
class Opinion:
    """What one source says of the item."""

    source: str
    score: float
    rank: int  # place in its list, from 1; 0: it did not propose the item
    proposed: int  # items that it proposed
    last_score: float  # of the last of them; 0 where there is none


@dataclass(frozen=True)
class Explanation:
    """What became of one item in one answer."""

    row: int
    outcome: Outcome
    summary: str
    rank: int = 0  # place in the whole order, from 1; 0: not ranked
    score: float = 0.0
    page_score: float = 0.0  # of the last place of the page
    opinions: tuple[Opinion, ...] = ()
    ranked_by: str = ""  # RANKER or BLEND
    parts: dict[str, float] = field(default_factory=dict)  # they add up to the score
    features: dict[str, dict[str, float]] = field(default_factory=dict)  # of each part, what its features add


UNKNOWN: Final = Explanation(NO_ROW, Outcome.UNKNOWN, "the release does not know this item")


def explain(release: Release, request: Request, page: Answer, row: int) -> Explanation:
    """What became of item `row` in `page`, the release's answer to `request`."""
    outcome = outcome_of(release, request, page, row)
    place = rank_of(page, row)
    at = position(page, row)
    ranked = at is not None and outcome in (Outcome.ON_PAGE, Outcome.BELOW, Outcome.CAPPED, Outcome.UNLIKELY)
    parts, features = parts_of(release, page, at) if ranked and at is not None else ({}, {})
    on_page = np.flatnonzero(page.rows == row)
    score = float(page.scores[on_page[0]]) if len(on_page) else float(page.every[at]) if ranked else 0.0
    opinions = _opinions(release, request, page, row)
    by = "" if not ranked else BLEND if page.features is None else RANKER
    return Explanation(
        row=row,
        outcome=outcome,
        summary=_summary(outcome, page, row, place, opinions) + ruled(request, page, row),
        rank=place,
        score=score,
        page_score=float(page.scores[-1]) if len(page.scores) else 0.0,
        opinions=opinions,
        ranked_by=by,
        parts=parts,
        features=features,
    )


def outcome_of(release: Release, request: Request, page: Answer, row: int) -> Outcome:
    """The one place in which an item ended: the stages in the order in which they run."""
    history = request.query.history
    if row in page.rows:
        return Outcome.ON_PAGE
    if row in request.query.context:
        return Outcome.ON_CONTEXT
    if row in request.excluded:
        return Outcome.EXCLUDED
    if request.exclude_seen and row in history.items[history.gains > 0]:
        return Outcome.SEEN
    if request.exclude_purchased and row in history.items[history.types == EventType.PURCHASE_COMPLETE.code]:
        return Outcome.PURCHASED
    if request.only is not None and row not in request.only:
        return Outcome.UNLISTED
    if request.rules is not None and request.rules.allowed is not None and not request.rules.allowed[row]:
        return Outcome.HIDDEN
    if request.filter is not None and not request.filter[row]:
        return Outcome.FILTERED
    if row in page.removed.get(Removal.UNAVAILABLE, ()):
        return Outcome.UNAVAILABLE
    if row in page.removed.get(Removal.UNLIKELY, ()):
        return Outcome.UNLIKELY
    if row in page.removed.get(Removal.CAPPED, ()):
        return Outcome.CAPPED
    return Outcome.BELOW if row in page.removed.get(Removal.BELOW, ()) else Outcome.NOT_RETRIEVED


def rank_of(page: Answer, row: int) -> int:
    """Place in the whole order, from 1: the page, then what is below it; 0 for an item that is in neither."""
    order = np.concatenate([page.rows, page.removed.get(Removal.BELOW, page.rows[:0])])
    at = np.flatnonzero(order == row)
    return int(at[0]) + 1 if len(at) else 0


def position(page: Answer, row: int) -> int | None:
    """Place among the candidates, None for an item that is none."""
    at = int(np.searchsorted(page.candidates.rows, row))
    return at if at < len(page.candidates) and page.candidates.rows[at] == row else None


def parts_of(release: Release, page: Answer, at: int) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
    """What makes the score of candidate `at`: by group of features (by source where the blend ranked), and by feature within each."""
    values = _contributions(release, page, np.array([at]))
    if values is None:
        return _blended(release, page, np.array([at]))[0], {}
    features: dict[str, dict[str, float]] = {str(group): {} for group in Group}
    for name, group, value in zip(NAMES, GROUP_OF, values[0].tolist(), strict=False):  # the base, last, has no name
        if value:
            features[group][name] = value
    return grouped(values)[0], features


def score_parts(release: Release, page: Answer) -> list[dict[str, float]]:
    """The parts of each item of the page; empty for one that is no candidate. One call for all, which is several times cheaper than one each."""
    found = [position(page, row) for row in page.rows.tolist()]
    at = np.array([p for p in found if p is not None], np.int64)
    values = _contributions(release, page, at)
    parts = iter(_blended(release, page, at) if values is None else grouped(values))
    return [{} if p is None else next(parts) for p in found]


def _contributions(release: Release, page: Answer, at: Array) -> Array | None:
    """Of each feature to the scores of the candidates `at`, and the base: float64 `[n, F + 1]`; None where the blend ranked."""
    if page.features is None or release.scorer is None:
        return None
    return release.scorer.contributions(page.features[at])


def _blended(release: Release, page: Answer, at: Array) -> list[dict[str, float]]:
    """What each source adds to the blended scores of the candidates `at`."""
    names, alone = page.candidates.sources, dict.fromkeys(page.candidates.sources, 1.0)
    parts = blend.parts(page.candidates, release.settings.weights if len(alone) > 1 else alone)
    return [dict(zip(names, values, strict=True)) for values in parts[at].tolist()]


def _opinions(release: Release, request: Request, page: Answer, row: int) -> tuple[Opinion, ...]:
    """Each source is asked again: what it says of a single item is no part of an answer."""
    asked, excluded = quotas_of(release.settings, release.sources, request.k), request.never
    found = []
    for source in narrowed(release.sources, request.allowed):
        scoring = source.scoring(request.query)
        rows, scores = scoring.top(asked.get(source.name, 0), excluded)
        at = np.flatnonzero(rows == row)
        found.append(
            Opinion(
                source=source.name,
                score=float(scoring.of(np.array([row], np.int32))[0]),
                rank=int(at[0]) + 1 if len(at) else 0,
                proposed=len(rows),
                last_score=float(scores[-1]) if len(scores) else 0.0,
            )
        )
    return tuple(found)


def _summary(outcome: Outcome, page: Answer, row: int, place: int, opinions: tuple[Opinion, ...]) -> str:
    candidates, places = len(page.candidates), len(page.rows)
    by = [f"{o.source} (place {o.rank})" for o in opinions if o.rank]
    drawn = page.drawn is not None and page.drawn.explored
    if outcome is Outcome.ON_PAGE:
        speaker = page.sources[place - 1]
        how = {
            FILL: "it fills the page, which the candidates did not",
            TRENDING: "many had it within the last hour",
            NEW: "it got the place for being new",
            RULE: "a rule of the shop brought it",
        }.get(speaker, f"of {candidates} candidates, proposed by {', '.join(by)}")
        return f"place {place} of {places} on the page{', whose order was drawn at random' if drawn else ''}: {how}"
    if outcome is Outcome.NOT_RETRIEVED:
        known = [o.source for o in opinions if o.score]
        why = f"{', '.join(known)} know it, but have better ones" if known else "none has any evidence for it"
        return f"lost in retrieval: no source proposed it; {why}"
    return {
        Outcome.BELOW: f"lost in {'the draw of the page' if drawn else 'ranking'}: place {place} in the order of {candidates} candidates, "
        f"the page has {places}",
        Outcome.UNAVAILABLE: "lost in the filter: it is not available",
        Outcome.EXCLUDED: "the request excludes it",
        Outcome.ON_CONTEXT: "it is on the page that the person looks at",
        Outcome.SEEN: "the person has it already, and the request excludes what they have",
        Outcome.PURCHASED: "the person bought it, and the request excludes what they bought",
        Outcome.FILTERED: "the filter of the request does not hold for it",
        Outcome.UNLISTED: "the request asks for others only: it is not among its candidate_item_ids",
        Outcome.UNLIKELY: "its probability is below the min_score of the request",
        Outcome.HIDDEN: "hidden",
        Outcome.CAPPED: "held back",
    }[outcome]
