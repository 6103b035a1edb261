"""How often each item was had within the hour: sixty buckets of a minute, and their sums."""

from __future__ import annotations

from collections import Counter
from typing import Final

import numpy as np

from core.columns import Array
from core.schema import EVENT_TYPES, MINUTE

WINDOW_MINUTES: Final = 60
_TYPES: Final = len(EVENT_TYPES)
_ROOM: Final = 1_024  # rows to begin with, and below which nothing is tidied
_OPEN_MINUTES: Final = 2  # the newest, which most events are still to come to


class RecentCounts:
    """Events by item and type, in the minute of now and the 59 before it. For one thread at a time.

    Buckets and not a decayed sum: a bucket can be counted again by anybody, "3 times in the last hour" is true of it, and an hour after its last
    event nothing of an item is left. The sums are kept as events come and buckets go, so that reading them costs no walk over the hour.
    """

    def __init__(self, most_items: int) -> None:
        self.ids: list[str] = []  # external id of each row of `counts`
        self.tidied = 0  # grows when rows are given to other items
        self._most_items = most_items
        self._rows: dict[str, int] = {}
        self._sums = np.zeros((_ROOM, _TYPES), np.int32)
        self._minutes: dict[int, Counter[int]] = {}  # minute -> row * _TYPES + type -> events
        # minutes that are past, as int32 keys and events: 8 bytes for what takes a hundred in a dict, which an hour of a busy shop has millions of.
        # What comes later for one of them is counted in `_minutes` beside
        self._past: dict[int, tuple[Array, Array]] = {}

    @property
    def counts(self) -> Array:
        """int32 `[ids, event types]`: a view; rows of items that left the window are zero until they are tidied away."""
        return self._sums[: len(self.ids)]

    def add(self, item_id: str, code: int, time: int, now: int) -> bool:
        """Count an event; whether it does.

        Args:
            item_id: External id. One too many (`most_items`) is not counted until others have left.
            code: Of the event type.
            time: Of the event, microseconds; ahead of `now` it is now, more than the window ago it is not counted.
            now: Microseconds.
        """
        minute = min(time, now) // MINUTE
        if minute <= now // MINUTE - WINDOW_MINUTES:
            return False
        row = self._rows.get(item_id)
        if row is None:
            if len(self.ids) >= self._most_items:
                return False
            row = self._new(item_id)
        self._sums[row, code] += 1
        self._minutes.setdefault(minute, Counter())[row * _TYPES + code] += 1
        return True

    def advance(self, now: int) -> bool:
        """Let go of what is more than the window ago at `now`, microseconds; whether there was anything."""
        minute = now // MINUTE
        for past in [m for m in self._minutes if m <= minute - _OPEN_MINUTES and m not in self._past]:
            self._past[past] = _arrays(self._minutes.pop(past))
        gone = [m for m in {*self._minutes, *self._past} if m <= minute - WINDOW_MINUTES]
        for left in gone:
            for keys, events in (_arrays(self._minutes.pop(left, Counter())), self._past.pop(left, _NOTHING)):
                self._sums.reshape(-1)[keys] -= events
        if gone and len(self.ids) > _ROOM and 2 * np.count_nonzero(self.counts.any(axis=1)) < len(self.ids):
            self._tidy()
        return bool(gone)

    def _new(self, item_id: str) -> int:
        row = len(self.ids)
        if row == len(self._sums):
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
        self.ids.append(item_id)
        self._rows[item_id] = row
        return row

    def _tidy(self) -> None:
        """Give the rows of items that left the window to the others."""
        kept = np.flatnonzero(self.counts.any(axis=1))
        moved = np.full(len(self.ids), -1, np.int32)
        moved[kept] = np.arange(len(kept), dtype=np.int32)
        sums = np.zeros((max(_ROOM, 2 * len(kept)), _TYPES), np.int32)
        sums[: len(kept)] = self._sums[kept]
        self._sums = sums
        self.ids = [self.ids[row] for row in kept.tolist()]
        self._rows = {item_id: row for row, item_id in enumerate(self.ids)}
        for minute, bucket in self._minutes.items():
            keys, events = _arrays(bucket)
            self._minutes[minute] = Counter(dict(zip(_moved(keys, moved).tolist(), events.tolist(), strict=True)))
        self._past = {minute: (_moved(keys, moved), events) for minute, (keys, events) in self._past.items()}
        self.tidied += 1


def _moved(keys: Array, rows: Array) -> Array:
    """int32 keys of the same items and types in other rows."""
    return np.asarray(rows[keys // _TYPES] * _TYPES + keys % _TYPES, np.int32)


def _arrays(bucket: Counter[int]) -> tuple[Array, Array]:
    """Keys int32 and events int32 of a bucket."""
    return np.fromiter(bucket.keys(), np.int32, len(bucket)), np.fromiter(bucket.values(), np.int32, len(bucket))


_NOTHING: Final = _arrays(Counter())
