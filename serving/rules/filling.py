"""Fills a page place by place, under caps and for diversity: by the compiled kernel, or in numpy, which says what that does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from core.columns import Array
from serving.rules import compiled_filling
from serving.rules.caps import CapCount, Capped
from serving.rules.similarity import Alike

_SECOND: Final = 4  # more than any worth and likeness: the same for diversity
_NEVER: Final = np.float32(-np.inf)
_NOTHING: Final = -1


@dataclass(frozen=True)
class Diversity:
    """Maximal marginal relevance (Carbonell and Goldstein, 1998): worth of a place against likeness to what stands above.

    An item at place p (from 1) of the order is worth `1 / log2(1 + p)`, as in NDCG: so the level means the same whatever the scores are.
    """

    level: float
    first: int  # so many places are chosen so
    alike: Alike

    def worth(self, n: int, n_candidates: int) -> Array:
        """float32 `[n]`; what only fills stands behind all candidates."""
        worth = (1 - self.level) / _discounts(n)
        worth[n_candidates:] -= _SECOND
        return worth.astype(np.float32)


@dataclass(frozen=True)
class Line:
    """Items 0 to n - 1, best first, for the k places of a page."""

    n: int
    n_candidates: int  # the others only fill
    k: int
    fixed: Mapping[int, int]  # place -> item
    sponsored: Mapping[int, Array]  # place -> the items that may have it, bool `[n]`; not a fixed place
    caps: Sequence[Capped]
    diversity: Diversity | None


@dataclass(frozen=True)
class Filled:
    """A page."""

    page: list[int]  # fewer than k where no item was left that caps let in
    put: dict[int, int]  # item -> its place, where it is there as a sponsor's
    held: dict[int, int]  # item -> the cap that held it back where it would have come next
    first_held: int | None  # the cap that did so first


def fill(line: Line) -> Filled:
    """The page."""
    kernel = compiled_filling.library()
    if kernel is None:
        return counted(line)
    diversity = line.diversity
    worth = None if diversity is None else diversity.worth(line.n, line.n_candidates)
    m, page, put, held, first = compiled_filling.fill(
        kernel,
        line.n,
        line.k,
        line.fixed,
        line.sponsored,
        line.caps,
        None if diversity is None else (diversity.alike, diversity.level, diversity.first),
        worth,
    )
    filled = page[:m].tolist()
    back = np.flatnonzero(held != _NOTHING)
    return Filled(
        filled,
        {filled[place]: place for place in np.flatnonzero(put[:m]).tolist()},
        dict(zip(back.tolist(), held[back].tolist(), strict=True)),
        None if first == _NOTHING else first,
    )


def counted(line: Line) -> Filled:
    """The page, made in numpy."""
    filling = _Filling(line)
    filling.run()
    return Filled(filling.page, filling.put, filling.held, next(iter(filling.held.values()), None))


@lru_cache(maxsize=64)
def _discounts(n: int) -> Array:
    return np.log2(np.arange(2, n + 2))


class _Filling:
    def __init__(self, line: Line) -> None:
        self._k, self._fixed, self._sponsored = line.k, line.fixed, line.sponsored
        self._left = np.ones(line.n, bool)
        self._left[list(line.fixed.values())] = False
        self._blocks = np.zeros(line.n, np.int32)
        self._caps = [CapCount(cap, line.k, line.fixed, self._blocks) for cap in line.caps]
        self._unseen = self._left.copy()  # what is left, and no cap was seen to hold back
        self._diverse = None if line.diversity is None else _Diverse(line.diversity, line)
        self._first = 0 if line.diversity is None else line.diversity.first
        self.page: list[int] = []
        self.put: dict[int, int] = {}
        self.held: dict[int, int] = {}

    def run(self) -> None:
        """Fill the page."""
        for place in range(self._k):
            at = self._fixed[place] if place in self._fixed else self._next(place)
            if at == _NOTHING:
                return
            self._left[at] = self._unseen[at] = False
            self.page.append(at)
            for count in self._caps:
                count.put(at)
            if self._diverse is not None and place + 1 < self._first:
                self._diverse.put(at)

    def _next(self, place: int) -> int:
        """The item for a place; _NOTHING where nothing fits."""
        able = self._left & (self._blocks == 0)
        if place in self._sponsored:
            paid = able & self._sponsored[place]
            at = int(paid.argmax())
            if paid[at]:
                self.put[at] = place
                return at
        at = int(able.argmax())
        if not able[at]:
            self._note(len(able))
            return _NOTHING
        self._note(at)
        return at if self._diverse is None or place >= self._first else self._diverse.best(able)

    def _note(self, end: int) -> None:
        """Caps hold back what is left before `end`."""
        if not self._caps:
            return
        for at in np.flatnonzero(self._unseen[:end]).tolist():
            self._unseen[at] = False
            self.held[at] = next(n for n, count in enumerate(self._caps) if count.holds_back(at))


class _Diverse:
    def __init__(self, by: Diversity, line: Line) -> None:
        self._level, self._against = np.float32(by.level), by.alike.to
        self._worth = by.worth(line.n, line.n_candidates)
        self._nearest = np.zeros(line.n, np.float32)  # likeness to the most alike item above

    def put(self, at: int) -> None:
        """An item stands on the page."""
        np.maximum(self._nearest, self._against(at), out=self._nearest)

    def best(self, able: Array) -> int:
        """The best of what can come next."""
        return int(np.where(able, self._worth - self._level * self._nearest, _NEVER).argmax())
