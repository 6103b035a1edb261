"""The log of the live catalog: one append-only file a host, that every worker of every server on a work directory reads and any of them may write.

WORK/catalog/
  log         16 bytes that name the format, then frames: payload length u32, crc32 of number and payload u32, sequence number u64 (little-endian), payload
  committed   u64: where the committed part of the log ends, mapped into every process that uses it
  users       locked by every process that has the log open (core.catalog_users)
  id          32 hexadecimal digits that tell this log from any other: a release that has seen entries of another one has seen none of this one's

A payload is the JSON of one call (core.catalog_entry). Numbers count from 1; where the log was shortened, they have gaps.

One writer at a time: who appends holds the file's lock, which the kernel takes from a process that dies. It writes the frame, flushes it to disk,
then moves `committed` over it, and answers. Readers go as far as `committed`, so nobody heeds an entry that a failing disk or a loss of power could
take back, and looking whether there is anything new is one load from memory. Whoever takes the lock next finds what a killed writer left behind
`committed`: a whole frame is adopted (its caller was told nothing, and may send it again: entries set states, they do not count), a torn one is
cut off. There is no process that must be alive for others to write, and nothing that must be repaired before others can read: that is why the
workers share a log and not, as the design paper has it, a table of availability whose rows are one release's.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
import struct
import threading
import uuid
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from core.atomic import fsync_path, write_bytes
from core.errors import ArtifactError

_LOG = logging.getLogger(__name__)
MAGIC: Final = b"aisle-catalog 1\n"
HEADER: Final = struct.Struct("<IIQ")

Frame = tuple[int, bytes]  # sequence number, payload


class CatalogLog:
    """The log in `folder`, opened for reading and writing; safe for many threads."""

    def __init__(self, folder: Path) -> None:
        """Open, or begin.

        Raises:
            ArtifactError: It is of another format, or what was acknowledged is damaged.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "log"
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        self._committed = _shared(folder / "committed")
        self._writing = threading.Lock()  # a file's lock is one for all threads of a process
        self._end = self._sequence = 0  # of the whole frames that this process has seen as a writer
        with self._locked():
            if os.fstat(self._fd).st_size < len(MAGIC):
                (folder / "id").unlink(missing_ok=True)
                os.ftruncate(self._fd, 0)
                os.pwrite(self._fd, MAGIC, 0)
                os.fsync(self._fd)
                fsync_path(folder)
            self._check_format()
            if not (folder / "id").exists():
                write_bytes(folder / "id", uuid.uuid4().hex.encode())
            self._recover()
        self.id = (folder / "id").read_text()

    @property
    def start(self) -> int:
        """Where the first frame begins."""
        return len(MAGIC)

    @property
    def committed(self) -> int:
        """Where the committed part ends, bytes."""
        return int(self._committed[0])

    @property
    def sequence(self) -> int:
        """Number of the newest entry that this process wrote or found when it last wrote."""
        return self._sequence

    def append(self, payload: Callable[[], bytes]) -> int:
        """Write a payload under the next sequence number, which is returned once it is on disk and every reader may see it.

        `payload` is called while no other process can write.

        Raises:
            OSError: The disk refuses; nothing was stored.
        """
        with self._writing, self._locked():
            self._recover()
            frame = _packed(self._sequence + 1, payload())
            self._write(frame)
            self._end += len(frame)
            self._sequence += 1
            self._committed[0] = self._end
            return self._sequence

    def count_from(self, sequence: int) -> None:
        """Give no number up to `sequence` again: a release has seen entries so far, though a copy that was put back may lack them."""
        with self._writing:
            self._sequence = max(self._sequence, sequence)

    def read(self, after: int) -> tuple[list[Frame], int]:
        """The committed frames that begin at or behind byte `after`, and where they end."""
        end = self.committed
        return [frame for _, frame in _frames(self._fd, after, end, self._path)], end

    def replace(self, frames: Iterable[Frame]) -> None:
        """Put another log in the place of this one, which nobody else may have open; it must be opened anew.

        The number of the last frame is the newest that is remembered.
        """
        # 0 is true of any log: should the power fail before the new one is there, the next to open reads the old one to its end
        self._committed[0] = 0
        fsync_path(self._path.with_name("committed"))
        write_bytes(self._path, MAGIC + b"".join(_packed(*frame) for frame in frames))

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def _write(self, frame: bytes) -> None:
        """Put a frame behind the last one and flush; what failed is taken back."""
        try:
            left, at = memoryview(frame), self._end
            while left:
                done = os.pwrite(self._fd, left, at)
                left, at = left[done:], at + done
            os.fdatasync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._end)
            raise

    def _recover(self) -> None:
        """Under the lock: see what others wrote, adopt a whole frame behind `committed`, cut off a torn one."""
        size, at, committed = os.fstat(self._fd).st_size, max(self._end, self.start), self.committed
        for end, (sequence, _) in _frames(self._fd, at, size, None):
            at, self._sequence = end, max(self._sequence, sequence)
        self._end = at
        if at < committed:
            raise ArtifactError(
                f"{self._path}: damaged at byte {at}, and {committed - at} bytes behind it were acknowledged: "
                "put back a copy, or move the folder away to begin without live changes"
            )
        if at < size:
            _LOG.warning(
                "%s: the last %d bytes were being written when their process died; dropped", self._path, size - at
            )
            os.ftruncate(self._fd, at)
        if at > committed or at < size:
            os.fdatasync(self._fd)
            self._committed[0] = at

    def _check_format(self) -> None:
        found = os.pread(self._fd, len(MAGIC), 0)
        if found != MAGIC:
            raise ArtifactError(f"{self._path}: begins with {found!r}, expected {MAGIC!r}: no log of this Aisle")

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._fd, fcntl.LOCK_UN)


def _packed(sequence: int, payload: bytes) -> bytes:
    return HEADER.pack(len(payload), _checksum(sequence, payload), sequence) + payload


def _checksum(sequence: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(sequence.to_bytes(8, "little")))


def _frames(fd: int, at: int, end: int, path: Path | None) -> Iterator[tuple[int, Frame]]:
    """(Where it ends, frame) of the frames in bytes `[at, end)`.

    With a `path`, they were committed: one that does not fit its checksum is an error that names it. Without, it is where the frames end.
    """
    while at + HEADER.size <= end:
        length, crc, sequence = HEADER.unpack(os.pread(fd, HEADER.size, at))
        payload = os.pread(fd, length, at + HEADER.size) if at + HEADER.size + length <= end else b""
        if len(payload) != length or _checksum(sequence, payload) != crc:
            if path is None:
                return
            raise ArtifactError(f"{path}: what was written at byte {at} reads differently now")
        at += HEADER.size + length
        yield at, (sequence, payload)


def _shared(path: Path) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    """One number in a file that every process maps; a store of 8 aligned bytes is seen whole."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if os.fstat(fd).st_size < 8:
            os.posix_fallocate(
                fd, 0, 8
            )  # a hole would have to be filled at the first store, and kill the process on a full disk
        return np.frombuffer(mmap.mmap(fd, 8), np.uint64)
    finally:
        os.close(fd)
