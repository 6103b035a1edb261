"""A release with the live catalog over it: what answers. It follows the log from the entry on that the release itself has seen.

A request looks whether the log has grown before it takes the release, and applies what is new to availability at once; so a deletion holds from the
moment its call returns, in every worker. What takes longer, the vector of an upserted item, a thread of its own makes (the writer's worker: the
call itself), some tens of milliseconds later.
"""

from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final

from core.catalog_entry import Entry, Kind, Listing, Listings, Row, window
from core.catalog_log import CatalogLog
from core.columns import Array
from core.ids import NO_ROW
from core.schema import Column
from serving.live_items import LiveItems
from serving.release import Release
from serving.windows import Windows

_NEVER: Final = float("inf")
_BATCH: Final = (
    250  # items that are put in their rows together: some milliseconds, in which a request that finds news waits
)


@dataclass(frozen=True)
class CatalogCounts:
    """What the log says of the release's items, and of others."""

    sequence: int  # of the newest entry heeded
    new: int  # items that the release does not know
    changed: int  # items of the release that were upserted
    deleted: int
    waiting: int  # upserted items that have no vector yet


class LiveRelease:
    """`base`, and the log over it. Many threads may ask for `current` and call `take` and `absorb`."""

    def __init__(self, base: Release, log: CatalogLog, clock: Callable[[], int]) -> None:
        self.base, self._log, self._clock = base, log, clock
        self.seen = base.catalog_sequence if base.catalog_log == log.id else 0  # entries that its items table has
        self._items = LiveItems(base)
        self._windows = Windows(base.items, self._now())
        self._items.available[self._windows.closed] = False
        self._listings = Listings()
        self._waiting: dict[str, Row] = {}
        self._at, self._sequence = log.start, 0
        self._edges: list[tuple[float, str]] = []  # when the window of an item opens or closes
        self._next = self._windows.next
        self._taking, self._absorbing = threading.RLock(), threading.Lock()
        self.view = self._items.view()
        self.take()
        self.absorb()

    @property
    def current(self) -> Release:
        """The release for a request that begins now."""
        if self._log.committed != self._at or (self._next < _NEVER and self._next <= self._now()):
            self.take()
        return self.view

    def take(self) -> None:
        """Read what is new in the log: deletions and availability hold when this returns."""
        with self._taking:
            frames, end = self._log.read(self._at)
            for frame in frames:
                entry = Entry.of(*frame)
                self._sequence = entry.sequence
                if entry.sequence > self.seen:
                    self._apply(entry)
            now = self._now()
            for row in self._windows.due(now):
                self._show(self.base.item_ids[row], now)
            while self._edges and self._edges[0][0] <= now:
                self._show(heapq.heappop(self._edges)[1], now)
            self._next = min(self._windows.next, self._edges[0][0] if self._edges else _NEVER)
            self._at = end  # last: who sees it goes on without waiting for this thread

    def absorb(self) -> None:
        """Make the vectors of upserted items and put these in their rows: they can be found when this returns."""
        with self._absorbing:
            while self._waiting:
                with self._taking:
                    batch = list(islice(self._waiting.values(), _BATCH))
                made = zip(batch, self._items.vectors(batch), strict=True)
                with self._taking:
                    # one that was upserted again meanwhile waits for its newer vector
                    self._write(
                        [(row, vector) for row, vector in made if self._waiting.get(row[Column.ITEM_ID]) is row]
                    )

    def there(self, item_id: str) -> bool:
        """Whether an item exists now, available or not."""
        with self._taking:
            return self._listings.of.get(item_id, Listing()).there(self._in_table(item_id))

    def new_with(self, item_ids: list[str]) -> int:
        """How many rows of new items there would be with these."""
        with self._taking:
            rows = {i for i in self._waiting if self._items.row(i) == NO_ROW}
            return self._items.new + len(rows.union(i for i in item_ids if self._items.row(i) == NO_ROW))

    def counts(self) -> CatalogCounts:
        """For operators."""
        with self._taking:
            upserted = [
                i for i, listing in self._listings.of.items() if listing.row is not None and not listing.deleted
            ]
            changed = sum(self._items.known(i) for i in upserted)
            deleted = sum(listing.deleted for listing in self._listings.of.values())
            return CatalogCounts(self._sequence, len(upserted) - changed, changed, deleted, len(self._waiting))

    def _apply(self, entry: Entry) -> None:
        now = self._now()
        for item_id in self._listings.apply(entry):
            if entry.kind is Kind.UPSERT:
                row = self._listings.of[item_id].row
                assert row is not None
                self._waiting.pop(item_id, None)  # so that the order is that of the last upserts
                self._waiting[item_id] = row
                for edge in window(row):
                    if now < edge < _NEVER:
                        heapq.heappush(self._edges, (edge, item_id))
            elif entry.kind is Kind.DELETE:
                self._waiting.pop(item_id, None)  # a new item that came and went gets no row
            self._show(item_id, now)

    def _write(self, made: list[tuple[Row, Array | None]]) -> None:
        """Put items in their rows, show a view that has them, and only then let them be available."""
        now = self._now()
        for row, vector in made:
            del self._waiting[row[Column.ITEM_ID]]
            self._items.write(row, vector)
        self.view = self._items.view()
        for row, _ in made:
            self._show(row[Column.ITEM_ID], now)

    def _show(self, item_id: str, now: int) -> None:
        """Bring the availability of an item up to date. One that waits for its vector can only disappear."""
        at = self._items.row(item_id)
        if at != NO_ROW:
            known, listing = self._in_table(item_id), self._listings.of.get(item_id, Listing())
            holds = listing.holds(known, known and bool(self.base.available[at]), now, self._windows.of(at))
            self._items.available[at] = holds and (item_id not in self._waiting or self._items.available[at])

    def _in_table(self, item_id: str) -> bool:
        """Whether the release's items table has the item, and no entry that it has seen says that it is gone."""
        return self._items.known(item_id) and not self._items.deleted(item_id)

    def _now(self) -> int:
        return max(self._clock(), self.base.window_end)
