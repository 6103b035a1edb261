"""Filling a page by a compiled kernel (serving/rules/native/filling.c): what serving/rules/filling.py does in numpy, to the bit, and many times sooner.

Where there is no compiler, `library` is None, and pages are filled in numpy.
"""

# bazel: data=[//serving/rules/native:all_files]

from __future__ import annotations

import ctypes
import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.columns import Array
from core.native import Scratch, address, load_if_possible
from serving.rules.caps import Capped
from serving.rules.similarity import Alike, AlikePaths

_SOURCE: Final = Path(__file__).parent / "native" / "filling.c"
_POINTER, _LONG = ctypes.c_void_p, ctypes.c_int64
_NOTHING: Final = -1
_NO_DIVERSITY, _BY_VECTORS, _BY_PATHS = range(3)

_scratch: Final = Scratch()


class _Cap(ctypes.Structure):
    _fields_ = [*((name, _LONG) for name in ("most", "window", "t")), ("codes", _POINTER), ("owner", _POINTER)]


class _Request(ctypes.Structure):
    _fields_ = [
        *((name, _LONG) for name in ("n", "k", "n_caps")),
        *((name, _POINTER) for name in ("fixed", "sponsored", "paid", "caps")),
        *((name, _LONG) for name in ("likeness", "first", "d")),
        *(("worth", _POINTER), ("level", ctypes.c_double)),
        *((name, _POINTER) for name in ("vectors", "paths", "depth", "page", "put", "held", "first_held")),
    ]


@functools.cache
def library() -> ctypes.CDLL | None:
    """The kernel; None where it cannot be had, and the log says why."""
    compiled = load_if_possible(_SOURCE, "pages are filled by numpy")
    if compiled is None:
        return None
    compiled.scratch_bytes.argtypes, compiled.scratch_bytes.restype = [_POINTER], _LONG
    compiled.fill.argtypes, compiled.fill.restype = [_POINTER, _POINTER], _LONG
    return compiled


def fill(
    kernel: Any,
    n: int,
    k: int,
    fixed: Mapping[int, int],
    sponsored: Mapping[int, Array],
    caps: Sequence[Capped],
    diversity: tuple[Alike, float, int] | None,
    worth: Array | None,
) -> tuple[int, Array, Array, Array, int]:
    """Fill the page of a line (serving.rules.filling.Line).

    Args:
        kernel: The library.
        n: Items.
        k: Places.
        fixed: Place -> item.
        sponsored: Place -> bool `[n]`.
        caps: Of each value.
        diversity: Likeness, level and number of places; None: by order alone.
        worth: float32 `[n]`, with `diversity`.

    Returns:
        Places filled; the page, int32 `[k]`; which places sponsors have, uint8 `[k]`; of each item the cap that held it back or -1, int32 `[n]`; the
        cap that did so first, or -1.
    """
    at_places, of_sponsors = np.full((2, k), _NOTHING, np.int32)
    for place, item in fixed.items():
        at_places[place] = item
    for row, place in enumerate(sponsored):
        of_sponsors[place] = row
    paid = np.array(list(sponsored.values()), bool)
    values = [(np.ascontiguousarray(c.codes, np.int32), np.ascontiguousarray(c.owner, np.int64)) for c in caps]
    structs = (_Cap * len(caps))(
        *(
            _Cap(cap.most, cap.window, len(codes), address(codes), address(owner))
            for cap, (codes, owner) in zip(caps, values, strict=True)
        )
    )
    page, held, first_held = np.empty(k, np.int32), np.empty(n, np.int32), np.empty(1, np.int32)
    put = np.empty(k, np.uint8)
    likeness, level, first, vectors, paths, depth = _NO_DIVERSITY, 0.0, 0, None, None, None
    if diversity is not None:
        alike, level, first = diversity
        likeness, columns = (_BY_PATHS if isinstance(alike, AlikePaths) else _BY_VECTORS), alike.columns
        if isinstance(alike, AlikePaths):
            paths, depth = columns, alike.depth
        else:
            vectors = columns
    request = _Request(
        *(n, k, len(caps), address(at_places), address(of_sponsors), address(paid), ctypes.addressof(structs)),
        *(likeness, first, 0 if diversity is None else len(columns)),
        *(_at(worth), float(np.float32(level)), _at(vectors), _at(paths), _at(depth)),
        *(address(page), address(put), address(held), address(first_held)),
    )
    where = ctypes.addressof(request)
    filled = kernel.fill(where, _scratch.of(kernel.scratch_bytes(where)))
    return filled, page, put, held, int(first_held[0])


def _at(array: Array | None) -> int | None:
    return None if array is None else address(array)
