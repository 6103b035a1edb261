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
        gone = [m for m in self._minutes if m <= now // MINUTE - WINDOW_MINUTES]
        for minute in gone:
            keys, events = _arrays(self._minutes.pop(minute))
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
        moved = np.full(len(self.ids), -1, np.int64)
        moved[kept] = np.arange(len(kept))
        sums = np.zeros((max(_ROOM, 2 * len(kept)), _TYPES), np.int32)
        sums[: len(kept)] = self._sums[kept]
        self._sums = sums
        self.ids = [self.ids[row] for row in kept.tolist()]
        self._rows = {item_id: row for row, item_id in enumerate(self.ids)}
        for minute, bucket in self._minutes.items():
            keys, events = _arrays(bucket)
            keys = moved[keys // _TYPES] * _TYPES + keys % _TYPES
            self._minutes[minute] = Counter(dict(zip(keys.tolist(), events.tolist(), strict=True)))
        self.tidied += 1


def _arrays(bucket: Counter[int]) -> tuple[Array, Array]:
    """Keys int64 and events int32 of a bucket."""
    return np.fromiter(bucket.keys(), np.int64, len(bucket)), np.fromiter(bucket.values(), np.int32, len(bucket))
