"""Which pairs a night must add and take away, so that the sums of the night before become those of today."""

from __future__ import annotations

import numpy as np

from core.columns import Array, Columns
from core.schema import Column
from data_prep.merge import Change
from data_prep.pairs import Sequences

Part = tuple[Sequences, Array | None, int]  # the arguments of PairSums.found


class PairChanges:
    """Compares today's events, chunk by chunk from the first on, with the night before.

    A pair belongs to its later event and reaches back only. So where a person's new events follow all old ones, the pairs of an old
    event are the same as before, and at most move to another fold. Where an event came in between or went away, all pairs of the
    person are taken away as they were and added as they are.

    Args:
        change: How the events differ.
        gains: Gain of each event type code.
    """

    def __init__(self, change: Change, gains: Array) -> None:
        self._old = Columns.open(change.before / "events")
        self._gone, self._positive = change.gone, gains > 0
        before = np.asarray(self._old.numbers("fold_global")) * 4 + self._old.numbers("fold_last")
        self._was = np.full(len(change.fresh), -1, np.int8)  # state of the night before
        self._was[~change.fresh] = before[~change.gone]
        self._done = 0  # old rows of people in earlier chunks

    def of(self, events: Sequences, chunk: slice, positive: Array, last_user: int) -> list[Part]:
        """What counts of a chunk.

        Args:
            events: Its positive-gain events as they are today; whole people.
            chunk: Its place among all events.
            positive: Which events of the chunk those are, bool.
            last_user: The last person of the chunk.
        """
        was = self._was[chunk][positive].astype(np.int64)
        old, gone = self._before(len(self._gone) if chunk.stop == len(self._was) else self._until(last_user))
        fresh = was < 0
        follows = (events.user[1:] == events.user[:-1]) & fresh[:-1] & ~fresh[1:]  # an old event after a new one
        mixed = np.zeros(1 + max(events.user.max(initial=-1), old.user.max(initial=-1)), bool)
        mixed[events.user[1:][follows]] = True
        mixed[old.user[gone]] = True
        again = mixed[events.user]
        moved = was != events.state
        parts: list[tuple[Sequences, Array, int]] = [
            (events, again | moved, 1),
            (Sequences(events.user, events.item, events.time, was), moved & ~again & ~fresh, -1),
            (old, mixed[old.user], -1),
        ]
        return [p for p in parts if p[1].any()]

    def _until(self, user: int) -> int:
        return int(np.searchsorted(self._old.numbers(Column.USER), user, side="right"))

    def _before(self, end: int) -> tuple[Sequences, Array]:
        """The old positive-gain events up to row `end` that no earlier chunk had, and which of them are gone."""
        rows, self._done = slice(self._done, end), end
        positive = self._positive[self._old.numbers(Column.TYPE)[rows]]
        user, item, time, fold_global, fold_last = (
            np.asarray(self._old.numbers(c)[rows])[positive]
            for c in (Column.USER, Column.ITEM, Column.TIME, "fold_global", "fold_last")
        )
        return Sequences(user, item, time, fold_global.astype(np.int64) * 4 + fold_last), self._gone[rows][positive]
