"""Where copies of releases lie: any file system that fsspec knows, laid out so that a file is there once, by its content, and a release only when whole.

URL/objects/<first two>/<sha256>   every file of every release and user state, and their manifests
URL/releases/<name>.json           written last: which manifests make up the release
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Final

import fsspec
from fsspec.core import url_to_fs
from fsspec.implementations.local import LocalFileSystem

from core import atomic
from core.artifact import Manifest, sha256
from core.errors import ArtifactError, EnvironmentGapError, InputError, NotFoundError, nearest
from serving.redis_link import address

FORMAT: Final = 1
_SUFFIX: Final = ".json"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_CHUNK: Final = 4 << 20


@dataclass(frozen=True)
class Copy:
    """A release at the remote: what URL/releases/<name>.json says."""

    name: str
    window_end: int  # microseconds
    made: str  # ISO 8601, of the release
    pushed: str  # ISO 8601
    release: str  # sha256 of its manifest
    user_state: str  # sha256 of the manifest of the state that it was made with

    @property
    def age_key(self) -> tuple[int, str, str]:
        """As `find.Known.age_key`."""
        return self.window_end, self.made, self.name


class Remote:
    """One URL.

    Raises:
        InputError: By the constructor: no URL that fsspec knows.
        EnvironmentGapError: By anything: it cannot be reached, or what reaches it is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = address(url) if "://" in url else url  # for messages: without credentials
        try:
            found: Any = url_to_fs(url, use_listings_cache=False)
        except ImportError as e:
            raise EnvironmentGapError(f"{self.url}: {e}") from None
        except ValueError:
            scheme = url.partition("://")[0]
            known = sorted(fsspec.available_protocols())
            raise InputError(f"{self.url}: no file system {scheme!r}; {nearest(scheme, known)}") from None
        except OSError as e:
            raise EnvironmentGapError(f"{self.url}: {e}") from None
        self._fs, self._root = found
        self._unflushed: set[Path] = set()  # written to a local folder since the last `show`

    def copies(self) -> list[Copy]:
        """Every release that is there whole, newest first."""
        with self._reached():
            folder = f"{self._root}/releases"
            paths = self._fs.ls(folder, detail=False) if self._fs.exists(folder) else []
        names = [PurePosixPath(p).name for p in paths]
        found = [self.copy(n.removesuffix(_SUFFIX)) for n in names if n.endswith(_SUFFIX) and not n.startswith(".")]
        return sorted(found, key=lambda copy: copy.age_key, reverse=True)

    def copy(self, name: str) -> Copy:
        """The release of this name.

        Raises:
            NotFoundError: There is none.
            ArtifactError: What is there is no description of one.
        """
        if not _NAME.fullmatch(name):
            raise InputError(
                f"release name {name!r}: expected letters, digits, '.', '_' and '-', not beginning with a sign"
            )
        path = f"{self._root}/releases/{name}{_SUFFIX}"
        try:
            with self._reached():
                said = json.loads(self._fs.cat_file(path))
            if said.pop("format") != FORMAT:
                raise ArtifactError(
                    f"{self.url}/releases/{name}{_SUFFIX}: of another format than {FORMAT}: update Aisle"
                )
            copy = Copy(**said)
        except FileNotFoundError:
            raise NotFoundError(
                f"{self.url}: no release {name}; `./aisle releases list --from {self.url}` shows them"
            ) from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise ArtifactError(
                f"{self.url}/releases/{name}{_SUFFIX}: truncated or altered: push the release again"
            ) from None
        if copy.name != name or not (_SHA256.fullmatch(copy.release) and _SHA256.fullmatch(copy.user_state)):
            raise ArtifactError(f"{self.url}/releases/{name}{_SUFFIX}: altered: push the release again")
        return copy

    def newest(self) -> Copy:
        """The release with the newest data.

        Raises:
            NotFoundError: There is none.
        """
        if not (found := self.copies()):
            raise NotFoundError(
                f"{self.url}: holds no release; `./aisle releases push NAME --work WORK --to {self.url}`"
            )
        return found[0]

    def show(self, copy: Copy) -> None:
        """Make the release visible; everything of it is there."""
        for path in sorted(self._unflushed) + sorted({p.parent for p in self._unflushed}):
            with contextlib.suppress(FileNotFoundError):  # removed by a `prune` there; `push` looks again
                atomic.fsync_path(path)
        self._unflushed.clear()
        text = json.dumps({"format": FORMAT, **copy.__dict__}, indent=1) + "\n"
        self._write(text.encode(), f"{self._root}/releases/{copy.name}{_SUFFIX}")

    def hide(self, copy: Copy) -> None:
        """Nobody finds the release any more; its files are still there."""
        with self._reached():
            self._fs.rm_file(f"{self._root}/releases/{copy.name}{_SUFFIX}")

    def has(self, sha: str, size: int) -> bool:
        """Whether a file with this content is there, by its size: one that a killed copy cut short is not."""
        with self._reached():
            try:
                return bool(self._fs.info(self._object(sha))["size"] == size)
            except FileNotFoundError:
                return False

    def put(self, file: Path, sha: str) -> None:
        """Copy a file there, under its content's name."""
        path = self._object(sha)
        with self._reached():
            self._fs.makedirs(PurePosixPath(path).parent.as_posix(), exist_ok=True)
            if isinstance(self._fs, LocalFileSystem):
                beside = Path(path).with_name(f".tmp-{sha}-{os.getpid()}")
                shutil.copyfile(file, beside)
                os.replace(beside, path)
                self._unflushed.add(Path(path))
            else:
                self._fs.put_file(str(file), path)

    def put_bytes(self, data: bytes, sha: str) -> None:
        """The same of bytes."""
        self._write(data, self._object(sha))

    def get(self, sha: str, size: int, to: Path) -> int:
        """Copy a file from there to `to`, going on after what an earlier try left in `to` with `.part` behind its name. Bytes copied.

        Raises:
            ArtifactError: It is missing there, or not what its name says; `to` is as before.
        """
        part, where = to.with_name(to.name + ".part"), f"{self.url}/objects/{sha[:2]}/{sha}"
        with self._reached():
            try:
                found = int(self._fs.info(self._object(sha))["size"])
            except FileNotFoundError:
                raise ArtifactError(f"{where}: missing: push the release again") from None
            if found != size:
                raise ArtifactError(
                    f"{where}: {found} bytes, the manifest says {size}: truncated or altered: push the release again"
                )
            copied = self._append(sha, size, part)
            if copied < size and sha256(part) != sha:  # what was left of the earlier try is no beginning of it
                part.unlink()
                copied = self._append(sha, size, part)
        if sha256(part) != sha:
            part.unlink()
            raise ArtifactError(
                f"{where}: its content is not what its name says: altered: push the release with --again"
            )
        part.rename(to)
        return copied

    def manifest(self, sha: str) -> tuple[Manifest, bytes]:
        """A manifest and its very bytes; the names in it lead nowhere else.

        Raises:
            ArtifactError: It is missing or altered.
        """
        where = f"{self.url}/objects/{sha[:2]}/{sha}"
        try:
            with self._reached():
                data = bytes(self._fs.cat_file(self._object(sha)))
        except FileNotFoundError:
            raise ArtifactError(f"{where}: missing: push the release again") from None
        if bytes_sha(data) != sha:
            raise ArtifactError(
                f"{where}: its content is not what its name says: truncated or altered: push the release again"
            )
        try:
            manifest = Manifest.model_validate_json(data)
        except ValueError:
            raise ArtifactError(f"{where}: is no manifest: push the release again") from None
        for name, entry in manifest.files.items():
            parts = PurePosixPath(name).parts
            if name.startswith("/") or not parts or ".." in parts or not _SHA256.fullmatch(entry.sha256):
                raise ArtifactError(f"{where}: names the file {name!r}, which is not in a release")
        return manifest, data

    def objects(self) -> dict[str, tuple[int, float]]:
        """Content -> (size in bytes, epoch seconds of its last change) of every file there."""
        folder = f"{self._root}/objects"
        with self._reached():
            found = self._fs.find(folder, detail=True) if self._fs.exists(folder) else {}
            return {
                name: (int(info["size"]), self._fs.modified(path).timestamp())
                for path, info in found.items()
                if _SHA256.fullmatch(name := PurePosixPath(path).name)
            }

    def remove(self, sha: str) -> None:
        """A file goes."""
        with self._reached():
            self._fs.rm_file(self._object(sha))

    def _append(self, sha: str, size: int, part: Path) -> int:
        """Copy what `part` lacks."""
        part.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "ab") as out:
            if out.tell() > size:
                out.truncate(0)
            start = out.seek(0, 2)
            if start < size:
                with self._fs.open(self._object(sha), "rb") as source:
                    source.seek(start)
                    while chunk := source.read(_CHUNK):
                        out.write(chunk)
            return out.tell() - start

    def _write(self, data: bytes, path: str) -> None:
        with self._reached():
            self._fs.makedirs(PurePosixPath(path).parent.as_posix(), exist_ok=True)
            if isinstance(self._fs, LocalFileSystem):
                atomic.write_bytes(Path(path), data)
            else:
                self._fs.pipe_file(path, data)

    def _object(self, sha: str) -> str:
        return f"{self._root}/objects/{sha[:2]}/{sha}"

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """A file that is not there is for the caller; what else goes wrong is of the remote, and said in one line."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (OSError, ImportError) as e:
            raise EnvironmentGapError(f"{self.url}: {e}; what is there stays, run it again") from None


def bytes_sha(data: bytes) -> str:
    """Hex sha256."""
    return hashlib.sha256(data).hexdigest()
