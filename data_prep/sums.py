"""Sums by key over more rows than fit in memory: sort and add up runs, spill them by key range, merge each range on its own.

The result does not depend on timing or on how many processors there are: runs are added in the order in which they came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import numpy as np

from core.columns import Array

_RUN_ROWS = 4 << 20  # rows held before they are sorted and added up
_RANGE_ROWS = 1 << 19  # rows merged at once at the end
_THREADS: Final = 2  # numpy lets go of the interpreter while it sorts and adds
_SIGNED_BITS: Final = 63

T = TypeVar("T")
R = TypeVar("R")


def in_order(work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """`work` of each item, in their order, by two threads that are never more than a few items ahead."""
    with ThreadPoolExecutor(_THREADS) as pool:
        ahead: deque[Future[R]] = deque()
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > _THREADS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def ascending(keys: Array) -> tuple[Array, Array]:
    """Sorted int64 `[n]` keys and the stable order that sorts them.

    Where key and position fit into 63 bits together, they are sorted as one number: numpy sorts plain numbers ten times as fast as it
    finds an order.
    """
    if len(keys) == 0:
        return keys, np.empty(0, np.int64)
    low, bits = int(keys.min()), (len(keys) - 1).bit_length()
    if (int(keys.max()) - low).bit_length() + bits > _SIGNED_BITS:
        order = np.argsort(keys, kind="stable")
        return keys[order], order
    packed = keys - low
    packed <<= bits
    packed |= np.arange(len(keys))
    packed.sort()
    order = packed & ((1 << bits) - 1)
    packed >>= bits
    packed += low
    return packed, order


def distinct(numbers: Array) -> Array:
    """Sorted distinct values; numpy's own `unique` hashes integers, which takes a hundred times as long as sorting them."""
    found = np.sort(numbers)
    return found[np.concatenate([[True], found[1:] != found[:-1]])] if len(found) else found


def summed(keys: Array, values: Array) -> tuple[Array, Array]:
    """Add up `values` float64 `[v, n]` by `keys` int64 `[n]`: ascending distinct keys and their sums, in the order of rows.

    >>> summed(np.array([7, 3, 7]), np.array([[1.0, 2.0, 4.0]]))
    (array([3, 7]), array([[2., 5.]]))
    """
    if len(keys) == 0:
        return keys, values
    keys, order = ascending(keys)
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    sums = np.empty((len(values), len(first)))
    for row, column in zip(sums, values, strict=True):
        np.add.reduceat(column[order], first, out=row)
    return keys[first], sums


class KeyedSums:
    """Collects (key, values) rows for keys in `[0, n_keys)`; `ranges` gives the sums in key order.

    Args:
        n_keys: One past the largest key.
        values: Number of values a key.
        spill: An existing folder for what does not fit in memory.
    """

    def __init__(self, n_keys: int, values: int, spill: Path) -> None:
        self._n_keys, self._values, self._spill = n_keys, values, spill
        self._held: list[tuple[Array, Array]] = []
        self._held_rows = 0
        self._runs: list[tuple[Array, Array]] = []

    def add(self, keys: Array, values: Array) -> None:
        """Add rows: `keys` int64 `[n]`, `values` `[v, n]`."""
        self._held.append((keys, np.asarray(values, np.float64)))
        self._held_rows += len(keys)
        if self._held_rows >= _RUN_ROWS:
            self._fold()

    def ranges(self, unit: int = 1) -> Iterator[tuple[Array, Array]]:
        """Distinct keys, ascending, with their sums, one key range at a time; no range ends within a multiple of `unit`."""
        low = 0
        for high in self.ends(unit):
            keys, values = self.between(low, high)
            low = high
            if len(keys):
                yield keys, values

    def ends(self, unit: int) -> list[int]:
        """Upper ends of key ranges that hold about `_RANGE_ROWS` rows each, by the quantiles of a sample of keys; the last is `n_keys`."""
        self._settle()
        pieces = -(-sum(len(k) for k, _ in self._runs) // _RANGE_ROWS)
        if pieces <= 1:
            return [self._n_keys]
        sample = np.sort(np.concatenate([k[:: max(1, len(k) // 4096)] for k, _ in self._runs]))
        ends = [int(sample[len(sample) * p // pieces]) // unit * unit for p in range(1, pieces)]
        return [*sorted(set(ends) - {0}), self._n_keys]

    def between(self, low: int, high: int) -> tuple[Array, Array]:
        """Distinct keys in `[low, high)`, ascending, with their sums. Threads may ask after `ends` has been called, if nothing is added."""
        self._settle()
        spans = [(k, v, *np.searchsorted(k, [low, high])) for k, v in self._runs]
        spans = [s for s in spans if s[2] < s[3]]
        if not spans:
            return np.empty(0, np.int64), np.empty((self._values, 0))
        keys = np.concatenate([k[a:b] for k, _, a, b in spans])
        values = np.concatenate([v[:, a:b] for _, v, a, b in spans], axis=1)
        return (keys, values) if len(spans) == 1 else summed(keys, values)

    def _take(self) -> tuple[Array, Array]:
        held, self._held, self._held_rows = self._held, [], 0
        return summed(np.concatenate([k for k, _ in held]), np.concatenate([v for _, v in held], axis=1))

    def _fold(self) -> None:
        """Add up what is held; spill it if adding up did not make it much smaller."""
        keys, values = self._take()
        if len(keys) < _RUN_ROWS // 2:
            self._held, self._held_rows = [(keys, values)], len(keys)
            return
        name = f"{id(self)}-{len(self._runs)}"
        parts = [self._spill / f"{name}.{part}.npy" for part in ("keys", "values")]
        for path, array in zip(parts, (keys, values), strict=True):
            np.save(path, array)
        self._runs.append((np.load(parts[0], mmap_mode="r"), np.load(parts[1], mmap_mode="r")))

    def _settle(self) -> None:
        """What is still held is the last run, in memory."""
        if self._held:
            self._runs.append(self._take())
