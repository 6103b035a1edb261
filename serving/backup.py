r"""Backup and restore of one tenant's keys in Redis: every key with its type, content and time to live, in one file.

    AISLE-REDIS 1\n              magic and format version
    <length><JSON>               tenant, when, version of Redis
    <length><key> <expiry ms or -1> <length><DUMP>   a key, as often as there are; lengths are uint32, expiries int64, both big-endian
    <0>                          the end: a key of no length
    <uint64 keys><32 bytes>      how many, and the sha256 of all that comes before

What it holds is consistent in this sense. A key is as it was at one moment. Every key that was there from begin to end is in it; one that came, changed
or went meanwhile may be in it as of any moment of that time. A window of user state counts only by its marker, and a marker is in it only if it was
there before the first and after the last key was read: its window is whole. Restoring writes the markers last, so that a killed restore leaves no
window that looks whole and is not. For one moment for everything, stop the servers first.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import json
import os
import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import redis

from core import atomic
from core.errors import ArtifactError, InputError, NotFoundError
from serving.keys import Keys

Say = Callable[[str], None]
MAGIC: Final = b"AISLE-REDIS "
FORMAT: Final = 1
_LENGTH: Final = struct.Struct(">I")
_EXPIRY: Final = struct.Struct(">q")
_END: Final = struct.Struct(">Q32s")
_NEVER: Final = -1
_SCANNED: Final = 1_000  # keys of one round trip
_DUMPED: Final = 200  # read at one moment: others wait for Redis meanwhile
_RESTORED_BYTES: Final = 4 << 20  # of one round trip: others wait for Redis meanwhile
_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One key."""

    key: bytes
    expires: int  # milliseconds since 1970; -1: never
    dump: bytes  # as DUMP says it: type and content, with a checksum of its own


@dataclass(frozen=True)
class About:
    """What a backup says of itself."""

    tenant: str
    made: str  # ISO 8601
    redis_version: str
    keys: int
    bytes: int  # of the file


@dataclass(frozen=True)
class Restored:
    """What a restore did."""

    tenant: str
    made: str
    keys: int
    expired: int  # keys whose time was over
    removed: int  # keys that were there before


def backup(store: redis.Redis, tenant: str, out: Path, say: Say) -> About:
    """Write all keys of `tenant` to `out`; readable by its owner alone, since it holds what people did.

    Raises:
        NotFoundError: There are none.
    """
    keys, made = Keys(tenant), dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    version = str(store.info("server")["redis_version"])
    markers = _markers(store, keys)
    with atomic.new_file(out) as beside, _private(beside) as file:
        writer = _Writer(file)
        writer.write(MAGIC + str(FORMAT).encode() + b"\n")
        writer.block(json.dumps({"tenant": tenant, "made": made, "redis_version": version}).encode())
        late = {keys.windows.encode(), *markers}
        count = 0
        for entry in _dumped(store, (k for k in _scan(store, keys) if k not in late and not _is_marker(keys, k))):
            writer.entry(entry)
            count += 1
        whole = [m for m, said in _markers(store, keys).items() if markers.get(m) == said]
        for entry in _dumped(store, [keys.windows.encode(), *sorted(whole)]):
            writer.entry(entry)
            count += 1
        if not count:
            raise NotFoundError(f"tenant {tenant}: not one key {keys.prefix}*: nothing to back up")
        writer.write(_LENGTH.pack(0))
        file.write(_END.pack(count, writer.digest.digest()))
        file.flush()
        size = file.tell()
    say(f"{count:,} keys, {size / 1e6:,.1f} MB")
    return About(tenant, made, version, count, size)


def check(path: Path) -> About:
    """Read the whole file; what it says of itself.

    Raises:
        ArtifactError: It is no backup, or cut short, or altered.
    """
    with open(path, "rb") as file:
        head = _head(file, path)
        count = sum(1 for _ in _entries(file, path))
        stated, digest = _END.unpack(_exactly(file, _END.size, path))
        if file.read(1):
            raise ArtifactError(f"{path}: goes on behind its end: altered")
        size = file.tell()
        file.seek(0)
        read, left = hashlib.sha256(), size - _END.size
        while left and (chunk := file.read(min(left, _CHUNK))):
            read.update(chunk)
            left -= len(chunk)
    if stated != count or read.digest() != digest:
        raise ArtifactError(f"{path}: its checksum does not fit its {count} keys: altered")
    return About(head["tenant"], head["made"], head["redis_version"], count, size)


def restore(store: redis.Redis, tenant: str, path: Path, say: Say, *, replace: bool = False) -> Restored:
    """Put back what `backup` wrote; the file is checked whole before anything changes.

    Args:
        store: The Redis.
        tenant: Whose backup it must be.
        path: The file.
        say: Progress.
        replace: Remove the keys that are there first.

    Raises:
        InputError: The tenant has keys already and `replace` is not set, or the backup is another tenant's.
        ArtifactError: The file is not whole, or this Redis cannot read what a newer one wrote.
    """
    if not path.is_file():
        raise NotFoundError(f"{path}: no such backup")
    about, keys = check(path), Keys(tenant)
    if about.tenant != tenant:
        raise InputError(
            f"{path}: is of tenant {about.tenant!r}, expected {tenant!r}: name its configuration with --config"
        )
    if next(_scan(store, keys), None) is not None and not replace:
        raise InputError(f"tenant {tenant} has keys in this Redis already: --replace removes them first")
    removed = _remove(store, keys) if replace else 0
    written = expired = 0
    with open(path, "rb") as file:
        _head(file, path)
        for some in _batches(_entries(file, path)):
            now = time.time() * 1e3
            alive = [e for e in some if e.expires == _NEVER or e.expires > now]
            expired += len(some) - len(alive)
            _put(store, alive, about)
            written += len(alive)
    say(f"{written:,} keys of {about.made}, {expired:,} had expired")
    return Restored(tenant, about.made, written, expired, removed)


