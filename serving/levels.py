"""The fallback ladder (design 8): which rung a query stands on."""

from __future__ import annotations

from enum import StrEnum

import numpy as np

from core.candidates import Source
from core.history import Query
from retrieval.query import TowerSource
from serving.release import Release


class Level(StrEnum):
    """Which rung of the fallback ladder answered (design 8)."""

    WARM = "warm"
    SHORT = "short-history"
    CONTEXT = "context"
    ATTRIBUTES = "attributes"
    POPULAR = "popular"


def level(release: Release, query: Query) -> Level:
    """The rung that a query stands on: how much is known of the person, else of the page."""
    return level_of(query, release.settings.warm_events, release.sources)


def level_of(query: Query, warm_events: int, sources: tuple[Source, ...]) -> Level:
    """The same, where so many successes make a person warm, and these sources answer."""
    successes = int(np.count_nonzero(query.history.gains > 0))
    if successes >= warm_events:
        return Level.WARM
    if successes:
        return Level.SHORT
    if len(query.context):
        return Level.CONTEXT
    told = len(query.attributes) > 0 and any(isinstance(s, TowerSource) and s.heeds(query.attributes) for s in sources)
    return Level.ATTRIBUTES if told else Level.POPULAR
