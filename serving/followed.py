"""A value that files hold: read at the start, and again when they change. What cannot be used never replaces what can."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from core.errors import AisleError

_LOG = logging.getLogger(__name__)
T = TypeVar("T")


class Followed(Generic[T]):
    """Follows files.

    Args:
        what: They hold, for the log.
        sign: Says something else when the files change (`files_sign`).
        load: Reads them. AisleError or OSError: they do not fit, which only the first time is an error of the caller.
        seconds: Between two looks.
        said: A few words of a value, for the log.
    """

    def __init__(
        self,
        what: str,
        sign: Callable[[], object],
        load: Callable[[], T],
        seconds: float,
        said: Callable[[T], str] | None = None,
    ) -> None:
        self._what, self._sign, self._load, self._seconds, self._said = what, sign, load, seconds, said
        self.problem = ""  # why the newest files are not in use
        self._signature = self._seen = self._sign()
        self.value = load()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look for changes."""
        self._thread = threading.Thread(target=self._follow, name=f"follow {self._what}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def look(self) -> bool:
        """Take up what changed, once it has stayed the same for two looks; whether the value is new."""
        seen, self._seen = self._seen, self._sign()
        if self._seen != seen or self._seen == self._signature:
            return False
        self._signature = seen
        try:
            self.value = self._load()
        except (AisleError, OSError) as e:
            self.problem = str(e)
            _LOG.error("the %s stay as they were: %s", self._what, e)
            return False
        self.problem = ""
        _LOG.warning("new %s%s", self._what, "" if self._said is None else f": {self._said(self.value)}")
        return True

    def _follow(self) -> None:
        while not self._stopping.wait(self._seconds):
            self.look()


def files_sign(paths: Sequence[Path]) -> Callable[[], object]:
    """Of a few files: by time, size and inode."""
    return lambda: tuple(map(_sign, paths))


def _sign(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
