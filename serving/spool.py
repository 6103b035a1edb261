"""Events on this machine's disk until Redis takes them: files of checksummed frames, appended and flushed before anything is acknowledged.

    frame   payload length u32, crc32 of the payload u32 (little-endian), payload

A file belongs to the process that holds its lock; what a process leaves behind, however it ended, the next one adopts. Reading stops at the first
frame that is cut short or does not match its checksum: it was being written when the process died, and nobody was told that it is stored.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from core.atomic import fsync_path
from serving.failures import Failure, StoreError

_LOG = logging.getLogger(__name__)
_HEADER: Final = struct.Struct("<II")
_SUFFIX: Final = ".spool"
_SEGMENT_BYTES: Final = 16 << 20


class Segment:
    """One file."""

    def __init__(self, path: Path, fd: int, size: int, *, open: bool) -> None:
        self.path, self.open = path, open
        self.written = self.synced = size
        self.replayed = 0  # bytes that Redis was given
        self._fd, self._syncing = fd, threading.Lock()

    def append(self, frame: bytes) -> int:
        """Write; where the frame ends. One thread at a time.

        Raises:
            OSError: The file may end in a part of the frame: nothing may be appended to it any more.
        """
        left = memoryview(frame)
        while left:
            left = left[os.write(self._fd, left) :]
        self.written += len(frame)
        return self.written

    def sync(self, end: int) -> None:
        """Return once the bytes up to `end` are on disk; threads that wait share one flush.

        Raises:
            OSError: They may not be, nor is anything that was written since the last success.
        """
        with self._syncing:
            if self.synced >= end:
                return
            if not self.open:
                raise OSError("an earlier flush failed")
            reach = self.written
            try:
                os.fdatasync(self._fd)
            except OSError:
                self.open = False
                raise
            self.synced = reach

    def frames(self) -> Iterator[tuple[int, bytes]]:
        """(Where it ends, payload) of the frames that are on disk and not yet replayed."""
        at = self.replayed
        while at < self.synced:
            length, crc = _HEADER.unpack(_exactly(self._fd, _HEADER.size, at))
            payload = _exactly(self._fd, length, at + _HEADER.size)
            if zlib.crc32(payload) != crc:
                raise OSError(f"{self.path}: what was written at byte {at} reads differently now")
            at += _HEADER.size + length
            yield at, payload

    def remove(self) -> None:
        """Delete the file."""
        self.open = False
        self.path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let go of it; what it holds stays."""
        self.open = False
        os.close(self._fd)


class Spool:
    """The files of one process in `folder`; safe for many threads."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._lock = threading.Lock()
        self._segments: list[Segment] = []

    @property
    def segments(self) -> list[Segment]:
        """Oldest first."""
        with self._lock:
            return list(self._segments)

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(s.written for s in self.segments)

    def append(self, payload: bytes) -> None:
        """Return once `payload` is on disk.

        Raises:
            StoreError: It is not, or not for certain: too much waits already, or the disk refuses.
        """
        frame = _HEADER.pack(len(payload), zlib.crc32(payload)) + payload
        try:
            with self._lock:
                waiting = sum(s.written for s in self._segments)
                if waiting + len(frame) > self._limit:
                    raise StoreError(Failure.SPOOL_FULL, f"{waiting} bytes wait in {self._folder} for Redis")
                segment = self._writable()
                try:
                    end = segment.append(frame)
                except OSError:
                    segment.open = False
                    raise
            segment.sync(end)
        except OSError as e:
            raise StoreError(Failure.SPOOL_FULL, f"{self._folder}: {e.strerror or e}") from None

    def release(self, segment: Segment) -> bool:
        """Delete a segment if all of it was replayed and nothing was appended meanwhile; whether it is gone."""
        with self._lock:
            if segment.replayed < segment.written:
                return False
            self._segments.remove(segment)
            segment.remove()
            return True

    def adopt(self) -> int:
        """Take over the files that other processes left; how many."""
        found = [s for path in sorted(self._folder.glob(f"*{_SUFFIX}")) if (s := _adopted(path)) is not None]
        with self._lock:
            self._segments[:0] = found
        return len(found)

    def close(self) -> None:
        """Let go of the files; another process adopts them."""
        with self._lock:
            for segment in self._segments:
                segment.close()
            self._segments.clear()

    def _writable(self) -> Segment:
        if self._segments and self._segments[-1].open and self._segments[-1].written < _SEGMENT_BYTES:
            return self._segments[-1]
        self._folder.mkdir(parents=True, exist_ok=True)
        # names sort by age; it is locked before it has the name by which others would adopt it
        path = self._folder / f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
        beside = path.with_suffix(".tmp")
        fd = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.rename(beside, path)
        fsync_path(self._folder)
        self._segments.append(Segment(path, fd, 0, open=True))
        return self._segments[-1]


def _adopted(path: Path) -> Segment | None:
    """A file that nobody owns any more, ready to be replayed; None for one that has an owner or is gone."""
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    if not path.exists():  # its owner finished it between our two steps
        os.close(fd)
        return None
    size, whole = os.fstat(fd).st_size, _whole(fd)
    if whole < size:
        _LOG.warning("%s: the last %d bytes were being written when their process died; dropped", path, size - whole)
    return Segment(path, fd, whole, open=False)


def _whole(fd: int) -> int:
    """Bytes of whole frames at the start of a file."""
    at, size = 0, os.fstat(fd).st_size
    while at + _HEADER.size <= size:
        length, crc = _HEADER.unpack(_exactly(fd, _HEADER.size, at))
        if at + _HEADER.size + length > size or zlib.crc32(_exactly(fd, length, at + _HEADER.size)) != crc:
            break
        at += _HEADER.size + length
    return at


def _exactly(fd: int, n: int, at: int) -> bytes:
    parts, left = [], n
    while left:
        part = os.pread(fd, left, at + n - left)
        if not part:
            raise OSError(f"the file ends before byte {at + n}")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)
