"""How often a value stands on a page so far, within a sliding window of places, and which items a cap therefore holds back."""

from __future__ import annotations

from bisect import insort
from collections.abc import Mapping

import numpy as np

from core.columns import Array


class CapCount:
    """The state of one cap while a page is put together from its first place to its last.

    Args:
        most: Items with one value that any `window` places may hold.
        window: At most the length of the page.
        k: Length of the page.
        codes: The values of the n items, int `[t]`.
        owner: The item that each is of, int64 `[t]`, ascending.
        fixed: Place -> item, of what is in its place already.
    """

    def __init__(
        self, most: int, window: int, k: int, codes: Array, owner: Array, n: int, fixed: Mapping[int, int]
    ) -> None:
        self._most, self._window, self._k, self._owner, self._n = most, window, k, owner, n
        values, self._local = np.unique(codes, return_inverse=True)
        self._starts = np.searchsorted(owner, np.arange(n + 1)).tolist()
        self._full = np.zeros(len(values), bool)
        self._places: dict[int, list[int]] = {}  # of each value that is on the page, ascending
        self._ahead = {place: self._values(item) for place, item in sorted(fixed.items())}  # not passed yet
        self._recent: list[list[int]] = []  # values at each place that was passed
        for place, mine in self._ahead.items():
            self._add(place, mine)

    def blocked(self, place: int) -> Array | None:
        """Which items cannot stand at `place`, all places before it being settled: bool `[n]`; None: all can."""
        if self._window < self._k:
            self._slide(place)
        if not self._full.any():
            return None
        held = np.zeros(self._n, bool)
        held[self._owner[self._full[self._local]]] = True
        return held

    def put(self, item: int, place: int) -> None:
        """Settle a place."""
        mine = self._ahead.pop(place, None)
        if mine is None:  # else it was counted from the start
            mine = self._values(item)
            self._add(place, mine)
        self._recent.append(mine)

    def _values(self, item: int) -> list[int]:
        found: list[int] = self._local[self._starts[item] : self._starts[item + 1]].tolist()
        return found

    def _add(self, place: int, values: list[int]) -> None:
        for value in values:
            places = self._places.setdefault(value, [])
            insort(places, place)
            self._full[value] = len(places) >= self._most

    def _slide(self, place: int) -> None:
        """Bring `_full` up to `place`: only values within a window of it can be full there."""
        near = {value for values in self._recent[max(0, place - self._window + 1) :] for value in values}
        for later, values in self._ahead.items():
            if later < place + self._window:
                near.update(values)
        self._full[:] = False
        for value in near:
            self._full[value] = self._around(self._places[value], place) >= self._most

    def _around(self, places: list[int], place: int) -> int:
        """The most of `places` that one window holds which also holds `place`."""
        near = [p for p in places if abs(p - place) < self._window]
        if not near or near[-1] < place:
            return len(near)
        starts = range(max(0, place - self._window + 1), min(place, self._k - self._window) + 1)
        return max(sum(s <= p < s + self._window for p in near) for s in starts)
