"""What was left to chance, in the words of a response."""

from __future__ import annotations

from aisle.v1 import recommender_pb2 as pb
from serving.exploration import Drawn
from serving.release import Release


def add_propensities(response: pb.RecommendResponse, release: Release, drawn: Drawn | None) -> tuple[str, ...]:
    """Give each result its propensity; the ids of the items that an explored page was drawn from, in their usual order."""
    for at, result in enumerate(response.results):
        result.propensity = 1.0 if drawn is None else float(drawn.propensities[at])
    if drawn is None:
        return ()
    response.explored = drawn.explored
    return tuple(release.item_ids[row] for row in drawn.pool.tolist())
