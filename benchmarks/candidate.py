"""A candidate for a canary: a release like another one but for what is changed in it, beside it in the same work directory."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from core import artifact
from core.release import RANKER, SETTINGS
from ranking import model_text
from ranking.calibration import FILE as CALIBRATION
from ranking.scorer import MODEL, TREES

_LEAVES: Final = re.compile(r"(?m)^(leaf_value=)(.*)$")


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


def more_trees(trees: int) -> Callable[[Path], None]:
    """A ranker that has its trees again and again, about so many in all: the same order, and that much slower."""

    def change(folder: Path) -> None:
        head, blocks, tail = _parts(folder)
        _write(folder, head, blocks * max(1, trees // len(blocks)), tail)

    return change


def opposite_trees(folder: Path) -> None:
    """A ranker that puts last what it put first."""
    head, blocks, tail = _parts(folder)
    _write(folder, head, [_LEAVES.sub(_negated, block) for block in blocks], tail)


def _parts(folder: Path) -> tuple[str, list[str], str]:
    """The model file of LightGBM: what stands before the trees, these without their numbers, and what stands behind."""
    text = (folder / RANKER / MODEL).read_text()
    head, *blocks = text.split("\nTree=")
    last, end, tail = blocks[-1].partition("\nend of trees")
    return head, [block.partition("\n")[2] for block in (*blocks[:-1], last)], end + tail


def _write(folder: Path, head: str, blocks: list[str], tail: str) -> None:
    """The ranker of these trees, as training writes it, but for the calibration, which speaks of other scores."""
    numbered = [f"\nTree={at}\n{block}" for at, block in enumerate(blocks)]
    sizes = " ".join(str(len(block) - 1) for block in numbered)
    head = re.sub(r"(?m)^tree_sizes=.*$", f"tree_sizes={sizes}", head)
    model = folder / RANKER / MODEL
    shutil.rmtree(folder / RANKER / TREES, ignore_errors=True)
    (folder / RANKER / CALIBRATION).unlink(missing_ok=True)
    model.unlink()
    model.write_text(head + "".join(numbered) + tail)
    model_text.read(model).write(folder / RANKER / TREES, model)


def _negated(found: re.Match[str]) -> str:
    return found[1] + " ".join(repr(-float(value)) for value in found[2].split())
