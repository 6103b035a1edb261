"""The compiled tree kernel (ranking/native/kernel.c; core.native compiles it where Aisle runs), and how any kernel is given rows.

A machine without a compiler has LightGBM's predict instead (ranking/scorer.py).
"""

# bazel: data=[//ranking/native:all_files]

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.columns import Array
from core.native import Scratch, address, load
from ranking.layout import Layout
from ranking.trees import Forest

SOURCE: Final = Path(__file__).parent / "native" / "kernel.c"

# (name, array of the layout); the kernel's struct has them in this order after the two counts
_POINTERS: Final = (
    *("feature", "table", "steps", "count", "columns", "thresholds", "kind", "set", "bits"),
    *("nodes", "column", "rank", "source", "target", "start", "leaf"),
)


class _Forest(ctypes.Structure):
    _fields_ = [
        ("trees", ctypes.c_int64),
        ("features", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    ]


class RowKernel:
    """A function of a library that goes through rows of features with a plan: `(plan, rows, n, row step, feature step, out, scratch)`.

    Args:
        function: It.
        plan: What it works by; every array that it points into must live as long as this.
        features: Columns of the rows.
        room: Bytes of scratch that it wants.
    """

    def __init__(self, function: Any, plan: ctypes.Structure, features: int, room: int) -> None:
        function.argtypes = [ctypes.c_void_p] * 2 + [ctypes.c_int64] * 3 + [ctypes.c_void_p] * 2
        function.restype = None
        self._function, self._plan, self._features, self._room = function, plan, features, room
        self._at, self._scratch = ctypes.addressof(plan), Scratch()

    def __call__(self, rows: Array, out: Array) -> Array:
        """Fill `out` from float32 `[n, F]`, in any memory order, and return it.

        Raises:
            ValueError: if `rows` is of another type or width.
        """
        if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != self._features:
            raise ValueError(f"rows of {rows.dtype} {list(rows.shape)}, expected float32 [n, {self._features}]")
        if not rows.flags.aligned or any(s % rows.itemsize for s in rows.strides):
            rows = np.ascontiguousarray(rows)
        by_row, by_feature = (s // rows.itemsize for s in rows.strides)
        scratch = self._scratch.of(self._room)
        self._function(self._at, address(rows), len(rows), by_row, by_feature, address(out), scratch)
        return out


class NativeKernel:
    """Evaluates a forest with the compiled kernel: exact, without the GIL, from any number of threads."""

    def __init__(self, forest: Forest) -> None:
        """Lay `forest` out for the kernel.

        Raises:
            UnsupportedModelError: if it is beyond the kernel's integers.
            EnvironmentGapError: if the kernel cannot be built here.
        """
        layout = Layout.of(forest)
        word = np.dtype(layout.word).itemsize
        library = load(SOURCE, word)
        library.tile_rows.restype = ctypes.c_int64
        self.n_features = forest.features
        self._layout = layout  # the plan points into its arrays
        plan = _Forest(forest.trees, len(layout.feature), *(address(getattr(layout, name)) for name in _POINTERS))
        self._score = RowKernel(library.score, plan, forest.features, len(layout.kind) * library.tile_rows() * word)

    def predict(self, rows: Array) -> Array:
        """float32 `[n, F]`, in any memory order, NaN and infinities allowed -> float64 `[n]`, the bits of LightGBM's raw prediction.

        Raises:
            ValueError: if `rows` is of another type or width.
        """
        return self._score(rows, np.empty(len(rows), np.float64))
