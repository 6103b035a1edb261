"""Sources of few items by the compiled kernel (core/kernels/candidates.c): what evidence.py, opinion.py and own_frequency.py do in numpy, to the bit."""

from __future__ import annotations

import ctypes
import functools
from typing import Any, Final

import numpy as np

from core.columns import Array
from core.compiled import LONG, POINTER, Asked, Column, scratch
from core.history import Query
from core.native import address

_EVENT_BYTES: Final = 24  # of spare room in `own`


class Lists(ctypes.Structure):
    """Neighbour lists as the kernel reads them; the arrays must outlive it."""

    _fields_ = [("n_items", LONG), ("starts", POINTER), ("items", POINTER), ("scores", POINTER)]


class Opinion:
    """See core.candidates.Scoring. Scores of the items that a query has evidence for; 0 for every other item.

    Args:
        kernel: The library.
        room: Items at most.
    """

    def __init__(self, kernel: Any, room: int) -> None:
        self._kernel, self._room = kernel, room
        self._memory = np.empty(kernel.opinion_bytes(room), np.uint8)
        self.address = address(self._memory)

    def top(self, k: int, excluded: Array) -> tuple[Array, Array]:
        """See core.candidates.Scoring."""
        k = max(0, min(k, self._room))
        rows, scores = np.empty(k, np.int32), np.empty(k, np.float32)
        excluded = np.ascontiguousarray(excluded, np.int32)
        keys = scratch.of(8 * self._room)
        n = self._kernel.top(self.address, k, address(excluded), len(excluded), address(rows), address(scores), keys)
        return rows[:n], scores[:n]

    def column(self, k: int, excluded: Array) -> tuple[Column, int, Array | None]:
        """See core.compiled.Compiled."""
        return Column(max(0, min(k, self._room)), self.address), self._room, self._memory

    def of(self, rows: Array) -> Array:
        """See core.candidates.Scoring."""
        rows, scores = np.ascontiguousarray(rows, np.int32), np.empty(len(rows), np.float32)
        self._kernel.of(self.address, address(rows), len(rows), address(scores))
        return scores


def seeds(kernel: Any, query: Query, n_items: int, limit: int, recency: float) -> tuple[Array, Array]:
    """See retrieval.sources.evidence.seeds."""
    asked = Asked.of(query)
    rows, weights = np.empty(asked.most, np.int32), np.empty(asked.most, np.float64)
    n = kernel.seeds(
        asked.address,
        n_items,
        limit,
        address(_powers(recency, 1 << (asked.events + 2).bit_length())),
        address(rows),
        address(weights),
        scratch.of(kernel.opinion_bytes(asked.most)),
    )
    return rows[:n], weights[:n]


@functools.lru_cache(maxsize=64)
def _powers(recency: float, n: int) -> Array:
    """P ** -recency for p from 0 up to n, float64: as numpy computes it. Place 0 is not used."""
    places = np.arange(n, dtype=np.float64)
    places[0] = 1.0
    return places**-recency


def own(kernel: Any, query: Query, popularity: Array, purchase: int, returned: int) -> Opinion:
    """See retrieval.sources.own_frequency.OwnFrequency.scoring. `purchase`, `returned`: codes of the event types."""
    asked = Asked.of(query)
    made = Opinion(kernel, asked.events)
    spare = scratch.of(_EVENT_BYTES * asked.events)
    kernel.own(asked.address, address(popularity), len(popularity), purchase, returned, made.address, spare)
    return made
