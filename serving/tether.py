"""Ties a process to the one that started it: when that one dies, however it dies, the kernel sends SIGTERM here.

Run as a program it becomes another one, tied: `python tether.py PARENT_PID PROGRAM ARGUMENT...`. It needs the standard library alone, so that
`python -I -S` runs it in milliseconds. The signal comes when the *thread* that started the process ends: start from one that stays.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def tie(parent: int) -> None:
    """Die with process `parent`, which started this one; at once when it is gone already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def tied(command: list[str]) -> list[str]:
    """`command`, tied to this process."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


if __name__ == "__main__":
    tie(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])
