"""`./aisle features`, as a person or a script calls it; what needs Feast is in test_feast.py."""

# bazel: size=medium, imports=[cli.*]

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from core.work import Work
from ranking.statistics import ENTITIES, STATISTICS
from tests.feature_repo.shop import make_shop, some_rows


def aisle(*arguments: object, expect: int = 0) -> tuple[Any, str]:
    """The JSON of a command, and the last line of its stderr."""
    command = [sys.executable, "-m", "cli", "features", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == expect, done.stderr
    result = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else None
    return result, done.stderr.strip().splitlines()[-1]


def test_export_says_what_it_wrote(tmp_path: Path) -> None:
    work = Work(tmp_path)
    make_shop(tmp_path / "stages" / "prepare", some_rows(1))
    work.set_latest("prepare", "prepared")
    (tmp_path / "mine.yaml").write_text("pairs: false\n")
    first, _ = aisle("export", "--work", tmp_path, "--config", tmp_path / "mine.yaml")
    assert set(first["tables"]) == set(ENTITIES) - {"pair"}
    assert all(t["written"] == t["days"] for t in first["tables"].values())
    again, _ = aisle("export", "--work", tmp_path, "--config", tmp_path / "mine.yaml")
    assert {t["written"] for t in again["tables"].values()} == {0}
    assert [t["rows"] for t in again["tables"].values()] == [t["rows"] for t in first["tables"].values()]


def test_what_is_missing_is_one_line(tmp_path: Path) -> None:
    _, line = aisle("export", "--work", tmp_path, expect=2)
    assert "no prepare yet" in line
    for command in ("apply", "materialize"):
        _, line = aisle(command, "--work", tmp_path, expect=2)
        assert f"run `./aisle features export --work {tmp_path}`" in line


def test_list_has_every_statistic() -> None:
    listed, _ = aisle("list")
    assert [s["name"] for s in listed["statistics"]] == [s.name for s in STATISTICS]
