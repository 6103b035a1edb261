"""The kill switch of an experiment: NAME.stopped beside its file. Empty where a person pulled it; with a reason where a server did."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from core import atomic
from experiments.files import STOPPED


@dataclass(frozen=True)
class Stop:
    """Why a server stopped an experiment."""

    arm: str
    guard: str
    why: str  # for people


def write_stop(folder: Path, name: str, stop: Stop) -> bool:
    """Pull the switch; whether nobody else had.

    Raises:
        OSError: The folder cannot be written.
    """
    path = folder / f"{name}{STOPPED}"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as f:
            f.write(json.dumps(asdict(stop)) + "\n")
            f.flush()
            os.fsync(f.fileno())
    except FileExistsError:
        return False
    atomic.fsync_path(folder)
    return True


def read_stop(folder: Path | None, name: str) -> Stop | None:
    """Why an experiment is stopped; None where it is not, or a person did it."""
    if folder is None:
        return None
    try:
        return Stop(**json.loads((folder / f"{name}{STOPPED}").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
