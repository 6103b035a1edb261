"""Artifacts: immutable directories with a manifest, published in one rename and refused when anything does not fit.

`manifest.json` states what the artifact is (kind, format version, id), what it was made from (parents, configuration hash, code), facts about
the content (`about`) and the size and sha256 of every file. What depends on the moment of making (time, host, commit) stands apart under `build`,
so that two runs over the same inputs differ there and nowhere else.

Full hashes are checked by `verify`, which leaves a stamp: the manifest's hash with size and modification time of every file. `open_artifact` with
`stamped=True` then only compares the stamp, which makes start-up independent of the artifact's size.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError

from core import atomic
from core.errors import ArtifactError, NotFoundError

MANIFEST: Final = "manifest.json"
STAMP: Final = "verified.json"
_UNLISTED = {MANIFEST, STAMP}


class FileEntry(BaseModel):
    """Size in bytes and sha256 of one file of an artifact."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    size: int
    sha256: str


class Manifest(BaseModel):
    """What an artifact says of itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: str
    format_version: int
    id: str
    parents: dict[str, str] = {}
    about: dict[str, Any] = {}
    build: dict[str, str] = {}
    files: dict[str, FileEntry] = {}


@dataclass
class Draft:
    """An artifact being written: put files under `path` and facts into `about` and `parents`, what depends on the moment into `build`."""

    path: Path
    about: dict[str, Any] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    build: dict[str, str] = field(default_factory=dict)


@contextlib.contextmanager
def publish(path: Path, *, kind: str, format_version: int, id: str) -> Iterator[Draft]:
    """Write an artifact beside `path`; it appears there, complete and flushed, only if the block ends without an error."""
    with atomic.new_directory(path) as beside:
        draft = Draft(beside)
        yield draft
        files = {str(f.relative_to(beside)): FileEntry(size=f.stat().st_size, sha256=sha256(f)) for f in _files(beside)}
        manifest = Manifest(
            kind=kind,
            format_version=format_version,
            id=id,
            parents=dict(sorted(draft.parents.items())),
            about=draft.about,
            build={
                "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
                "host": platform.node(),
                "commit": git_commit(),
                **draft.build,
            },
            files=files,
        )
        (beside / MANIFEST).write_bytes(written(manifest))


def written(manifest: Manifest) -> bytes:
    """A manifest as its file holds it."""
    return (json.dumps(manifest.model_dump(), indent=1, sort_keys=True) + "\n").encode()


@contextlib.contextmanager
def rewrite(path: Path) -> Iterator[Draft]:
    """Change an artifact that must not go on as it is, because somebody in it is to be forgotten. It keeps its kind, id, parents and build.

    The block gets a copy of hard links (`atomic.changed_directory`): it replaces and removes files, and never writes into one.
    """
    manifest = read_manifest(path)
    with atomic.changed_directory(path) as copy:
        for name in _UNLISTED:
            (copy / name).unlink(missing_ok=True)
        draft = Draft(copy, dict(manifest.about), dict(manifest.parents))
        yield draft
        files = {}
        for file in _files(copy):
            name = str(file.relative_to(copy))
            same = name in manifest.files and file.samefile(path / name)
            files[name] = manifest.files[name] if same else FileEntry(size=file.stat().st_size, sha256=sha256(file))
        changed = manifest.model_copy(update={"about": draft.about, "parents": draft.parents, "files": files})
        (copy / MANIFEST).write_bytes(written(changed))


def read_manifest(path: Path) -> Manifest:
    """The manifest of the artifact at `path`, unchecked against the files."""
    if not path.exists():
        raise NotFoundError(f"{path}: no such artifact")
    try:
        return Manifest.model_validate_json((path / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no {MANIFEST}: not an artifact of Aisle") from None
    except ValidationError as e:
        raise ArtifactError(
            f"{path / MANIFEST}: altered or not a manifest ({e.error_count()} problems, first: {e.errors()[0]['msg']})"
        ) from None


def open_artifact(path: Path, *, kind: str, format_version: int, stamped: bool = False) -> Manifest:
    """Check that the artifact at `path` is of this kind and version and that no file is missing or of another size; return its manifest.

    `stamped` also demands a stamp of an earlier `verify` that still fits.
    """
    manifest = read_manifest(path)
    if manifest.kind != kind:
        raise ArtifactError(f"{path}: holds a {manifest.kind!r} artifact, expected {kind!r}")
    if manifest.format_version != format_version:
        newer = (
            "a newer Aisle wrote it: update this one"
            if manifest.format_version > format_version
            else "rebuild it with `./aisle nightly`"
        )
        raise ArtifactError(
            f"{path}: format version {manifest.format_version}, this Aisle reads {format_version}; {newer}"
        )
    for name, entry in manifest.files.items():
        try:
            size = (path / name).stat().st_size
        except FileNotFoundError:
            raise ArtifactError(f"{path / name}: missing, the manifest lists it with {entry.size} bytes") from None
        if size != entry.size:
            raise ArtifactError(f"{path / name}: {size} bytes, the manifest says {entry.size}: truncated or altered")
    if stamped and _read_stamp(path) != _stamp(path, manifest):
        raise ArtifactError(f"{path}: not verified since its files last changed; run `./aisle releases verify {path}`")
    return manifest


def verify(path: Path) -> Manifest:
    """Re-hash every file of the artifact at `path` against its manifest, and leave the stamp."""
    manifest = read_manifest(path)
    listed = set(manifest.files)
    present = {str(f.relative_to(path)) for f in _files(path)} - _UNLISTED
    # another process may be leaving its stamp at this moment, or have been killed while it did
    if extra := sorted(p for p in present - listed if not atomic.is_beside(p, STAMP)):
        raise ArtifactError(f"{path / extra[0]}: not in the manifest: a foreign file in an immutable artifact")
    for name, entry in manifest.files.items():
        try:
            found = sha256(path / name)
        except FileNotFoundError:
            raise ArtifactError(f"{path / name}: missing, the manifest lists it with {entry.size} bytes") from None
        if found != entry.sha256:
            raise ArtifactError(
                f"{path / name}: sha256 {found[:12]}..., the manifest says {entry.sha256[:12]}...: truncated or altered"
            )
    # on a full or read-only disk the next to open it checks in full, too
    with contextlib.suppress(OSError):
        atomic.write_bytes(path / STAMP, json.dumps(_stamp(path, manifest), sort_keys=True).encode())
    return manifest


def _stamp(path: Path, manifest: Manifest) -> dict[str, Any]:
    stats = {name: (path / name).stat() for name in manifest.files}
    return {
        "manifest": sha256(path / MANIFEST),
        "files": {name: [s.st_size, s.st_mtime_ns] for name, s in stats.items()},
    }


def _read_stamp(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads((path / STAMP).read_bytes()))
    except (FileNotFoundError, ValueError):
        return None


def _files(root: Path) -> list[Path]:
    return sorted(Path(folder) / name for folder, _, names in os.walk(root) for name in names)


def sha256(path: Path) -> str:
    """Hex sha256 of a file."""
    with open(path, "rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def hash_json(value: Any) -> str:
    """Hex sha256 of a value's canonical JSON: the fingerprint of configurations and inputs."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), default=str).encode()).hexdigest()


@functools.cache
def code_version(*packages: str) -> str:
    """Hex sha256 over the Python sources of our packages (default configuration files are hashed as configuration)."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for package in packages:
        for source in sorted((root / package).rglob("*.py")):
            digest.update(f"{source.relative_to(root)}\0".encode() + source.read_bytes())
    return digest.hexdigest()


@functools.cache
def git_commit() -> str:
    """The commit of the checkout this code runs from, or "unknown"."""
    root = Path(__file__).parent.parent
    try:
        out = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return out.stdout.strip() or "unknown"


def same_parent(name: str, expected: str, found: str, where: Path | str) -> None:
    """Refuse an artifact whose parent is not the one beside it; the message shows both sides."""
    if expected != found:
        raise ArtifactError(
            f"{where}: made for {name} {found[:16]}, but the {name} here is {expected[:16]}: parts of different releases never meet"
        )


def facts(manifest: Manifest) -> Mapping[str, Any]:
    """The manifest without the parts that depend on the moment of making."""
    return manifest.model_dump(exclude={"build"})
