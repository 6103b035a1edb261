"""How many threads the libraries may start: many for one large product, one where a request multiplies small matrices.

BLAS and OpenMP hand even a product of a request's size to every core, and their threads wait for one another busily: two processes that answer
requests side by side then take longer than one. They read their number of threads, and whether to wait busily, once, when they are loaded.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import forkserver, get_context
from typing import Any, Final

VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ARENAS: Final = "2"
_M_ARENA_MAX: Final = -8  # glibc's malloc.h
_WAIT: Final = "OMP_WAIT_POLICY"
_ONE: Final = dict.fromkeys(VARIABLES, "1") | {_WAIT: "passive"}


def be_patient() -> None:
    """Threads that wait sleep, unless the environment says otherwise: the cores are others' too. Before numpy, FAISS or LightGBM is imported."""
    os.environ.setdefault(_WAIT, "passive")


def pin() -> None:
    """One thread for each library in the process and its children, whatever the caller's environment says: a server. As early as `be_patient`.

    And two arenas of malloc rather than eight a core: requests go round the threads of a pool, and each arena would keep what its thread once needed.
    """
    os.environ.update(_ONE, MALLOC_ARENA_MAX=ARENAS)
    ctypes.CDLL(None).mallopt(_M_ARENA_MAX, int(ARENAS))


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread for each library that is loaded, within the block: requests are answered in it, one after the other."""
    from threadpoolctl import threadpool_limits  # not on a serving host, where `pin` has said it for good

    with threadpool_limits(1):
        yield


def answering(initializer: Callable[..., None], arguments: tuple[Any, ...]) -> ProcessPoolExecutor:
    """A process for every core, each on one thread, made ready by `initializer(*arguments)`: requests are answered in them, side by side."""
    with _told(_ONE):  # the processes are its children, and it is the first one's to start
        forkserver.ensure_running()
    return ProcessPoolExecutor(os.cpu_count(), get_context("forkserver"), initializer, arguments)


@contextlib.contextmanager
def _told(variables: Mapping[str, str]) -> Iterator[None]:
    """The environment with these, within the block."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
