"""A candidate for a canary: a release like another one but for what is changed in it, beside it in the same work directory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from core import artifact
from core.release import SETTINGS


def candidate(release: Path, name: str, change: Callable[[Path], None]) -> Path:
    """The release `name` beside `release`, of hard links but for what `change` replaces in it (it never writes into a file); checked."""
    release = release.resolve()
    path = release.with_name(name)
    shutil.copytree(release, path, copy_function=os.link)
    with artifact.rewrite(path) as draft:
        change(draft.path)
    artifact.verify(path)
    return path


def settings(**values: Any) -> Callable[[Path], None]:
    """Other settings of the request path."""

    def change(folder: Path) -> None:
        changed = json.loads((folder / SETTINGS).read_bytes()) | values
        (folder / SETTINGS).unlink()
        (folder / SETTINGS).write_text(json.dumps(changed, indent=1, sort_keys=True) + "\n")

    return change
