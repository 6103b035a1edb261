"""ruff on the whole tree."""

# bazel: size=medium, data=[//:tree]

import subprocess
import sys
from pathlib import Path

import pytest

from tests.repo.checkout import copy


@pytest.mark.parametrize("command", [["check"], ["format", "--check"]])
def test_ruff(tmp_path: Path, command: list[str]) -> None:
    root = copy(tmp_path)
    run = subprocess.run(
        [sys.executable, "-m", "ruff", *command, "--no-cache", "--output-format=concise", "."],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, f"fix with .venv/bin/ruff {command[0]} .\n{run.stdout}{run.stderr}"


def test_ruff_sees_a_planted_mistake(tmp_path: Path) -> None:
    root = copy(tmp_path)
    (root / "core" / "planted.py").write_text('"""Planted."""\n\nimport os\n')
    run = subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "."], cwd=root, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert "F401" in run.stdout
