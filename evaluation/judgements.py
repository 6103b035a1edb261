"""The test queries of a protocol: who asks, when, what was known then, and what they went on to choose.

A `Fold` says what is known: the events of folds below `fold.below`. The queries are about the next fold, so `TWIN` and `LAST_TWIN` give the test
and `CHOOSE` and `LAST_TRAIN` the validation that comes before it.

Protocol `global` asks for every known user (with a user_id and a positive-gain event before the cut) at the moment of the cut; relevant are the
distinct items of their positive-gain events in the window, each with its greatest gain.

Protocol `last` asks for every user with at least 3 positive-gain events just before one of them (the last, or the second-last), at its own time;
relevant is its item, if any event of a lower fold names that item. Histories end where the fold does and not where the clock says so: several
events may bear the time of the target, and those before it in the order of events are known, while `Histories.before(user, time)` would
lose them. Context events between the last known choice and the target belong to the target's fold and stay out.

In cohorts of their own, outside the main figure: **new users** (nobody's history, protocol `global` only: whoever has a query under `last` has
a history too) and, under `last`, queries for **new items** (no event of a lower fold names the item). Under `global` a new item counts against
recall in the main figure, as in acceptance/check.py, and `new_items` marks the pairs for a figure apart.

With `seen="remove"`, an item of the user's own earlier positive-gain events is neither relevant nor to be recommended (`excluded`); whoever has
nothing left is dropped and counted. A return nets out its purchase from its own time on: features and histories show it from then, while
the purchase stays what the user chose at the time of asking, returned within the window or not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from core.columns import Array, Columns
from core.errors import ArtifactError
from core.history import History, Query, user_starts
from core.prepared import Fold, Prepared, Seen
from core.schema import Column
from evaluation.relevance import Relevance

MAIN: Final = 0
NEW_USER: Final = 1
NEW_ITEM: Final = 2

_KNOWN = "known"  # users column: has a user_id
_WINDOWS = {"global": 4, "last": 3}  # folds of a protocol


@dataclass(frozen=True)
class Judgements:
    """q test queries, in ascending order of user, and what each wants."""

    fold: Fold
    seen: Seen
    users: Array  # int32 [q], rows of the user id map, each once
    times: Array  # int64 [q], microseconds
    cohort: Array  # int8 [q]: MAIN, NEW_USER or NEW_ITEM
    history_starts: Array  # int64 [q], rows of the events: the known history is events[start:end] ...
    history_ends: Array  # int64 [q] ... oldest first
    choices: Array  # int64 [q], positive-gain events of the known history
    relevance: Relevance
    new_items: Array  # bool [p], relevant pairs whose item no known event names
    dropped: dict[
        str, int
    ]  # visitors; with seen items removed, pairs_seen and users_all_seen; of a sample, not_sampled

    def __len__(self) -> int:
        return len(self.users)

    @property
    def main(self) -> Array:
        """The queries of the main figure, bool `[q]`."""
        return np.asarray(self.cohort == MAIN)

    def only(self, queries: Array) -> Judgements:
        """The queries of these indices, distinct and ascending: a sample, a chunk. What was dropped before stays as it is."""
        keep = np.zeros(len(self), bool)
        keep[queries] = True
        pairs = keep[self.relevance.queries]
        of_queries = ("users", "times", "cohort", "history_starts", "history_ends", "choices")
        return replace(
            self,
            **{name: getattr(self, name)[keep] for name in of_queries},
            relevance=self.relevance.only(pairs)[0],
            new_items=self.new_items[pairs],
        )

    def history(self, query: int, events: Columns, limit: int | None = None) -> History:
        """What is known of the user of `query`, oldest first; `limit` keeps the newest events."""
        start, end = int(self.history_starts[query]), int(self.history_ends[query])
        if limit is not None:
            start = max(start, end - limit)
        columns = (Column.ITEM, Column.TIME, Column.TYPE, Column.GAIN)
        return History(*(events.numbers(c)[start:end] for c in columns))

    def query(self, query: int, prepared: Prepared, limit: int | None = None) -> Query:
        """The request as sources and features see it."""
        user, history = int(self.users[query]), self.history(query, prepared.events, limit)
        return Query(int(self.times[query]), user, history, attributes=prepared.told.of(user))

    def excluded(self, query: int, events: Columns) -> Array:
        """Item rows that must not be recommended, int32 ascending: none unless seen items are removed. No limit shortens it."""
        if self.seen == "keep":
            return np.empty(0, np.int32)
        history = self.history(query, events)
        return np.unique(history.items[history.gains > 0])


def judge(prepared: Prepared, fold: Fold, seen: Seen) -> Judgements:
    """The test queries about the fold after `fold`.

    Raises:
        ValueError: if no fold comes after `fold`.
        ArtifactError: if the folds of a user go backwards, so that a history would not end where its fold does, or if
            under `last` a user has more than one choice in the window.
    """
    if not 1 <= fold.below < _WINDOWS[fold.protocol]:
        raise ValueError(f"fold {fold.name!r} of protocol {fold.protocol!r}: no window comes after it to judge")
    events = prepared.events
    user, item, gain = (events.numbers(c) for c in (Column.USER, Column.ITEM, Column.GAIN))
    folds, n_users, n_items = events.numbers(fold.column), len(prepared.user_ids), len(prepared.item_ids)
    if ((folds[1:] < folds[:-1]) & (user[1:] == user[:-1])).any():
        raise ArtifactError(f"{prepared.path}: column {fold.column!r} goes backwards within a user; prepare it again")
    known, chosen = folds < fold.below, gain > 0

    targets, dropped = _targets(prepared, fold, seen)
    users, query = np.unique(user[targets], return_inverse=True)
    relevance = Relevance.of(query, item[targets], gain[targets], len(users))
    named = np.zeros(n_items, bool)
    named[item[known]] = True
    new_items = ~named[relevance.items]
    starts = user_starts(user, n_users)[users]
    choices = np.bincount(user[known & chosen], minlength=n_users)[users]
    cohort = np.where(choices == 0, NEW_USER, MAIN).astype(np.int8)
    if fold.protocol == "last":
        if len(targets) != len(users):
            raise ArtifactError(
                f"{prepared.path}: a user has several choices in one fold of {fold.column!r}; prepare it again"
            )
        cohort[new_items] = NEW_ITEM  # one pair a query: pairs and queries are the same thing here
    return Judgements(
        fold=fold,
        seen=seen,
        users=users.astype(np.int32),
        times=_times(prepared, fold, targets, len(users)),
        cohort=cohort,
        history_starts=starts,
        history_ends=starts + np.bincount(user[known], minlength=n_users)[users],
        choices=choices,
        relevance=relevance,
        new_items=new_items,
        dropped=dropped,
    )


def _targets(prepared: Prepared, fold: Fold, seen: Seen) -> tuple[Array, dict[str, int]]:
    """Rows of the events that test queries want, int64 ascending, and what was left out."""
    events = prepared.events
    user, folds, chosen = events.numbers(Column.USER), events.numbers(fold.column), events.numbers(Column.GAIN) > 0
    targets = np.flatnonzero((folds == fold.below) & chosen)
    has_id = prepared.users.numbers(_KNOWN)[user[targets]].astype(bool)
    dropped = {"visitors": len(np.unique(user[targets[~has_id]]))}
    targets = targets[has_id]
    if seen == "remove":
        wanted = _pairs(prepared, targets)
        again = np.isin(wanted, _pairs(prepared, np.flatnonzero((folds < fold.below) & chosen)))
        dropped["pairs_seen"] = len(np.unique(wanted[again]))
        dropped["users_all_seen"] = len(np.unique(user[targets])) - len(np.unique(user[targets[~again]]))
        targets = targets[~again]
    return targets, dropped


def _pairs(prepared: Prepared, rows: Array) -> Array:
    """One number for each (user, item) of the events `rows`, int64."""
    user, item = (prepared.events.numbers(c)[rows] for c in (Column.USER, Column.ITEM))
    return np.asarray(user.astype(np.int64) * len(prepared.item_ids) + item)


def _times(prepared: Prepared, fold: Fold, targets: Array, n: int) -> Array:
    if fold.protocol == "global":
        return np.full(n, prepared.until(fold), np.int64)
    return np.asarray(prepared.events.numbers(Column.TIME)[targets], np.int64)
