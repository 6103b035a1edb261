"""What the query tower reads besides item vectors, in numpy: the same functions for training rows and for one live history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.columns import Array
from core.schema import MINUTE

GAP_BUCKETS: Final = (
    24  # 0: first event, or no clock; b: a pause of [2^(b-1) - 1, 2^b - 1) minutes; the last one: 8 years and more
)


@dataclass(frozen=True)
class Window:
    """The newest events of q people, right-aligned in windows of l, all arrays int32 `[q, l]`."""

    item: Array  # item rows; 0 where empty
    type: Array
    gap: Array
    segment: Array  # 1 where an event stands, 0 where empty: attention does not cross


def gap_buckets(times: Array, person: Array | None = None) -> Array:
    """Bucket int32 `[h]` of the pause before each event; `times` int64 microseconds, `person` marks whose event it is (None: all of one).

    >>> gap_buckets(np.array([0, 0, 60_000_000, 86_460_000_000]))
    array([ 0,  1,  2, 11], dtype=int32)
    """
    pause = np.zeros(len(times))
    np.divide(times[1:] - times[:-1], MINUTE, out=pause[1:])
    buckets: Array = np.minimum(1 + np.floor(np.log2(1 + np.maximum(pause, 0))), GAP_BUCKETS - 1).astype(np.int32)
    first = np.ones(len(times), bool)
    first[1:] = False if person is None else person[1:] != person[:-1]
    buckets[first] = 0
    return buckets


def _least_pauses() -> Array:
    """The least microseconds of each bucket from 2 on, int64 `[GAP_BUCKETS - 2]`, ascending: what `gap_buckets` makes of them, whose logarithms round."""
    least = []
    for bucket in range(2, GAP_BUCKETS):
        exact = (2 ** (bucket - 1) - 1) * MINUTE
        low, high = exact - 1000, exact + 1000
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if gap_buckets(np.array([0, middle]))[1] >= bucket else (middle + 1, high)
        least.append(low)
    return np.array(least, np.int64)


def repeats(items: Array, times: Array, person: Array | None = None) -> Array:
    """Where an event is its predecessor again (same item and moment, same person): lines of one order. bool `[h]`."""
    same = (items[1:] == items[:-1]) & (times[1:] == times[:-1])
    if person is not None:
        same &= person[1:] == person[:-1]
    again = np.zeros(len(items), bool)
    again[1:] = same
    return again


def window(items: Array, types: Array, times: Array, length: int, clock: bool) -> Window:
    """One person's events, oldest first `[h]`, as a window `[1, length]` of the newest ones."""
    keep = ~repeats(items, times)
    items, types, times = items[keep][-length:], types[keep][-length:], times[keep][-length:]
    w = Window(*np.zeros((4, 1, length), np.int32))
    if n := len(items):
        w.item[0, -n:], w.type[0, -n:], w.segment[0, -n:] = items, types, 1
        if clock:
            w.gap[0, -n:] = gap_buckets(times)
    return w


PAUSES: Final = _least_pauses()


def joined(windows: list[Window]) -> Window:
    """Windows `[1, l]` as one `[q, l]`."""
    return Window(*(np.concatenate([getattr(w, name) for w in windows]) for name in ("item", "type", "gap", "segment")))
