"""Where was the right item lost: every relevant pair ends in exactly one place of the request path.

For each query, `look` compares the wanted items with what the stages kept and removed, and `joined` lines the results up with the relevant pairs.
A pair's place is the furthest that it came, whatever the stages claim besides, so that the places always add up to the pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np

from core.candidates import Candidates
from core.columns import Array


class Place(StrEnum):
    """Where a relevant item ended, furthest first."""

    TOP_10 = "top_10"
    TOP_100 = "top_100"  # ranked 11 to 100
    TOP_500 = "top_500"  # ranked 101 to 500
    BELOW_500 = "below_500"  # a candidate, ranked lower or not at all
    FILTERED = "filtered"  # removed by a filter: availability, exclusions
    OUTSIDE_UNION = "outside_union"  # a source proposed it, the merge left no room
    NOT_RETRIEVED = "not_retrieved"  # no source proposed it


PLACES: Final = tuple(Place)
_RANKED: Final = ((10, Place.TOP_10), (100, Place.TOP_100), (500, Place.TOP_500))


@dataclass(frozen=True)
class Sightings:
    """At which stages the wanted items were seen, for the w pairs of one query or of many."""

    sources: tuple[str, ...]  # S names
    retrieved: Array  # bool [w, S]: proposed by the source
    union: Array  # bool [w]: among the candidates that were ranked
    filtered: Array  # bool [w]: removed by a filter


def look(wanted: Array, candidates: Candidates, filtered: Array, ranked: Array | None = None) -> Sightings:
    """Look for the items `wanted`, int32 `[w]`, in what the stages of one query left behind.

    Args:
        wanted: The query's relevant items, in the order of `Relevance.items`.
        candidates: What the sources proposed.
        filtered: Item rows that a filter removed.
        ranked: Item rows handed to ranking; by default the candidates that no filter removed.
    """
    removed = np.isin(wanted, filtered)
    at = np.minimum(np.searchsorted(candidates.rows, wanted), max(0, len(candidates) - 1))
    proposed = candidates.rows[at] == wanted if len(candidates) else np.zeros(len(wanted), bool)
    retrieved = np.zeros((len(wanted), len(candidates.sources)), bool)
    retrieved[proposed] = candidates.ranks[at[proposed]] >= 0
    union = proposed & ~removed if ranked is None else np.isin(wanted, ranked)
    return Sightings(candidates.sources, retrieved, union, removed)


def joined(parts: Sequence[Sightings]) -> Sightings:
    """The sightings of all queries, in their order: aligned with the pairs of their Relevance.

    Raises:
        ValueError: if there are no queries, or they were not asked of the same sources.
    """
    if len({part.sources for part in parts}) != 1:
        raise ValueError(f"expected sightings of one set of sources, got {sorted({part.sources for part in parts})}")
    retrieved, union, filtered = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("retrieved", "union", "filtered")
    )
    return Sightings(parts[0].sources, retrieved, union, filtered)


def places(sightings: Sightings, positions: Array) -> Array:
    """The place of every pair as an index into PLACES, int8 `[p]`. `positions` int32 `[p]` as `metrics.Found` holds them."""
    place = np.full(len(positions), PLACES.index(Place.NOT_RETRIEVED), np.int8)
    # the furthest is written last
    place[sightings.retrieved.any(1)] = PLACES.index(Place.OUTSIDE_UNION)
    place[sightings.filtered] = PLACES.index(Place.FILTERED)
    place[sightings.union | (positions >= 0)] = PLACES.index(Place.BELOW_500)
    for k, top in reversed(_RANKED):
        place[(positions >= 0) & (positions < k)] = PLACES.index(top)
    return place


def funnel(sightings: Sightings, positions: Array, pairs: Array) -> dict[str, Any]:
    """Counts and shares for the pairs of a mask, bool `[p]`: by place, and by source with what it alone proposed."""
    n = int(np.count_nonzero(pairs))
    counts = np.bincount(places(sightings, positions)[pairs], minlength=len(PLACES)).tolist()
    retrieved = sightings.retrieved[pairs]
    alone = retrieved & (retrieved.sum(1) == 1)[:, None]
    return {
        "pairs": n,
        "places": {str(place): _part(count, n) for place, count in zip(PLACES, counts, strict=True)},
        "sources": {
            name: _part(int(retrieved[:, s].sum()), n) | {"alone": int(alone[:, s].sum())}
            for s, name in enumerate(sightings.sources)
        },
    }


def _part(count: int, of: int) -> dict[str, Any]:
    return {"pairs": count, "share": round(count / of, 6) if of else None}
