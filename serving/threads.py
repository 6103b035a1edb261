"""One thread for each library that would start its own: a request multiplies small matrices, and many requests and workers share the cores.

These libraries read their number of threads once, when they are loaded: call `pin` before numpy, FAISS or LightGBM is imported. Processes that are
started later inherit it.
"""

from __future__ import annotations

import os
from typing import Final

VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def pin() -> None:
    """For the process and its children, whatever the caller's environment says."""
    os.environ.update(dict.fromkeys(VARIABLES, "1"), OMP_WAIT_POLICY="passive")
