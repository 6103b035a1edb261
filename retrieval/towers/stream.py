"""Training input: every person's events as one dense stream, cut into rows of L; no padding, targets drawn anew each epoch.

The stream holds one person after another. A row may hold several persons, or a part of one: attention never crosses from one to the next
(`segment`), and targets are looked up in the stream itself, so that a cut loses context but no target.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from core.columns import Array
from core.prepared import Interactions
from retrieval.towers.inputs import gap_buckets, repeats


@dataclass(frozen=True)
class Rows:
    """One epoch: r rows of l tokens, k targets a token."""

    item: Array  # int32 [r, l]
    type: Array  # int32 [r, l]
    gap: Array  # int32 [r, l]
    segment: Array  # int32 [r, l]: the person; -1 in the padding at the end of the stream
    target: Array  # int32 [r, l, k]: item rows
    weight: Array  # float32 [r, l, k]: gain of the target, 0 where there is none


class Stream:
    """The events of one fold, ready to be dealt into epochs.

    Args:
        events: Sorted by (user, time).
        length: L, tokens in a row.
        targets: k, how many targets a token gets.
        horizon: They are drawn from this many next events of the person (1: the very next).
        fresh: Only an item that the person did not have yet is a target (shops without repeat purchases).
        clock: Whether times are real; else gaps are unknown.
    """

    def __init__(
        self, events: Interactions, *, length: int, targets: int, horizon: int, fresh: bool, clock: bool
    ) -> None:
        keep = ~repeats(events.item, events.time, events.user)
        self._user, self._item, self._time = events.user[keep], events.item[keep], events.time[keep]
        self._type, self._gain = events.type[keep], events.gain[keep]
        self._length, self._targets, self._horizon, self._clock = length, targets, horizon, clock
        self._users, self._person = np.unique(self._user, return_inverse=True)
        self._is_target = _first_time(self._user, self._item) if fresh else np.ones(len(self._user), bool)

    def __len__(self) -> int:
        return len(self._user)

    @property
    def items(self) -> Array:
        """The item row of every event, int32 `[e]`."""
        return self._item

    def epoch(self, rng: np.random.Generator) -> Rows:
        """People in a new order, events of one moment too, the rows cut at a new offset, new targets."""
        order = np.lexsort((rng.random(len(self)), self._time, rng.permutation(len(self._users))[self._person]))
        target, weight = self._draw(order, rng)
        user = self._user[order]
        gap = gap_buckets(self._time[order], user) if self._clock else np.zeros(len(self), np.int32)
        shift = int(rng.integers(self._length))

        def rows(values: Array, padding: int) -> Array:
            wide = np.full(
                (-(-(len(self) + shift) // self._length) * self._length, *values.shape[1:]), padding, values.dtype
            )
            wide[shift : shift + len(self)] = values
            return wide.reshape(-1, self._length, *values.shape[1:])

        r = Rows(
            rows(self._item[order].astype(np.int32), 0),
            rows(self._type[order].astype(np.int32), 0),
            rows(gap, 0),
            rows(user.astype(np.int32), -1),
            rows(target, 0),
            rows(weight, 0),
        )
        deal = rng.permutation(len(r.item))
        return Rows(*(a[deal] for a in (r.item, r.type, r.gap, r.segment, r.target, r.weight)))

    def _draw(self, order: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        """For each event of the ordered stream k targets among the person's next `horizon` ones: item int32 `[e, k]`, weight float32 `[e, k]`."""
        n = len(order)
        at = np.flatnonzero(self._is_target[order])  # stream positions that may be targets
        first = np.searchsorted(at, np.arange(n), side="right")  # the first of them after each event
        person = self._person[order]
        ends = np.flatnonzero(np.append(person[1:] != person[:-1], True)) + 1 if n else np.empty(0, np.int64)
        last = np.searchsorted(at, ends)[np.searchsorted(ends, np.arange(n), side="right")] if n else first
        count = np.minimum(last - first, self._horizon)
        pick = first[:, None] + (rng.random((n, self._targets)) * count[:, None]).astype(np.int64)
        drawn = order[at[np.minimum(pick, len(at) - 1)]] if len(at) else np.zeros((n, self._targets), np.int64)
        weight = np.where(count[:, None] > 0, self._gain[drawn], 0).astype(np.float32)
        return self._item[drawn].astype(np.int32), weight


def _first_time(user: Array, item: Array) -> Array:
    """Whether each event is the person's first with its item; events sorted by (user, time)."""
    order = np.lexsort((np.arange(len(user)), item, user))
    u, i = user[order], item[order]
    first = np.ones(len(user), bool)
    first[order[1:]] = (u[1:] != u[:-1]) | (i[1:] != i[:-1])
    return first
