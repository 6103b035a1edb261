"""Statements about why an item suits a person, one kind for each group of ranker features; each is checked against the person's data before it is said."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import numpy as np

from core.columns import Array, Coded
from core.history import Query
from core.schema import Column, EventType
from ranking.groups import Group
from serving.reasons import anchored, own_history
from serving.release import Release

_DID: Final = (
    (EventType.PURCHASE_COMPLETE, "bought"),
    (EventType.RATING, "rated"),
    (EventType.ADD_TO_CART, "put in the cart"),
    (EventType.ADD_TO_WISHLIST, "put on the wish list"),
)
_LEAST_CHOSEN: Final = 2  # successes with a brand or a category that make a taste
_LEAST_PRICES: Final = 5  # known prices that make a habit
_LEAST_ITEMS: Final = 10  # of a category, so that there is a best tenth


def statements(release: Release, query: Query, row: int, weights: Mapping[str, float]) -> list[str]:
    """What can truly be said of an item row for each of the groups that raise its score, the heaviest first.

    Args:
        release: That answers.
        query: Who asks.
        row: The item.
        weights: What each group (ranking.groups) adds to the score, or each source where the blend ranked.
    """
    said: dict[str, None] = {}
    for group in sorted((w for w in weights if weights[w] > 0), key=lambda w: -weights[w]):
        for statement in _SAYS.get(_as_group(group), _nothing)(release, query, row):
            said.setdefault(statement)
    return list(said)


def _as_group(name: str) -> str:
    """The group that a source of the blend speaks for."""
    if name == "own_frequency":
        return Group.OWN
    return Group.POPULAR if name in ("popularity", "recent_popularity") else Group.RELATED if name in _RELATED else name


_RELATED: Final = ("transitions", "covisitation", "item_knn", "content", "towers")


def _nothing(release: Release, query: Query, row: int) -> Iterable[str]:
    return ()


def _related(release: Release, query: Query, row: int) -> Iterator[str]:
    """The first source that names an item says how it goes with it, and what the person did with that one."""
    for source in _RELATED:
        if (found := anchored(release, query, row, source)) is not None:
            text, anchor = found
            yield f"{text}, which you {_did(query, anchor)}"
            return


def _did(query: Query, row: int) -> str:
    """What the person does or did with an item of the page or of their history."""
    if row in query.context:
        return "are looking at"
    types = query.history.types[(query.history.items == row) & (query.history.gains > 0)]
    return next((did for kind, did in _DID if (types == kind.code).any()), "viewed")


def _popular(release: Release, query: Query, row: int) -> Iterator[str]:
    """Whether the item is among the best tenth of its category, or of all items where it has none."""
    category = release.items.get(Column.CATEGORY)
    code = int(category.codes[row]) if isinstance(category, Coded) else -1
    if isinstance(category, Coded) and code >= 0:
        rivals, where = np.flatnonzero(category.codes == code), f" in {leaf(category.values[code])}"
    else:
        rivals, where = np.arange(release.items.rows), ""
    if len(rivals) < _LEAST_ITEMS:
        return
    for name, word in (("recent_popularity", "popular now"), ("popularity", "popular")):
        for source in release.sources:
            if source.name == name and _in_best_tenth(source.scoring(query).of(rivals.astype(np.int32)), rivals == row):
                yield word + where
                return


def _in_best_tenth(scores: Array, mine: Array) -> bool:
    """Whether fewer than a tenth of the scores are greater than a positive one."""
    own = float(scores[mine][0])
    return own > 0 and int(np.count_nonzero(scores > own)) < len(scores) / 10


def leaf(category: str) -> str:
    """The last part of a category's path.

    >>> leaf("Kitchen > Tea > Cups")
    'Cups'
    """
    return category.rpartition(" > ")[2]


def _taste(release: Release, query: Query, row: int) -> Iterator[str]:
    """How often the person chose the item's brand and its category."""
    chosen = query.history.items[query.history.gains > 0]
    for name, text in (
        (Column.BRAND, "you chose the brand {} {} times"),
        (Column.CATEGORY, "you chose from {} {} times"),
    ):
        column = release.items.get(name)
        if not isinstance(column, Coded) or column.codes[row] < 0:
            continue
        times = int(np.count_nonzero(column.codes[chosen] == column.codes[row]))
        if times >= _LEAST_CHOSEN:
            yield text.format(leaf(column.values[int(column.codes[row])]), times)


def _price(release: Release, query: Query, row: int) -> Iterator[str]:
    """Whether the item's price lies in the middle half of what the person chose."""
    if Column.PRICE not in release.items:
        return
    prices = release.items.numbers(Column.PRICE)
    own = prices[query.history.items[query.history.gains > 0]]
    own = own[np.isfinite(own) & (own > 0)]
    if len(own) < _LEAST_PRICES or not prices[row] > 0:
        return
    low, high = np.quantile(own, (0.25, 0.75))
    if low <= prices[row] <= high:
        yield "priced like what you usually choose"


_SAYS: Final[Mapping[str, Callable[[Release, Query, int], Iterable[str]]]] = {
    Group.OWN: own_history,
    Group.RELATED: _related,
    Group.POPULAR: _popular,
    Group.TASTE: _taste,
    Group.PRICE: _price,
}
