"""How often a value stands on a page so far, within a sliding window of places, and which items a cap therefore holds back."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from core.columns import Array


@dataclass(frozen=True)
class Capped:
    """What a cap says of the items of a line."""

    most: int  # items with one value that any `window` places may hold
    window: int  # at most the length of the page
    codes: Array  # the values of the items, int `[t]`
    owner: Array  # the item that each is of, int64 `[t]`, ascending


class CapCount:
    """The state of one cap while a page is put together from its first place to its last.

    Args:
        cap: It.
        k: Length of the page.
        fixed: Place -> item, of what is in its place already.
        blocks: int32 `[items]`, kept up to date: of each item, how many values of how many caps hold it back at the place that is next.
    """

    def __init__(self, cap: Capped, k: int, fixed: Mapping[int, int], blocks: Array) -> None:
        self._most, self._window, self._k, self._codes, self._owner = cap.most, cap.window, k, cap.codes, cap.owner
        self._blocks = blocks
        self._listed = cap.codes.tolist()
        self._often = {value for value, n in Counter(self._listed).items() if n > 1}  # the others hold nothing back
        self._ends = np.cumsum(np.bincount(cap.owner, minlength=len(blocks))).tolist()
        self._full: set[int] = set()
        self._near: dict[
            int, int
        ] = {}  # of each value, how often it stands within the window that ends at the next place
        self._passed: list[list[int]] = []  # values at each place that was settled
        self._fixed = {place: self._values(item) for place, item in fixed.items()}
        # values of fixed items are counted wherever these stand, also behind the next place
        self._places: dict[int, list[int]] = {}
        for place, values in self._fixed.items():
            for value in values:
                insort(self._places.setdefault(value, []), place)
        self._review(0)

    def holds_back(self, item: int) -> bool:
        """Whether this cap is a reason why an item cannot stand at the next place."""
        return any(value in self._full for value in self._values(item))

    def put(self, item: int) -> None:
        """Settle the next place."""
        place = len(self._passed)
        values = self._fixed[place] if place in self._fixed else self._values(item)
        self._passed.append(values)
        for value in values:
            if value in self._places:
                if place not in self._fixed:
                    insort(self._places[value], place)
            else:
                self._near[value] = self._near.get(value, 0) + 1
                self._set(value, self._near[value] >= self._most)
        if place + 1 >= self._window:
            for value in self._passed[place + 1 - self._window]:
                if value not in self._places:
                    self._near[value] -= 1
                    self._set(value, self._near[value] >= self._most)
        self._review(place + 1)

    def _values(self, item: int) -> list[int]:
        values: list[int] = self._listed[self._ends[item - 1] if item else 0 : self._ends[item]]
        return values

    def _set(self, value: int, full: bool) -> None:
        if full != (value in self._full):
            (self._full.add if full else self._full.remove)(value)
            if value in self._often:
                self._blocks[self._owner[self._codes == value]] += 1 if full else -1

    def _review(self, place: int) -> None:
        """Count the values of fixed items again: any window that holds `place` may have them on either side of it."""
        if place >= self._k:
            return
        for value, places in self._places.items():
            self._set(value, self._around(places, place) >= self._most)

    def _around(self, places: list[int], place: int) -> int:
        """The most of `places` that one window holds which also holds `place`."""
        if self._window == self._k:
            return len(places)
        near = [p for p in places if abs(p - place) < self._window]
        starts = range(max(0, place - self._window + 1), min(place, self._k - self._window) + 1)
        return max(sum(s <= p < s + self._window for p in near) for s in starts) if near else 0
