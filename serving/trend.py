"""What trends in a release at a moment: the gain of the last hour's events of each item, and the items that had the most."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from core.columns import Array
from core.ids import NO_ROW
from core.schema import EVENT_TYPES, EventType
from serving.online_state import live_gains
from serving.release import Release

_MOST_ORDERED: Final = 1_000  # a page has 500 places at most, and some of these items are on it already


@dataclass(frozen=True)
class Trend:
    """Never changes; a newer one takes its place. All arrays are read-only."""

    release: Release | None = None
    values: Array = field(
        default_factory=lambda: np.empty(0, np.float32)
    )  # float32 [items]: gain of the last hour's events
    items: int = 0  # how many trend: have at least the gain that makes a trend
    order: Array = field(
        default_factory=lambda: np.empty(0, np.int32)
    )  # int32 [m]: the rows of the best of these, best first
    counts: Array = field(
        default_factory=lambda: np.empty((0, len(EVENT_TYPES)), np.int32)
    )  # int32 [m, event types]: their events

    @classmethod
    def of(cls, release: Release, rows: Array, counts: Array, least_gain: float) -> Trend:
        """From the events of the hour.

        Args:
            release: Whose items, and whose gains of event types.
            rows: int32 `[n]` rows of items, each once; NO_ROW for one that the release does not know.
            counts: int32 `[n, event types]` events of the last hour.
            least_gain: What an item needs to be among those that trend.
        """
        known = np.flatnonzero(rows != NO_ROW)
        rows, counts = rows[known], counts[known]
        gains = (counts @ live_gains(release).astype(np.float64)).astype(np.float32)
        values = np.zeros(len(release.item_ids), np.float32)
        values[rows] = gains
        trending = np.flatnonzero(gains >= np.float32(least_gain))
        best = trending[np.lexsort((rows[trending], -gains[trending]))[:_MOST_ORDERED]]
        trend = cls(release, values, len(trending), rows[best], counts[best])
        for array in (trend.values, trend.order, trend.counts):
            array.flags.writeable = False
        return trend

    def is_of(self, release: Release) -> bool:
        """Whether its rows are those of `release`; changes of the live catalog move no row."""
        return self.release is not None and self.release.path == release.path

    def events(self, row: int) -> dict[EventType, int]:
        """What happened to an item of `order` in the hour, by type; empty for another item."""
        at = np.flatnonzero(self.order == row)[:1]
        return {t: n for place in at for t, n in zip(EVENT_TYPES, self.counts[place].tolist(), strict=True) if n}


NOTHING: Final = Trend()
