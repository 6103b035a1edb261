"""An answer in the shop's own ids, with the reasons and parts of each item."""

from __future__ import annotations

from collections.abc import Iterable

from aisle.v1 import recommender_pb2 as pb
from core.history import Query
from retrieval.query import TowerSource
from serving.answers import TRENDING, Answer
from serving.explain import Explanation, Outcome, position, score_parts
from serving.grounds import statements
from serving.probability import probabilities
from serving.reasons import reasons, titles
from serving.release import Release
from serving.trend import NOTHING, Trend


def results_of(release: Release, query: Query, page: Answer, trend: Trend = NOTHING, first: int = 1) -> list[pb.Result]:
    """The items of a page, the first of them in place `first`."""
    said = reasons(release, query, page.rows.tolist(), page.sources, trend)
    ids, names = release.item_ids.texts.of_rows(page.rows), titles(release, page.rows)
    return [
        pb.Result(
            item_id=item_id,
            score=score,
            rank=rank,
            source=source,
            reasons=why,
            title=name,
            probability=chance,
        )
        for rank, (item_id, score, source, why, name, chance) in enumerate(
            zip(ids, page.scores.tolist(), page.sources, said, names, probabilities(release, page), strict=True), first
        )
    ]


def add_contributions(release: Release, results: Iterable[pb.Result], page: Answer) -> None:
    """Each source's own score of each item that is a candidate, and what adds up to its score."""
    if not len(page.candidates):  # a further page: its items were candidates when the list was put in order
        return
    for result, row, parts in zip(results, page.rows.tolist(), score_parts(release, page), strict=True):
        at = position(page, row)
        if at is None:
            continue
        for source, score in zip(page.candidates.sources, page.candidates.scores[at].tolist(), strict=True):
            if score:
                result.contributions[source] = score
        if result.source != TRENDING:  # which leads by no score
            result.score_parts.update(parts)


def reasons_for(release: Release, query: Query, page: Answer, found: Explanation, trend: Trend) -> list[str]:
    """What weighs most first; for an item of the page also what the page says of it."""
    said = statements(release, query, found.row, found.parts)
    if found.outcome is Outcome.ON_PAGE:
        [shown] = reasons(release, query, [found.row], [page.sources[found.rank - 1]], trend)
        said += [s for s in shown if not any(s in longer for longer in said)]
    return said


def index_version(release: Release) -> str:
    """Id of the item vectors and their index; empty where there are none."""
    return next((s.tower.embedding_id for s in release.sources if isinstance(s, TowerSource)), "")
