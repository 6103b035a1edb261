"""Nearest columns by the compiled kernel (retrieval/native/nearest.c): the bits of retrieval/cosine.py's own way, several times sooner.

scipy writes a block of the product down before the strongest of it are looked for, row by row in Python. Where there is no compiler, `library` is None.
"""

# bazel: data=[//retrieval/native:all_files]

from __future__ import annotations

import ctypes
import functools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from core.columns import Array
from core.native import address, load_if_possible
from retrieval.sources.neighbours import Neighbours

_SOURCE: Final = Path(__file__).parent / "native" / "nearest.c"
_POINTER, _LONG = ctypes.c_void_p, ctypes.c_int64
_ENTRIES: Final = 1 << 19  # of the lists that a thread makes at a time: 4 MB
_NOTHING: Final = (np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0, np.float32))


class _Sparse(ctypes.Structure):
    _fields_ = [("starts", _POINTER), ("at", _POINTER), ("values", _POINTER)]


class _Csr:
    """A CSR matrix as the kernel reads it."""

    def __init__(self, matrix: Any) -> None:
        self._arrays = (
            np.ascontiguousarray(matrix.indptr, np.int64),
            np.ascontiguousarray(matrix.indices, np.int32),
            np.ascontiguousarray(matrix.data, np.float32),
        )
        self._struct = _Sparse(*[address(a) for a in self._arrays])
        self.address = ctypes.addressof(self._struct)


class _Room(threading.local):
    """Where a thread adds up the row of a product."""

    def __init__(self, columns: int, most: int) -> None:
        self._arrays = (
            np.empty(columns, np.float32),  # sums
            np.full(columns, -1, np.int32),  # the row that a sum is of
            np.empty(columns, np.int32),  # columns with a sum
            np.empty(most, np.uint64),  # the heap of the strongest
        )
        self.addresses = [address(a) for a in self._arrays]


class _Lists(NamedTuple):
    lengths: Array  # int64 [rows]
    items: Array  # int32 [sum of lengths]
    scores: Array  # float32, the same


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernel; None where it cannot be had, and the log says why."""
    compiled = load_if_possible(_SOURCE, "neighbours are found by scipy")
    if compiled is None:
        return None
    compiled.strongest_products.argtypes = [_POINTER] * 2 + [_LONG] * 3 + [_POINTER] * 7
    compiled.strongest_products.restype = _LONG
    return compiled


def nearest(kernel: Any, rows: Any, columns: Any, most: int) -> Neighbours:
    """The `most` greatest entries of each row of a product of CSR matrices float32, `[n, d]` times `[d, n]`, but for row i's entry i; ties by row."""
    n, most = columns.shape[1], min(most, columns.shape[1])
    a, b, room = _Csr(rows), _Csr(columns), _Room(n, most)

    def strongest(block: tuple[int, int]) -> _Lists:
        first, last = block
        lengths = np.empty(last - first, np.int64)
        items, scores = np.empty((last - first) * most, np.int32), np.empty((last - first) * most, np.float32)
        to = [address(a) for a in (items, scores, lengths)]
        found = kernel.strongest_products(a.address, b.address, first, last, most, *to, *room.addresses)
        return _Lists(lengths, items[:found].copy(), scores[:found].copy())

    at_once = max(1, _ENTRIES // max(1, most))
    bounds = [*range(0, rows.shape[0], at_once), rows.shape[0]]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        lists = list(pool.map(strongest, pairwise(bounds)))
    lengths, items, scores = map(np.concatenate, zip(*lists, strict=True)) if lists else _NOTHING
    return Neighbours(np.concatenate([[0], np.cumsum(lengths)]), items, scores)
