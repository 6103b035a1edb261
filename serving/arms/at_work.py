"""Which releases of arms a worker is in the middle of, in a file that outlives it: so that the one which is started in its place knows what it died of."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_BYTES: Final = 4096
_LENGTH: Final = 4


class AtWork:
    """Of one worker. The file holds JSON, how often each release is at work now; the kernel keeps what was written, however the process ends.

    Args:
        file: In a folder of the server, for this worker and those after it; None: there is nobody to tell.
    """

    def __init__(self, file: Path | None) -> None:
        self._lock = threading.Lock()
        self._now: dict[str, int] = {}
        self.left: frozenset[Path] = frozenset()  # by the worker before this one, which died
        self._map: mmap.mmap | None = None
        if file is not None:
            with open(os.open(file, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as f:
                f.truncate(_BYTES)
                self._map = mmap.mmap(f.fileno(), _BYTES)
            self.left = frozenset(Path(path) for path, n in self._read().items() if n)
            self._write()

    @contextlib.contextmanager
    def on(self, path: Path) -> Iterator[None]:
        """The block opens the release at `path`, or answers by it."""
        if self._map is None:
            yield
            return
        self._add(str(path), 1)
        try:
            yield
        finally:
            self._add(str(path), -1)

    def _add(self, path: str, n: int) -> None:
        with self._lock:
            self._now[path] = self._now.get(path, 0) + n
            if not self._now[path]:
                del self._now[path]
            self._write()

    def _write(self) -> None:
        assert self._map is not None
        said = json.dumps(self._now).encode()
        if len(said) <= _BYTES - _LENGTH:  # longer paths than any: nothing is known of them
            self._map[_LENGTH : _LENGTH + len(said)] = said
            self._map[:_LENGTH] = len(said).to_bytes(_LENGTH, "big")

    def _read(self) -> dict[str, int]:
        assert self._map is not None
        length = int.from_bytes(self._map[:_LENGTH], "big")
        try:
            found: dict[str, int] = json.loads(self._map[_LENGTH : _LENGTH + length] or b"{}")
        except ValueError:  # it died in the middle of a word
            return {}
        return found
