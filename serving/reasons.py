"""Why an item is on the page, in words: statements that are true of this person's data and of the release, for the items of one page only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from core.columns import Array, Texts
from core.history import Query
from core.schema import DAY, Column, EventType
from serving.answers import FILL, LISTED, NEW, RULE, TRENDING
from serving.release import Release
from serving.trend import NOTHING, Trend

# What to say where a source names the item behind its proposal.
_ANCHORED: Final[Mapping[str, str]] = {
    "item_knn": "people who chose {} also chose it",
    "transitions": "often follows {}",
    "covisitation": "often together with {}",
    "content": "similar to {}",
}
_ELSEWHERE: Final = "goes with {}"
_GAPS: Final = 2  # between purchases: fewer make no rhythm
_PLAIN: Final[Mapping[str, str]] = {"recent_popularity": "popular now", "popularity": "popular"}
# The person's own events, the strongest statement first.
_OWN: Final = (
    (EventType.PURCHASE_COMPLETE, "you bought it"),
    (EventType.RATING, "you rated it"),
    (EventType.ADD_TO_CART, "you put it in the cart"),
    (EventType.ADD_TO_WISHLIST, "you put it on the wish list"),
)


# What everybody's events of the last hour say.
_HOURLY: Final = (
    ((EventType.PURCHASE_COMPLETE,), "bought"),
    ((EventType.RATING,), "rated"),
    ((EventType.ADD_TO_CART,), "put in the cart"),
    ((EventType.ADD_TO_WISHLIST,), "put on the wish list"),
    ((EventType.DETAIL_PAGE_VIEW, EventType.CLICK), "looked at"),
)


def reasons(
    release: Release, query: Query, rows: Sequence[int], sources: Sequence[str], trend: Trend = NOTHING
) -> list[list[str]]:
    """For each item row of a page, with the source that put it there, and what trended then: at least one statement."""
    return [_of_item(release, query, row, source, trend) for row, source in zip(rows, sources, strict=True)]


def titles(release: Release, rows: Array) -> list[str]:
    """The titles of item rows int32 `[m]`; empty texts where the shop gives none."""
    texts = release.items[Column.TITLE]
    return texts.of_rows(rows) if isinstance(texts, Texts) else [""] * len(rows)


def title(release: Release, row: int) -> str:
    """The item's title; empty where the shop gives none."""
    titles = release.items[Column.TITLE]
    return str(titles[row]) if isinstance(titles, Texts) else ""


def _of_item(release: Release, query: Query, row: int, source: str, trend: Trend) -> list[str]:
    own = own_history(release, query, row)
    if source == TRENDING:
        return [_hourly(trend, row), *own]
    if source == "own_frequency" and own:
        return own
    found = anchored(release, query, row, source)
    return [_plain(release, query, row, source) if found is None else found[0], *own]


def anchored(release: Release, query: Query, row: int, source: str) -> tuple[str, int] | None:
    """What connects the item with another one of the person or the page, by the source's own evidence, and the row of that one; None: nothing does."""
    explainer = release.explainers.get(source)
    anchor = None if explainer is None else explainer.because(query, row)
    if anchor is None:
        return None
    return _ANCHORED.get(source, _ELSEWHERE).format(title(release, anchor) or release.item_ids[anchor]), anchor


def own_history(release: Release, query: Query, row: int) -> list[str]:
    """What the person did with the item, and how often they come back to it."""
    history = query.history
    if row not in _own_items(query):
        return []
    # lists from here on: of few events numpy spends its time on being called, and a page of a shop where people buy again has twenty such items
    mine = np.flatnonzero((history.items == row) & (history.gains > 0))
    kinds = history.types[mine].tolist()
    said = f"you looked at it {_times(len(kinds))}"
    for kind, did in _OWN:
        if times := kinds.count(kind.code):
            said = f"{did} {_times(times)}"
            break
    if kinds.count(EventType.PURCHASE_COMPLETE.code) <= _GAPS:
        return [said]
    bought = history.times[mine[history.types[mine] == EventType.PURCHASE_COMPLETE.code]]
    return [said, *_rhythm(bought, real_clock=release.table is not None and not release.table.synthetic_time)]


def _own_items(query: Query) -> frozenset[int]:
    """The item rows of the person's successes: most items of most pages are none of them."""
    own: frozenset[int] | None = query.notes.get(_own_items)
    if own is None:
        own = query.notes[_own_items] = frozenset(query.history.items[query.history.gains > 0].tolist())
    return own


def _rhythm(times: Array, *, real_clock: bool) -> list[str]:
    """How often the moments `times` (ascending microseconds) come back, where they do so evenly: every gap within half of the mean."""
    gaps = np.diff(np.unique(times)) / DAY
    if not real_clock or len(gaps) < _GAPS or np.abs(gaps - gaps.mean()).max() > gaps.mean() / 2:
        return []
    days = round(float(gaps.mean()))
    return [f"you buy it about every {days} days"] if days > 1 else []


def _hourly(trend: Trend, row: int) -> str:
    """What happened to an item that trends."""
    events = trend.events(row)
    for kinds, did in _HOURLY:
        if times := sum(events.get(kind, 0) for kind in kinds):
            return f"{did} {_times(times)} in the last hour"
    return "popular in the last hour"  # by events that have no words here, in a shop whose gains count them


def _times(n: int) -> str:
    return {1: "once", 2: "twice"}.get(n, f"{n} times")


def _plain(release: Release, query: Query, row: int, source: str) -> str:
    """Without an item to name."""
    if source in _PLAIN:
        return _PLAIN[source]
    if source == NEW:
        return "new in the shop"
    if source == RULE:
        return "chosen by the shop"
    if source not in (FILL, LISTED):
        if not len(query.history) and not len(query.context) and len(query.attributes):
            return "fits what you say of yourself"
        return "fits what you chose lately" if len(query.history) else "fits this page"
    for name, text in _PLAIN.items():
        if any(s.name == name and s.scoring(query).of(np.array([row], np.int32))[0] > 0 for s in release.sources):
            return text
    return "completes the page" if source == FILL else "is on the given list"
