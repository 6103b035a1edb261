"""The compiled kernel of candidates (core/kernels/candidates.c), for gathering and for the sources: the bits of the numpy functions, several times sooner.

A request asks a handful of sources about a history of some tens of events: numpy spends its time on being called. Where there is no compiler,
`library` is None, and who asks does it in numpy.
"""

# bazel: data=[//core/kernels:all_files]

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np

from core.columns import Array
from core.history import Query
from core.native import Scratch, address, load_if_possible

SOURCE: Final = Path(__file__).parent / "kernels" / "candidates.c"
POINTER, LONG = ctypes.c_void_p, ctypes.c_int64
_ARGUMENTS: Final[dict[str, tuple[Any, ...]]] = {
    "opinion_bytes": (LONG,),
    "seeds": (POINTER, LONG, LONG, POINTER, POINTER, POINTER, POINTER),
    "entries": (POINTER, POINTER, LONG),
    "near": (POINTER, POINTER, POINTER, LONG, LONG, LONG, POINTER),
    "strongest_for": (POINTER, POINTER, POINTER, LONG, ctypes.c_int32),
    "own": (POINTER, POINTER, LONG, ctypes.c_int32, ctypes.c_int32, POINTER, POINTER),
    "top": (POINTER, LONG, POINTER, LONG, POINTER, POINTER, POINTER),
    "of": (POINTER, POINTER, LONG, POINTER),
    "window": (POINTER, POINTER, LONG, ctypes.c_int32, LONG, LONG, POINTER, LONG, POINTER),
    "gather_bytes": (LONG, LONG),
    "gather": (POINTER, LONG, LONG, POINTER, LONG, LONG, LONG, POINTER, POINTER, POINTER, POINTER),
}
_SILENT: Final = ("near", "own", "of")

scratch: Final = Scratch()


class Column(ctypes.Structure):
    """What one source proposes and scores, as the kernel reads it: `most` items of an opinion, or the `most` items of a list with dense scores, if any."""

    _fields_ = [("most", LONG), *((name, POINTER) for name in ("opinion", "list", "dense")), ("n_dense", LONG)]


class Compiled(Protocol):
    """A scoring whose best and whose scores the kernel can take by itself."""

    def column(self, k: int, excluded: Array) -> tuple[Column, int, Array | None]:
        """What the kernel reads for the best k outside `excluded`, how many items the opinion may hold, and what must live as long as it is read."""


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernel; None where it cannot be had, and the log says why."""
    compiled = load_if_possible(SOURCE, "candidates are gathered by numpy")
    if compiled is None:
        return None
    for name, arguments in _ARGUMENTS.items():
        function = getattr(compiled, name)
        function.argtypes, function.restype = arguments, None if name in _SILENT else LONG
    return compiled


class _Query(ctypes.Structure):
    _fields_ = [
        *(("h", LONG), ("items", POINTER), ("times", POINTER), ("types", POINTER), ("gains", POINTER)),
        *(("c", LONG), ("page", POINTER)),
    ]


class Asked:
    """A query as the kernel reads it."""

    def __init__(self, query: Query) -> None:
        h = query.history
        arrays = [
            np.ascontiguousarray(a, dtype)
            for a, dtype in (
                *((h.items, np.int32), (h.times, np.int64), (h.types, np.int8), (h.gains, np.float32)),
                (query.context, np.int32),
            )
        ]
        self._arrays = arrays  # the struct points into them
        items, times, types, gains, page = map(address, arrays)
        self.events, self.most = len(h), len(h) + len(query.context)
        self._struct = _Query(len(h), items, times, types, gains, len(query.context), page)
        self.address = ctypes.addressof(self._struct)

    @classmethod
    def of(cls, query: Query) -> Asked:
        """Made once for a query."""
        made: Asked | None = query.notes.get(cls)
        if made is None:
            made = query.notes[cls] = cls(query)
        return made
