"""Memory-mapped arrays with room for more rows behind them, and without a copy.

The file is mapped privately over the start of a larger reserved range: its pages stay shared with every process that maps it until one of them is
written to, and what lies behind them takes no memory before it is used. So a catalogue of millions can take new rows, and changes of old ones, at
the cost of the pages that they touch. Linux only: Python's `mmap` can neither choose an address nor reach beyond the end of a file.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from typing import Any, Final

import numpy as np

from core.columns import Array

_READ_WRITE: Final = mmap.PROT_READ | mmap.PROT_WRITE
_FIXED, _NO_RESERVE = 0x10, 0x4000  # Linux; absent from Python's mmap
_FAILED: Final = ctypes.c_void_p(-1).value
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def with_room(array: Array, rows: int) -> Array:
    """The same values `[n, ...]`, writable, with `rows` more of zeros: `[n + rows, ...]`. Writing changes no file and no other process.

    Args:
        array: As core.columns.load_array maps it; any other array is copied.
        rows: How many more.

    Raises:
        OSError: The file is gone, or the system has no addresses left.
    """
    shape = (len(array) + rows, *array.shape[1:])
    source = _mapping(array)
    if source is None:
        roomy = np.zeros(shape, array.dtype)  # untouched zeros take no memory either
        roomy[: len(array)] = array
        return roomy
    aligned = source.offset // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
    before = source.offset - aligned
    length = before + array.dtype.itemsize * int(np.prod(shape))
    address = _map(None, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _NO_RESERVE, -1, 0)
    memory = (ctypes.c_char * length).from_address(address)
    weakref.finalize(memory, _libc.munmap, address, length)
    fd = os.open(source.filename, os.O_RDONLY)
    try:
        _map(address, before + array.nbytes, mmap.MAP_PRIVATE | _FIXED | _NO_RESERVE, fd, aligned)
    finally:
        os.close(fd)
    # numpy holds `memory`, and with it the range, as long as any view is in use
    return np.frombuffer(memory, array.dtype, int(np.prod(shape)), before).reshape(shape)


def _mapping(array: Array) -> Any:
    """The np.memmap whose whole this array is; None for another array."""
    base: Any = array
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    # a memmap that was sliced has another size than its file says, one in column order another layout
    whole = isinstance(base, np.memmap) and base.nbytes == array.nbytes and isinstance(base.base, mmap.mmap)
    return base if whole and array.nbytes and array.flags.c_contiguous else None


def _map(address: int | None, length: int, flags: int, fd: int, offset: int) -> int:
    found = _libc.mmap(address, length, _READ_WRITE, flags, fd, offset)
    if found == _FAILED or found is None:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(found)
