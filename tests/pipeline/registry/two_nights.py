"""Two nights of the small shop in one work directory, the second current."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from core.artifact import publish, read_manifest
from core.atomic import link_tree
from core.release import FORMAT_VERSION, GATES, KIND
from core.schema import DAY
from core.work import Work
from pipeline.registry import history
from pipeline.registry.find import Known, named
from tests.serving.shop import END, make_shop

PASSED: list[dict[str, Any]] = [{"gate": "answers", "passed": True, "reason": "10 test queries, 0 without an answer"}]
REFUSED: list[dict[str, Any]] = [{"gate": "popularity", "passed": False, "reason": "NDCG@10 against popularity -0.1"}]


def make_nights(folder: Path) -> Work:
    """`folder/work`: the release of a first night, and that of the next one, whose popularity is twice as much."""
    work = make_shop(folder / "first")
    second = make_shop(folder / "second", end=END + DAY, sales=2)
    for kind in ("releases", "user_state"):
        for path in (second.root / kind).iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.copytree(path, work.root / kind / path.name)
    with history.locked(work):
        history.point(work, history.current(second), history.PUBLISH, "")
    return work


def variant(work: Work, of: str, name: str, gates: list[dict[str, Any]] | None = PASSED, made: str = "") -> Known:
    """A child of the release `of` under another name, its files hard links."""
    source = work.releases / of
    manifest = read_manifest(source)
    with publish(work.releases / name, kind=KIND, format_version=FORMAT_VERSION, id=name) as draft:
        link_tree(source, draft.path, without=("manifest.json", "verified.json"))
        draft.about.update(manifest.about)
        draft.parents.update(manifest.parents)
        if gates is not None:
            draft.build[GATES] = json.dumps(gates)
        if made:
            draft.build["time"] = made
    return named(Path(name), work.root)


def names(work: Work) -> list[str]:
    """Of the two releases, the older first."""
    return history.stack(work)
