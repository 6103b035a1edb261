"""The compiled tree kernel: built from ranking/native/kernel.c where Aisle runs, for the processor it runs on, and kept beside the packages.

A release holds portable arrays only, so that it can be served on any machine. The compiler runs once an installation, for a third of a second,
when the first ranker is opened; a machine without one has LightGBM's predict instead (ranking/scorer.py).
"""

# bazel: data=[//ranking/native:all_files]

from __future__ import annotations

import ctypes
import functools
import hashlib
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any, Final

import numpy as np

from core import atomic
from core.columns import Array
from core.errors import EnvironmentGapError
from ranking.layout import Layout
from ranking.trees import Forest

_SOURCE: Final = Path(__file__).parent / "native" / "kernel.c"
_COMPILERS: Final = ("cc", "gcc", "clang")
_FLAGS: Final = ("-std=gnu11", "-O3", "-march=native", "-fPIC", "-shared", "-ffreestanding", "-nostdlib")
_PATIENCE: Final = 120  # seconds; it takes less than one
_ALIGNMENT: Final = 64  # bytes, of the widest vectors there are

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


class NativeKernel:
    """Evaluates a forest with the compiled kernel: exact, without the GIL, from any number of threads."""

    def __init__(self, forest: Forest) -> None:
        """Lay `forest` out for the kernel.

        Raises:
            UnsupportedModelError: if it is beyond the kernel's integers.
            EnvironmentGapError: if the kernel cannot be built here.
        """
        layout = Layout.of(forest)
        library = load(np.dtype(layout.word).itemsize)
        self.n_features = forest.features
        self._score = library.score
        self._score.argtypes = [
            ctypes.POINTER(_Forest),
            *(ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p),
        ]
        self._score.restype = None
        library.tile_rows.restype = ctypes.c_int64
        arrays = [getattr(layout, name) for name in _POINTERS]
        self._layout = layout  # the struct points into its arrays
        self._forest = _Forest(forest.trees, len(layout.feature), *(a.ctypes.data for a in arrays))
        self._room = len(layout.kind) * library.tile_rows() * np.dtype(layout.word).itemsize
        self._local = threading.local()

    def predict(self, rows: Array) -> Array:
        """float32 `[n, F]`, in any memory order, NaN and infinities allowed -> float64 `[n]`, the bits of LightGBM's raw prediction.

        Raises:
            ValueError: if `rows` is of another type or width.
        """
        if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != self.n_features:
            raise ValueError(f"rows of {rows.dtype} {list(rows.shape)}, expected float32 [n, {self.n_features}]")
        if not rows.flags.aligned or any(s % rows.itemsize for s in rows.strides):
            rows = np.ascontiguousarray(rows)
        scores = np.empty(len(rows), np.float64)
        by_row, by_feature = (s // rows.itemsize for s in rows.strides)
        self._score(
            self._forest,
            rows.ctypes.data,
            len(rows),
            by_row,
            by_feature,
            scores.ctypes.data,
            self._scratch().ctypes.data,
        )
        return scores

    def _scratch(self) -> Array:
        """The calling thread's room for ranks."""
        room: Array | None = getattr(self._local, "room", None)
        if room is None:
            raw = np.empty(self._room + _ALIGNMENT, np.uint8)
            room = self._local.room = raw[-raw.ctypes.data % _ALIGNMENT :]
        return room


@functools.cache
def load(word: int, folder: Path | None = None, source: Path = _SOURCE) -> ctypes.CDLL:
    """The library for ranks of `word` bytes (1 or 2), compiled into `folder` (default: this installation's) if it is not there.

    `source` is another C file of ranking/native.

    Raises:
        EnvironmentGapError: if it is not there and no compiler makes it.
    """
    folder = folder or Path(sys.prefix) / "aisle-kernel"
    path = folder / f"{_key(word, source)}.so"
    try:
        if not path.exists():
            folder.mkdir(exist_ok=True)
            with atomic.new_file(path) as beside:
                build(beside, word, source)
        return ctypes.CDLL(str(path))
    except OSError:  # an installation that only others may write to (or a library that does not load): build one for this process alone
        with tempfile.TemporaryDirectory(prefix="aisle-kernel-") as own:
            build(Path(own) / path.name, word, source)
            return _loaded(Path(own) / path.name)


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as e:
        raise EnvironmentGapError(f"the compiled tree kernel does not load ({e})") from None


def build(path: Path, word: int, source: Path = _SOURCE) -> None:
    """Compile the library for ranks of `word` bytes into the file `path`.

    Raises:
        EnvironmentGapError: if there is no compiler, or it fails.
    """
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        raise EnvironmentGapError(f"no C compiler ({', '.join(_COMPILERS)}) on PATH: apt-get install gcc brings one")
    command = [compiler, *_FLAGS, f"-DWORD={word}", str(source), "-o", str(path)]
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False, timeout=_PATIENCE
        )
    except subprocess.TimeoutExpired:
        raise EnvironmentGapError(f"{compiler} took more than {_PATIENCE} s for the tree kernel") from None
    if run.returncode:
        lines = (run.stderr or f"exit status {run.returncode}").strip().splitlines()
        raise EnvironmentGapError(f"{compiler} does not compile the tree kernel: {lines[0]}")


def _key(word: int, source: Path) -> str:
    """Names what the library depends on: its source, how it is compiled, and the processor."""
    what: list[Any] = [source.read_text(), *_FLAGS, word, platform.machine(), *_processor()]
    return hashlib.sha256("\0".join(map(str, what)).encode()).hexdigest()[:20]


def _processor() -> list[str]:
    """What Linux says of the first core that decides which instructions there are."""
    try:
        with open("/proc/cpuinfo") as f:
            first = f.read(8192).split("\n\n")[0]  # a machine of many cores has many of them
    except OSError:
        return [platform.processor()]
    names = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
    return [line for line in first.splitlines() if line.partition(":")[0].strip() in names]
