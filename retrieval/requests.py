"""Past requests with their answers, to choose on: what known people chose right after a cut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.columns import Array
from core.history import Histories, Query
from core.prepared import Fold, Prepared
from core.schema import Column


@dataclass(frozen=True)
class PastRequest:
    """A query as of a cut, what must not be returned, and what the person then chose."""

    query: Query
    excluded: Array  # int32 ascending: the items that the person already had, where those are removed
    relevant: Array  # int32 ascending, at least one


ENOUGH: Final = 100
"""Requests; fewer cannot tell one source from another."""
_MOMENTS: Final = 10  # of one person


def choosing_requests(
    prepared: Prepared, fold: Fold, *, remove_seen: bool, history_events: int, most: int, seed: int
) -> list[PastRequest]:
    """`past_requests`; where these are fewer than ENOUGH, as in a shop whose people come once, those of `later_requests` with them."""
    asked = past_requests(prepared, fold, remove_seen=remove_seen, history_events=history_events, most=most, seed=seed)
    if fold.protocol == "last" or len(asked) >= ENOUGH:
        return asked
    return asked + later_requests(
        prepared, fold, remove_seen=remove_seen, history_events=history_events, most=most - len(asked), seed=seed
    )


def past_requests(
    prepared: Prepared, fold: Fold, *, remove_seen: bool, history_events: int, most: int, seed: int
) -> list[PastRequest]:
    """Requests right after `fold`, at most `most` (a seeded sample), in the order of the users.

    Protocol `global`: people known before the cut ask at the cut, and what they chose until the next one is relevant. Protocol `last`: everyone
    asks right before the event of the next fold. Relevant items are known at the cut in protocol `last`, as in the test (design 5).
    """
    events, users = prepared.events, prepared.users.numbers("known")
    user, item, folds = events.numbers(Column.USER), events.numbers(Column.ITEM), events.numbers(fold.column)
    success = np.asarray(events.numbers(Column.GAIN) > 0)
    target = np.flatnonzero(success & (folds == fold.below))
    past = success & (folds < fold.below)
    known_people = np.zeros(len(users), bool)
    known_people[user[past]] = True
    target = target[known_people[user[target]] & users[user[target]]]
    if fold.protocol == "last":
        known_items = np.zeros(len(prepared.item_ids), bool)
        known_items[item[past]] = True
        target = target[known_items[item[target]]]
    people, first = np.unique(user[target], return_index=True)
    bounds = np.append(first, len(target))
    histories = prepared.histories(history_events)
    requests: list[PastRequest] = []
    for p in np.random.default_rng(seed).permutation(len(people)):
        if len(requests) == most:
            break
        rows = target[bounds[p] : bounds[p + 1]]
        time = int(events.numbers(Column.TIME)[rows[0]]) if fold.protocol == "last" else prepared.until(fold)
        _add(requests, prepared, histories, int(people[p]), time, item[rows], remove_seen)
    return sorted(requests, key=lambda r: r.query.user)


def later_requests(
    prepared: Prepared, fold: Fold, *, remove_seen: bool, history_events: int, most: int, seed: int
) -> list[PastRequest]:
    """Requests in the window after `fold` (protocol `global`), at most `most` (a seeded sample), in the order of the users.

    Everyone with several moments of success in the window, visitors and people who were new in it too, asks at the later ones, at a seeded sample of
    at most 10; what the person chose from then until the next cut is relevant.
    """
    events = prepared.events
    user, item, time = (events.numbers(c) for c in (Column.USER, Column.ITEM, Column.TIME))
    inside = np.flatnonzero((events.numbers(fold.column) == fold.below) & (events.numbers(Column.GAIN) > 0))
    who, when = user[inside], time[inside]
    moments = np.flatnonzero((who[1:] == who[:-1]) & (when[1:] != when[:-1])) + 1
    shuffled = np.random.default_rng(seed).permutation(moments)
    order = shuffled[np.argsort(who[shuffled], kind="stable")]
    nth = np.arange(len(order)) - np.searchsorted(who[order], who[order])
    stops = np.searchsorted(who, who, "right")
    histories = prepared.histories(history_events)
    requests: list[PastRequest] = []
    for at in shuffled[np.isin(shuffled, order[nth < _MOMENTS])].tolist():
        if len(requests) == most:
            break
        _add(requests, prepared, histories, int(who[at]), int(when[at]), item[inside[at : stops[at]]], remove_seen)
    return sorted(requests, key=lambda r: (r.query.user, r.query.time))


def _add(
    requests: list[PastRequest],
    prepared: Prepared,
    histories: Histories,
    user: int,
    time: int,
    chosen: Array,
    remove_seen: bool,
) -> None:
    """Append the request of `user` at `time`, if what was `chosen` from then on holds something that may be returned."""
    query = Query(time, user, histories.before(user, time), attributes=prepared.told.of(user))
    had = np.unique(query.history.items[query.history.gains > 0]) if remove_seen else np.empty(0, np.int32)
    relevant = np.setdiff1d(chosen, had)
    if len(relevant):
        requests.append(PastRequest(query, had, relevant))
