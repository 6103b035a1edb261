"""Writing the file of API keys: whole, in one step, readable by its owner alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from core import atomic
from core.errors import NotFoundError
from serving.api_keys import KeyEntry, entries_of


def add(path: Path, entry: KeyEntry) -> None:
    """Put a key into a file, which may be new."""
    with _alone(path):
        _write(path, [*(entries_of(path) if path.exists() else ()), entry])


def remove(path: Path, name: str) -> None:
    """Take a key out.

    Raises:
        NotFoundError: It is not there.
    """
    with _alone(path):
        entries = entries_of(path)
        left = [e for e in entries if e.id != name]
        if len(left) == len(entries):
            raise NotFoundError(f"{path}: no key has the id {name!r}; `./aisle keys list` names them")
        _write(path, left)


def shown(entry: KeyEntry) -> dict[str, Any]:
    """An entry as the file has it: what is given."""
    return entry.model_dump(mode="json", exclude_none=True)


def _write(path: Path, entries: Sequence[KeyEntry]) -> None:
    text = yaml.safe_dump({"keys": [shown(e) for e in entries]}, sort_keys=False)
    with atomic.new_file(path) as beside:
        beside.touch(mode=0o600)
        beside.write_text("# API keys: hashes of them (docs/security.md). Written by `./aisle keys`.\n" + text)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One writer at a time: the folder is locked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)
