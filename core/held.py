"""Who has a directory open: a lock that the kernel takes back from a process that dies, so that nothing in use is removed."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from core.errors import NotFoundError


class Held:
    """A shared lock on a directory, from now until this object is gone. Any number of processes may hold one.

    A file system without locks, or a path that is not there, is not held: whoever opens what is in it says what is wrong.

    Raises:
        NotFoundError: Somebody is removing it.
    """

    def __init__(self, path: Path) -> None:
        self._fd = -1
        with contextlib.suppress(OSError):
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                raise NotFoundError(f"{path}: is being removed") from None

    def __del__(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


@contextlib.contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Whether nobody holds the directory `path`; if so, nobody can within the block."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(fd)
