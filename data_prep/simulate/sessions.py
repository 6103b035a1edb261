"""One block of sessions: who comes for what, what the page shows, what is clicked, followed, put into the cart and bought. All arrays, no loops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from data_prep.simulate.catalogue import Catalogue
from data_prep.simulate.preferences import (
    BUY,
    EXAMINATION,
    EXPLORE,
    FOLLOW,
    ORDER_BY_TASTE,
    Array,
    People,
    cart_given_viewed,
    click_given_examined,
    sigmoid,
    utility,
)
from data_prep.simulate.shelf import Shelf

PAGE: Final = len(EXAMINATION)
_DRAWN: Final = 2 * PAGE  # items drawn for a page; repeated ones fall out
PLACEMENTS: Final = ("home", "category", "search", "similar", "reorder")
_PAGE_PLACEMENTS: Final = (0.35, 0.8)  # below: home, category, else search
_SIMILAR, _REORDER, SEARCH = 3, 4, 2
_FOLLOW_SHARE: Final = 0.35  # of the clicks on which a complement is looked at
_FOLLOW_SLOTS: Final = (0.6, 0.9)  # first, second, third complement
_REORDER_CART, _REORDER_BUY = 0.85, 0.9
_WISH, _REMOVE = 0.06, 0.3  # of views without a cart; of carts without a purchase
_MAX_DWELL: Final = 120.0  # seconds
LONGEST: Final = (
    3600  # seconds, more than a session can last: 2 x PAGE + 1 touches of at most _MAX_DWELL, and the checkout
)


@dataclass(frozen=True)
class Visitors:
    """Who opens s sessions: `[s]` each.

    Attributes:
        user: User row, -1 for a guest, int64.
        people: Tastes.
        start: Seconds since midnight, float64; at most a day less LONGEST.
        reorder: Item that the session is about, -1 for a page, int64.
    """

    user: Array
    people: People
    start: Array
    reorder: Array


@dataclass(frozen=True)
class Pages:
    """The listing of each session: `[s]` and `[s, PAGE]`.

    Attributes:
        items: int64, best first.
        shown: Whether the position is filled, bool.
        utility: float32.
        placement: Row of PLACEMENTS, int8 `[s]`.
        logged: Whether impressions and clicks are logged, bool `[s]`.
    """

    items: Array
    shown: Array
    utility: Array
    placement: Array
    logged: Array


@dataclass(frozen=True)
class Touches:
    """Items that sessions looked at, by session and time: `[t]` each.

    Attributes:
        session: Row of the block, int64.
        item: int64.
        position: On the page, -1 elsewhere, int64.
        placement: Row of PLACEMENTS, int8.
        time: Seconds since midnight, float64.
        dwell: Seconds, float64.
        checkout: Seconds since midnight when the session ends, float64.
        wished, carted, removed, bought: bool.
    """

    session: Array
    item: Array
    position: Array
    placement: Array
    time: Array
    dwell: Array
    checkout: Array
    wished: Array
    carted: Array
    removed: Array
    bought: Array


def choose_categories(rng: np.random.Generator, people: People, shelf: Shelf) -> Array:
    """One category for each of n people, with the chances that `preferences.intent` states: int64 `[n]`."""
    own = people.weights * shelf.demand[people.favourites]
    bounds = np.cumsum(own, axis=1)
    slot = (rng.random((len(people), 1)) * bounds[:, -1:] > bounds).sum(axis=1).clip(max=own.shape[1] - 1)
    anywhere = np.cumsum(shelf.popularity * shelf.demand)
    explored = np.searchsorted(anywhere, rng.random(len(people)) * anywhere[-1], side="right")
    explores = (rng.random(len(people)) < EXPLORE) | (bounds[:, -1] <= 0)
    return np.asarray(
        np.where(explores, np.minimum(explored, len(anywhere) - 1), people.favourites[np.arange(len(people)), slot])
    )


def show_pages(
    rng: np.random.Generator, visitors: Visitors, catalogue: Catalogue, shelf: Shelf, impressions: float
) -> Pages:
    """What each session sees; a session that reorders sees no page."""
    people = visitors.people
    drawn = np.sort(shelf.draw(rng, choose_categories(rng, people, shelf), _DRAWN), axis=1)
    repeated = np.zeros(drawn.shape, bool)
    repeated[:, 1:] = drawn[:, 1:] == drawn[:, :-1]
    utilities = utility(people, catalogue.appeal, drawn)
    score = ORDER_BY_TASTE * utilities + rng.gumbel(size=drawn.shape)
    # Rounding may draw the neighbour of an empty shelf: what is not live is not shown.
    score[repeated | ~shelf.live[drawn] | (visitors.reorder[:, None] >= 0)] = -np.inf
    best = np.argsort(-score, axis=1, kind="stable")[:, :PAGE]
    where = np.searchsorted(_PAGE_PLACEMENTS, rng.random(len(people)), side="right").astype(np.int8)
    return Pages(
        items=np.take_along_axis(drawn, best, axis=1),
        shown=np.isfinite(np.take_along_axis(score, best, axis=1)),
        utility=np.take_along_axis(utilities, best, axis=1),
        placement=where,
        logged=rng.random(len(people)) < impressions,
    )


def touch(rng: np.random.Generator, visitors: Visitors, pages: Pages, catalogue: Catalogue, shelf: Shelf) -> Touches:
    """What each session looks at, in order, and what comes of it."""
    examined = rng.random(pages.shown.shape) < EXAMINATION
    clicked = pages.shown & examined & (rng.random(pages.shown.shape) < click_given_examined(pages.utility))
    session, position = np.nonzero(clicked)
    item, wanted = pages.items[session, position], pages.utility[session, position]

    follower, follower_item, follower_wanted = _follow(rng, visitors, session, item, catalogue, shelf)
    back = np.nonzero(visitors.reorder >= 0)[0]
    none = np.full
    columns = (
        np.concatenate([session, session[follower], back]),
        np.concatenate([2 * position, 2 * position[follower] + 1, none(len(back), 0)]),  # order in the session
        np.concatenate([item, follower_item, visitors.reorder[back]]),
        np.concatenate([position, none(len(follower) + len(back), -1)]),
        np.concatenate(
            [pages.placement[session], none(len(follower), _SIMILAR, np.int8), none(len(back), _REORDER, np.int8)]
        ),
        np.concatenate([wanted, follower_wanted, none(len(back), np.nan, np.float32)]),
    )
    order = np.lexsort((columns[1], columns[0]))
    session, _, item, position, placement, wanted = (c[order] for c in columns)
    first = _first_of_each(session, item)
    return _outcome(rng, visitors.start, session[first], item[first], position[first], placement[first], wanted[first])


def _follow(
    rng: np.random.Generator, visitors: Visitors, session: Array, item: Array, catalogue: Catalogue, shelf: Shelf
) -> tuple[Array, Array, Array]:
    """Clicks after which a complement is looked at: their rows, the complements, their utility, `[f]` each."""
    slot = np.searchsorted(_FOLLOW_SLOTS, rng.random(len(item)), side="right")
    complement = catalogue.complements[item, slot].astype(np.int64)
    wanted = utility(visitors.people.take(session), catalogue.appeal, complement[:, None])[:, 0]
    follows = (
        (rng.random(len(item)) < _FOLLOW_SHARE)
        & (rng.random(len(item)) < sigmoid(wanted + FOLLOW))
        & shelf.live[complement]
    )
    rows = np.nonzero(follows)[0]
    return rows, complement[rows], wanted[rows]


def _first_of_each(session: Array, item: Array) -> Array:
    """Rows of the first look at each item in each session, in order."""
    by = np.lexsort((item, session))  # stable: the earlier look comes first
    again = np.zeros(len(by), bool)
    again[1:] = (session[by][1:] == session[by][:-1]) & (item[by][1:] == item[by][:-1])
    return np.sort(by[~again])


def _outcome(
    rng: np.random.Generator,
    start: Array,
    session: Array,
    item: Array,
    position: Array,
    placement: Array,
    wanted: Array,
) -> Touches:
    n = len(session)
    dwell = np.minimum(8 + rng.exponential(35, n), _MAX_DWELL)
    passed = np.concatenate([[0.0], np.cumsum(dwell)])
    begins = np.searchsorted(session, session)
    ends = np.searchsorted(session, session, side="right")
    time = start[session] + 5 + passed[:-1] - passed[begins]
    reorders = placement == _REORDER
    carted = rng.random(n) < np.where(reorders, _REORDER_CART, cart_given_viewed(np.nan_to_num(wanted)))
    bought = carted & (rng.random(n) < np.where(reorders, _REORDER_BUY, BUY))
    return Touches(
        session=session,
        item=item,
        position=position,
        placement=placement,
        time=time,
        dwell=dwell,
        checkout=start[session] + 15 + passed[ends] - passed[begins],
        wished=~carted & (rng.random(n) < _WISH),
        carted=carted,
        removed=carted & ~bought & (rng.random(n) < _REMOVE),
        bought=bought,
    )
