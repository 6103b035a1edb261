"""Past requests with their answers, to choose on: what known people chose right after a cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.columns import Array
from core.history import Query
from core.prepared import Fold, Prepared
from core.schema import Column


@dataclass(frozen=True)
class PastRequest:
    """A query as of a cut, what must not be returned, and what the person then chose."""

    query: Query
    excluded: Array  # int32 ascending: the items that the person already had, where those are removed
    relevant: Array  # int32 ascending, at least one


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
    requests = []
    for p in np.random.default_rng(seed).permutation(len(people)):
        rows = target[bounds[p] : bounds[p + 1]]
        time = int(events.numbers(Column.TIME)[rows[0]]) if fold.protocol == "last" else prepared.until(fold)
        person = int(people[p])
        query = Query(time, person, histories.before(person, time), attributes=prepared.told.of(person))
        had = np.unique(query.history.items[query.history.gains > 0]) if remove_seen else np.empty(0, np.int32)
        relevant = np.setdiff1d(item[rows], had)
        if len(relevant):
            requests.append(PastRequest(query, had, relevant))
        if len(requests) == most:
            break
    return sorted(requests, key=lambda r: r.query.user)
