"""Past requests that a ranker can learn from: who could have asked when, and which events followed within the window.

A window of protocol `global` is a fold of the timeline; of protocol `last`, each person's next event. What follows is cut at the window's end, so
no label crosses a cut.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.columns import Array
from core.config import RankerConfig
from core.prepared import Fold, Prepared
from core.schema import Column


@dataclass(frozen=True)
class Requests:
    """Past moments at which a person could have asked, all `[q]`."""

    user: Array  # int32
    time: Array  # int64, microseconds: the history is strictly before
    start: Array  # int64: what follows is the prepared events start to stop - 1, the person's own
    stop: Array  # int64

    def __len__(self) -> int:
        return len(self.user)

    def only(self, rows: Array) -> Requests:
        """The requests at these positions."""
        return Requests(self.user[rows], self.time[rows], self.start[rows], self.stop[rows])


def requests_after(prepared: Prepared, fold: Fold, config: RankerConfig) -> Requests:
    """The requests that `fold` answers: those of the window that begins where its knowledge ends."""
    following = prepared.events.numbers(fold.column) == fold.below
    inside = np.flatnonzero(following & (prepared.events.numbers(Column.GAIN) > 0))
    user, time = prepared.events.numbers(Column.USER), prepared.events.numbers(Column.TIME)
    users, first = np.unique(user[inside], return_index=True)
    stops = inside[np.append(first[1:], len(inside)) - 1] + 1
    if fold.protocol == "last":
        return Requests(users, time[inside[first]], inside[first], stops)
    opening = Requests(users, np.full(len(users), prepared.until(fold), np.int64), inside[first], stops)
    # who is new in the window could not be asked about when it opened
    known = np.isin(users, user[prepared.events.numbers(fold.column) < fold.below])
    later = _moments(user[inside], time[inside], config)
    chosen = inside[later]
    during = Requests(user[chosen], time[chosen], chosen, stops[np.searchsorted(users, user[chosen])])
    return _joined(opening.only(np.flatnonzero(known)), during)


def _moments(user: Array, time: Array, config: RankerConfig) -> Array:
    """Positions of the events that begin a basket, at most `moments` of each person (a seeded sample), ascending."""
    new = np.ones(len(user), bool)
    new[1:] = (user[1:] != user[:-1]) | (time[1:] != time[:-1])
    shuffled = np.random.default_rng(config.seed).permutation(np.flatnonzero(new))
    order = shuffled[np.argsort(user[shuffled], kind="stable")]
    place = np.arange(len(order)) - np.searchsorted(user[order], user[order])
    return np.sort(order[place < config.moments])


def _joined(a: Requests, b: Requests) -> Requests:
    return Requests(*(np.concatenate([getattr(a, n), getattr(b, n)]) for n in ("user", "time", "start", "stop")))
