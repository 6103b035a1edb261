"""Nothing half-written is ever visible: write beside, fsync, rename."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

_BESIDE = ".tmp-"
_WAS = ".was-"


def fsync_path(path: Path) -> None:
    """Flush one file, or the entries of one directory, to the disk."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_tree(root: Path) -> None:
    """Flush every file and directory under `root`, children before parents."""
    for folder, _, files in os.walk(root, topdown=False):
        for name in files:
            fsync_path(Path(folder) / name)
        fsync_path(Path(folder))


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` by `data` in one step that survives a crash at any moment."""
    beside = path.with_name(f"{_BESIDE}{path.name}-{uuid.uuid4().hex[:8]}")
    try:
        with open(beside, "wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    fsync_path(path.parent)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write beside `path`; it becomes `path` only if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{_BESIDE}{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        yield beside
        fsync_path(beside)
        os.replace(beside, path)
        fsync_path(path.parent)
    finally:
        beside.unlink(missing_ok=True)


@contextlib.contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """An empty directory beside `path`; it becomes `path` only if the block ends without an error.

    If `path` appeared meanwhile (another writer made the same immutable content), ours is dropped.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{_BESIDE}{path.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    beside.mkdir()
    try:
        yield beside
        fsync_tree(beside)
        if not path.exists():
            os.rename(beside, path)
        fsync_path(path.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@contextlib.contextmanager
def changed_directory(path: Path) -> Iterator[Path]:
    """A copy of the directory `path`, its files hard links, to replace or remove files in; it becomes `path` if the block ends without an error.

    That takes two renames. A kill between them leaves nothing at `path` and the old directory under another name: `repair` puts it back.
    """
    copy = path.with_name(f"{_BESIDE}{path.name}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    was = path.with_name(_WAS + path.name)
    try:
        shutil.copytree(path, copy, copy_function=os.link)
        yield copy
        fsync_tree(copy)
        os.rename(path, was)
        os.rename(copy, path)
        fsync_path(path.parent)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    shutil.rmtree(was)


def link_tree(source: Path, target: Path, without: Collection[str] = ()) -> None:
    """Hard-link every file of an immutable folder (copy where the file system cannot), but for those named `without`."""
    for folder, _, names in os.walk(source):
        there = target / Path(folder).relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        for name in names:
            if name in without:
                continue
            try:
                os.link(Path(folder) / name, there / name)
            except OSError:
                shutil.copyfile(Path(folder) / name, there / name)


def repair(folder: Path) -> None:
    """Put back what a killed `changed_directory` left in `folder` under another name, and remove what it had replaced.

    Only the owner of the folder's lock may call this.
    """
    for was in sorted(folder.glob(f"{_WAS}*")):
        path = was.with_name(was.name.removeprefix(_WAS))
        if path.exists():
            shutil.rmtree(was)
        else:
            os.rename(was, path)
    fsync_path(folder)


def symlink(link: Path, target: str) -> None:
    """Point `link` at `target` in one step."""
    beside = link.with_name(f"{_BESIDE}{link.name}-{uuid.uuid4().hex[:8]}")
    try:
        os.symlink(target, beside)
        os.replace(beside, link)
    finally:
        beside.unlink(missing_ok=True)
    fsync_path(link.parent)


def is_beside(path: str, name: str) -> bool:
    """Whether `path` is what `write_bytes` fills before it becomes `name`, or what a killed writer left of it."""
    return path.startswith(f"{_BESIDE}{name}-")


def meant(path: Path) -> Path:
    """What a person knows of `path`: of what is being written beside its place, the folder that it is in."""
    return path.parent if path.name.startswith(_BESIDE) else path


def sweep(folder: Path) -> list[str]:
    """Remove what killed writers left in `folder`. Only the owner of the folder's lock may call this. Returns the names removed."""
    left = sorted(p for p in folder.glob(f"{_BESIDE}*"))
    for p in left:
        if p.is_dir() and not p.is_symlink():
            shutil.rmtree(p, ignore_errors=True)
        else:
            p.unlink(missing_ok=True)
    return [p.name for p in left]
