"""Sums by key over more rows than fit in memory: sort and add up runs, spill them by key range, merge each range on its own.

The result does not depend on timing or on how many processors there are: runs are added in the order in which they came.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from core.columns import Array

_RUN_ROWS = 4 << 20  # rows held before they are sorted and added up
_RANGE_ROWS = 16 << 20  # rows merged at once at the end


def summed(keys: Array, values: Array) -> tuple[Array, Array]:
    """Add up `values` float64 `[n, v]` by `keys` int64 `[n]`: ascending distinct keys and their sums, in the order of rows.

    >>> summed(np.array([7, 3, 7]), np.array([[1.0], [2.0], [4.0]]))
    (array([3, 7]), array([[2.],
           [5.]]))
    """
    if len(keys) == 0:
        return keys, values
    order = np.argsort(keys, kind="stable")
    keys, values = keys[order], values[order]
    first = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    return keys[first], np.add.reduceat(values, first, axis=0)


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
        self._runs: list[tuple[Path, Path, int]] = []

    def add(self, keys: Array, values: Array) -> None:
        """Add rows: `keys` int64 `[n]`, `values` `[n, v]`."""
        self._held.append((keys, np.asarray(values, np.float64)))
        self._held_rows += len(keys)
        if self._held_rows >= _RUN_ROWS:
            self._fold()

    def ranges(self, unit: int = 1) -> Iterator[tuple[Array, Array]]:
        """Distinct keys, ascending, with their sums, one key range at a time; no range ends within a multiple of `unit`."""
        if not self._runs:
            keys, values = self._take()
            if len(keys):
                yield keys, values
            return
        self._flush()
        runs = [(np.load(k, mmap_mode="r"), np.load(v, mmap_mode="r")) for k, v, _ in self._runs]
        low = 0
        for high in self._bounds([k for k, _ in runs], unit):
            spans = [(k, v, *np.searchsorted(k, [low, high])) for k, v in runs]
            keys = np.concatenate([k[a:b] for k, _, a, b in spans])
            values = np.concatenate([v[a:b] for _, v, a, b in spans])
            low = high
            if len(keys):
                yield summed(keys, values)

    def _take(self) -> tuple[Array, Array]:
        held, self._held, self._held_rows = self._held, [], 0
        if not held:
            return np.empty(0, np.int64), np.empty((0, self._values))
        return summed(np.concatenate([k for k, _ in held]), np.concatenate([v for _, v in held]))

    def _fold(self) -> None:
        """Add up what is held; spill it if adding up did not make it much smaller."""
        keys, values = self._take()
        self._held, self._held_rows = [(keys, values)], len(keys)
        if len(keys) >= _RUN_ROWS // 2:
            self._flush()

    def _flush(self) -> None:
        keys, values = self._take()
        if len(keys):
            paths = (
                self._spill / f"{id(self)}-{len(self._runs)}.keys.npy",
                self._spill / f"{id(self)}-{len(self._runs)}.values.npy",
            )
            np.save(paths[0], keys)
            np.save(paths[1], values)
            self._runs.append((*paths, len(keys)))

    def _bounds(self, runs: list[Array], unit: int) -> list[int]:
        """Upper ends of ranges that hold about `_RANGE_ROWS` rows each, by the quantiles of a sample of keys."""
        pieces = -(-sum(map(len, runs)) // _RANGE_ROWS)
        sample = np.sort(np.concatenate([k[:: max(1, len(k) // 4096)] for k in runs]))
        ends = [int(sample[len(sample) * p // pieces]) // unit * unit for p in range(1, pieces)]
        return [*sorted(set(ends) - {0}), self._n_keys]
