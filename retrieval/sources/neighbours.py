"""Neighbour lists: for each item its strongest other items, memory-mapped, and the sum of the lists of some items."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from core.candidates import Scoring
from core.columns import Array, load_array
from core.compiled import library
from core.errors import ArtifactError
from core.native import address
from retrieval.sources import compiled
from retrieval.sources.opinion import FewItems, contains, strongest, summed

# Read for one query at most: histories so long that their lists hold more are answered from the heads of the lists.
_MOST = 1 << 19
_TOGETHER = 1 << 16  # lists


class Neighbours:
    """Lists of neighbours, strongest first.

    Args:
        starts: int64 `[n_items + 1]`: item i's list is `items[starts[i]:starts[i+1]]`.
        items: int32 `[e]`.
        scores: float32 `[e]`, not 0.
    """

    def __init__(self, starts: Array, items: Array, scores: Array) -> None:
        # as the kernel reads them; mapped arrays are like that already
        starts, items = np.ascontiguousarray(starts, np.int64), np.ascontiguousarray(items, np.int32)
        scores = np.ascontiguousarray(scores, np.float32)
        self._starts, self._items, self._scores = starts, items, scores
        self._kernel = library()
        self._lists = compiled.Lists(self.n_items, address(starts), address(items), address(scores))
        self._at = ctypes.addressof(self._lists)

    @property
    def n_items(self) -> int:
        """Items of the catalogue, with or without a list."""
        return len(self._starts) - 1

    @property
    def pairs(self) -> int:
        """Entries of all lists."""
        return len(self._items)

    @classmethod
    def open(cls, folder: Path) -> Neighbours:
        """Memory-map what `write` left in `folder`.

        Raises:
            ArtifactError: if a file is missing or cut short, or the files do not fit one another.
        """
        starts, items, scores = (load_array(folder / f"{name}.npy") for name in ("starts", "items", "scores"))
        if int(starts[-1]) != len(items) or len(items) != len(scores):
            raise ArtifactError(
                f"{folder}: lists of {int(starts[-1])} entries, but {len(items)} items and {len(scores)} scores"
            )
        return cls(starts, items, scores)

    def write(self, folder: Path) -> None:
        """Write the three arrays into `folder`, which is made."""
        folder.mkdir(parents=True)
        for name, array in (("starts", self._starts), ("items", self._items), ("scores", self._scores)):
            np.save(folder / f"{name}.npy", array)

    def near(self, items: Array, weights: Array) -> Scoring:
        """Weighted sum of the lists of `items` int32 `[m]`, each in [0, n_items), with weights float64 `[m]`."""
        if self._kernel is None:
            return self.counted_near(items, weights)
        n = self._kernel.entries(self._at, address(items), len(items))
        n, most = (n, n) if n <= _MOST else (_MOST, _MOST // len(items))
        found = compiled.Opinion(self._kernel, min(n, self.n_items))
        arguments = (len(items), most, min(n, self.n_items), found.address)
        self._kernel.near(self._at, address(items), address(weights), *arguments)
        return found

    def counted_near(self, items: Array, weights: Array) -> FewItems:
        """The same by numpy."""
        if not len(items):
            return summed(items, weights, self.n_items)
        begin = self._starts[items]
        lengths = self._starts[items + 1] - begin
        if lengths.sum() > _MOST:
            lengths = np.minimum(lengths, _MOST // len(items))
        # lists are copied as blocks: no slower than gathering their entries for short ones, four times faster for long ones
        lists = [slice(a, a + m) for a, m in zip(begin.tolist(), lengths.tolist(), strict=True)]
        others = np.concatenate([self._items[part] for part in lists])
        scores = np.concatenate([self._scores[part] for part in lists])
        return summed(others, scores * np.repeat(weights, lengths), self.n_items)

    def strongest_for(self, items: Array, weights: Array, row: int) -> int | None:
        """The one of `items` that adds most to the score of `row` in `near`; None where no list of theirs holds it."""
        if self._kernel is not None:
            at = self._kernel.strongest_for(self._at, address(items), address(weights), len(items), row)
            return None if at < 0 else int(at)
        found, most = None, 0.0
        for item, weight in zip(items.tolist(), weights.tolist(), strict=True):
            start, stop = self._starts[item], self._starts[item + 1]
            at = np.flatnonzero(self._items[start:stop] == row)
            if len(at) and (part := weight * float(self._scores[start + at[0]])) > most:
                found, most = item, part
        return found

    def first_in_list(self, row: int, items: Array) -> int | None:
        """The best neighbour of `row` that is one of `items` (ascending); None where its list holds none of them, or it is newer than the lists."""
        if row >= self.n_items:
            return None
        listed = self._items[self._starts[row] : self._starts[row + 1]]
        at = np.flatnonzero(contains(items, listed))
        return int(listed[at[0]]) if len(at) else None


class NeighboursBuilder:
    """Collects the lists of items in ascending order of the items, keeping the `most` strongest of each.

    `signed`: scores may be negative, and the strongest are those furthest from 0.
    """

    def __init__(self, n_items: int, most: int, *, signed: bool = False) -> None:
        self._most, self._signed = most, signed
        self._lengths = np.zeros(n_items + 1, np.int64)
        self._wholes: list[
            tuple[Array, Array]
        ] = []  # millions of short arrays would take more memory than what is in them
        self._items: list[Array] = []
        self._scores: list[Array] = []

    def add(self, item: int, others: Array, scores: Array) -> None:
        """The list of `item`: others `[m]` ascending, scores `[m]`; what is 0, not finite or (unless signed) negative is left out."""
        scores = scores.astype(np.float32)
        strengths = np.abs(scores) if self._signed else scores
        good = np.flatnonzero((strengths > 0) & np.isfinite(strengths))
        best = good[strongest(strengths[good], self._most)]
        self._lengths[item + 1] = len(best)
        self._items.append(others[best].astype(np.int32))
        self._scores.append(scores[best])
        if len(self._items) > _TOGETHER:
            self._unite()

    def _unite(self) -> None:
        """Put the lists that stand apart behind one another."""
        self._wholes.append((np.concatenate(self._items), np.concatenate(self._scores)))
        self._items, self._scores = [], []

    def build(self) -> Neighbours:
        """All lists."""
        self._items.append(np.empty(0, np.int32))
        self._scores.append(np.empty(0, np.float32))
        self._unite()
        items, scores = zip(*self._wholes, strict=True)
        return Neighbours(np.cumsum(self._lengths), np.concatenate(items), np.concatenate(scores))
