"""One thread for each library that would start its own: a request multiplies small matrices, and many requests and workers share the cores.

These libraries read their number of threads once, when they are loaded: call `pin` before numpy, FAISS or LightGBM is imported. Processes that are
started later inherit it.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ARENAS: Final = "2"
_M_ARENA_MAX: Final = -8  # glibc's malloc.h


def pin() -> None:
    """For the process and its children, whatever the caller's environment says.

    And two arenas of malloc rather than eight a core: requests go round the threads of a pool, and each arena would keep what its thread once needed.
    """
    os.environ.update(dict.fromkeys(VARIABLES, "1"), OMP_WAIT_POLICY="passive", MALLOC_ARENA_MAX=ARENAS)
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, int(ARENAS))
