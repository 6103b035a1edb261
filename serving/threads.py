"""Threads of the libraries that a serving process loads: one each. Requests run side by side; a library that spread one of them would hold up the others."""

from __future__ import annotations

import os
from typing import Final

_PINNED: Final = {
    "OMP_NUM_THREADS": "1",  # FAISS, LightGBM
    "OMP_WAIT_POLICY": "passive",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def pin() -> None:
    """Say so to libraries that are yet to be loaded, here and in the processes that this one starts; what the environment says already stays."""
    for name, value in _PINNED.items():
        os.environ.setdefault(name, value)