def _put(store: redis.Redis, entries: list[Entry], about: About) -> None:
    pipe = store.pipeline(transaction=False)
    for entry in entries:
        pipe.restore(entry.key, max(entry.expires, 0), entry.dump, absttl=entry.expires != _NEVER, replace=True)
    try:
        pipe.execute()
    except redis.ResponseError as e:
        raise ArtifactError(
            f"this Redis refuses a key of the backup, which Redis {about.redis_version} wrote: {e}"
        ) from None


def _remove(store: redis.Redis, keys: Keys) -> int:
    """Every key of the tenant goes, the markers first; how many."""
    markers = list(_markers(store, keys))
    removed = int(store.unlink(*markers)) if markers else 0
    for some in _grouped(_scan(store, keys)):
        removed += int(store.unlink(*some))
    return removed


def _scan(store: redis.Redis, keys: Keys) -> Iterator[bytes]:
    """Every key. Redis may say one twice while its table grows: then the backup has it twice, and the second counts."""
    yield from store.scan_iter(match=f"{keys.prefix}*", count=_SCANNED)


def _is_marker(keys: Keys, key: bytes) -> bool:
    """Whether it is the marker of a window, in any version of the packed layout: a person may be called `complete`, too."""
    return re.fullmatch(rb"[^:]+:\d+\.[^:]*:complete", key.removeprefix(keys.prefix.encode())) is not None


def _markers(store: redis.Redis, keys: Keys) -> dict[bytes, bytes]:
    """The markers of whole windows, and what they say."""
    windows: Any = store.zrange(keys.windows, 0, -1)
    names = [keys.complete(w.decode()).encode() for w in windows]
    said: Any = store.mget(names) if names else []
    return {name: text for name, text in zip(names, said, strict=True) if text is not None}


def _dumped(store: redis.Redis, names: Iterable[bytes]) -> Iterator[Entry]:
    """Each key that is still there; its content and expiry are read in one step."""
    for some in _grouped(names):
        pipe = store.pipeline(transaction=True)
        pipe.time()
        for key in some:
            pipe.dump(key).pttl(key)
        (seconds, micros), *said = pipe.execute()
        now = seconds * 1_000 + micros // 1_000
        for key, (dump, ttl) in zip(some, _pairs(said), strict=True):
            if dump is not None:
                yield Entry(key, _NEVER if ttl < 0 else now + ttl, dump)


def _pairs(said: list[Any]) -> Iterator[tuple[Any, Any]]:
    return zip(said[::2], said[1::2], strict=True)


def _grouped(names: Iterable[bytes]) -> Iterator[list[bytes]]:
    waiting = iter(names)
    while some := list(itertools.islice(waiting, _DUMPED)):
        yield some


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    some: list[Entry] = []
    size = 0
    for entry in entries:
        some.append(entry)
        size += len(entry.dump)
        if size >= _RESTORED_BYTES or len(some) >= _SCANNED:
            yield some
            some, size = [], 0
    if some:
        yield some


class _Writer:
    """Writes, and hashes what it wrote."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, data: bytes) -> None:
        """As it is."""
        self._file.write(data)
        self.digest.update(data)

    def block(self, data: bytes) -> None:
        """Its length first."""
        self.write(_LENGTH.pack(len(data)))
        self.write(data)

    def entry(self, entry: Entry) -> None:
        """A key."""
        self.block(entry.key)
        self.write(_EXPIRY.pack(entry.expires))
        self.block(entry.dump)


def _head(file: IO[bytes], path: Path) -> dict[str, str]:
    if file.read(len(MAGIC)) != MAGIC:
        raise ArtifactError(f"{path}: no backup that `./aisle redis backup` wrote")
    version = file.readline(16).strip()
    if version != str(FORMAT).encode():
        raise ArtifactError(f"{path}: format {version.decode(errors='replace')}, this Aisle reads {FORMAT}: update it")
    try:
        said = json.loads(_block(file, path))
        return {name: str(said[name]) for name in ("tenant", "made", "redis_version")}
    except (ValueError, KeyError, TypeError):
        raise ArtifactError(f"{path}: its header is altered") from None


def _entries(file: IO[bytes], path: Path) -> Iterator[Entry]:
    while key := _block(file, path):
        (expires,) = _EXPIRY.unpack(_exactly(file, _EXPIRY.size, path))
        yield Entry(key, expires, _block(file, path))


def _block(file: IO[bytes], path: Path) -> bytes:
    (length,) = _LENGTH.unpack(_exactly(file, _LENGTH.size, path))
    return _exactly(file, length, path)


def _exactly(file: IO[bytes], length: int, path: Path) -> bytes:
    data = file.read(length)
    if len(data) != length:
        raise ArtifactError(f"{path}: ends in the middle of a key: truncated")
    return data


def _private(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
