"""C kernels: compiled where Aisle runs, for the processor it runs on, and kept beside the packages.

A release holds portable arrays only, so that it can be served on any machine. The compiler runs once an installation for each kernel, for a third of a
second, when it is first asked for; a machine without one does the same in numpy, or with a library, slower. Kernels are freestanding C of one file: no
headers are needed, no state is theirs, and ctypes lets go of the interpreter while they run.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import logging
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

_LOG: Final = logging.getLogger(__name__)
_COMPILERS: Final = ("cc", "gcc", "clang")
# no fused multiply-add: a kernel gives the bits of its numpy twin
_FLAGS: Final = (
    *("-std=gnu11", "-O3", "-march=native", "-ffp-contract=off", "-fPIC", "-shared", "-ffreestanding", "-nostdlib"),
)
_PATIENCE: Final = 120  # seconds; it takes less than one
_ALIGNMENT: Final = 64  # bytes, of the widest vectors there are
_HEAD: Final = object.__basicsize__
_pointer_at: Final = ctypes.c_void_p.from_address


@functools.cache
def load(source: Path, word: int = 1, folder: Path | None = None) -> ctypes.CDLL:
    """The library of a C file, compiled into `folder` (default: this installation's) if it is not there; the macro WORD is `word`.

    Raises:
        EnvironmentGapError: if it is not there and no compiler makes it.
    """
    folder = folder or Path(sys.prefix) / "aisle-kernel"
    path = folder / f"{_key(source, word)}.so"
    try:
        if not path.exists():
            folder.mkdir(exist_ok=True)
            with atomic.new_file(path) as beside:
                build(beside, source, word)
        return ctypes.CDLL(str(path))
    except OSError:  # an installation that only others may write to (or a library that does not load): build one for this process alone
        with tempfile.TemporaryDirectory(prefix="aisle-kernel-") as own:
            build(Path(own) / path.name, source, word)
            return _loaded(Path(own) / path.name)


def load_if_possible(source: Path, otherwise: str) -> ctypes.CDLL | None:
    """`load`; None where it cannot be had, and the log says why, and what is slower for it: "candidates are gathered by numpy"."""
    try:
        return load(source)
    except EnvironmentGapError as reason:
        _LOG.warning("%s, several times slower: %s", otherwise, reason)
        return None


def _loaded(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as e:
        raise EnvironmentGapError(f"the compiled kernel does not load ({e})") from None


def build(path: Path, source: Path, word: int = 1) -> None:
    """Compile a C file into the library `path`.

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
        raise EnvironmentGapError(f"{compiler} took more than {_PATIENCE} s for {source.name}") from None
    if run.returncode:
        lines = (run.stderr or f"exit status {run.returncode}").strip().splitlines()
        raise EnvironmentGapError(f"{compiler} does not compile {source.name}: {lines[0]}")


def _key(source: Path, word: int) -> str:
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


def address(array: Array) -> int:
    """Where the first element of an array lies; the array must outlive its use.

    It stands behind the head of the object: `PyArrayObject_fields` of numpy's ABI, as compiled extensions read it. To ask numpy's
    `__array_interface__` takes a microsecond, and a request needs a hundred.
    """
    return _pointer_at(id(array) + _HEAD).value or 0


def aligned(size: int) -> Array:
    """Room of so many bytes that begins at a vector's boundary."""
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    return raw[-address(raw) % _ALIGNMENT :][:size]


class Scratch(threading.local):
    """Each thread's own room for a kernel to work in, which grows as it must."""

    def __init__(self) -> None:
        self._size, self._address = 0, 0
        self._room: Array | None = None

    def of(self, size: int) -> int:
        """The address of at least so many bytes, for the calling thread until it asks again."""
        if size > self._size:
            self._room = aligned(size)
            self._size, self._address = size, address(self._room)
        return self._address
