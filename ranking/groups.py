"""Groups of features that people have words for: what `Explain` adds contributions up to."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import numpy as np

from core.columns import Array
from ranking.feature_list import FEATURES, Feature


class Group(StrEnum):
    """What a contribution is about."""

    OWN = "own-history"  # what the person did with this very item
    RELATED = "related-items"  # how it goes with what the person chose, and with the page
    POPULAR = "popularity"
    AGREEMENT = "agreement"  # how many sources propose it
    TASTE = "taste"  # the person's brands, categories and attributes
    PRICE = "price"
    ITEM = "item"  # the item alone: age, loyalty, value
    PERSON = (
        "person"  # the person and the request alone: the same for every candidate, but for what it goes together with
    )
    BASE = "base"  # the mean score, which no feature explains


_BY_NAME: Final = {
    "item.popularity": Group.POPULAR,
    "item.recent": Group.POPULAR,
    "item.month": Group.POPULAR,
    "item.trend": Group.POPULAR,
    "item.price": Group.PRICE,
    "user.price_level": Group.PRICE,
}
_BY_PREFIX: Final = {
    "own": Group.OWN,
    "own_frequency": Group.OWN,
    **dict.fromkeys(
        ("item_knn", "linear", "transitions", "covisitation", "content", "towers", "late", "strength"), Group.RELATED
    ),
    "popularity": Group.POPULAR,
    "recent_popularity": Group.POPULAR,
    "agree": Group.AGREEMENT,
    "brand": Group.TASTE,
    "category": Group.TASTE,
    "attributes": Group.TASTE,
    "price": Group.PRICE,
}
_BY_ORIGIN: Final = {
    "candidates": Group.RELATED,
    "history": Group.TASTE,
    "items": Group.ITEM,
    "request": Group.PERSON,
    "user": Group.PERSON,
}


def group_of(feature: Feature) -> Group:
    """By its name, else by its prefix, else by where it comes from."""
    by_prefix = _BY_PREFIX.get(feature.name.partition(".")[0], _BY_ORIGIN[feature.source])
    return _BY_NAME.get(feature.name, by_prefix)


GROUP_OF: Final = tuple(group_of(f) for f in FEATURES)
"""The group of each column."""


_MEMBERS: Final = np.array([[g is group for group in Group] for g in (*GROUP_OF, Group.BASE)], np.float64)


def grouped(contributions: Array) -> list[dict[str, float]]:
    """Sums of each row's contributions float64 `[n, len(FEATURES) + 1]`, the last one the base: they add up to the score as these do."""
    return [dict(zip(map(str, Group), row, strict=True)) for row in (contributions @ _MEMBERS).tolist()]
