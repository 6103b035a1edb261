"""`./aisle` as operators call it: a process each, its last line read."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ENVIRONMENT: Final = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "COLUMNS": "200"}
# What is tested is the night and not the model: towers and a ranker that learn in a moment.
CONFIG: Final = (
    "evaluation: {bootstrap_samples: 100}\n"
    "towers: {dimensions: 8, epochs: 2, final_epochs: 1}\n"
    "ranker: {trees: 30, requests: 500, logged_pages: off}\n"
)


def aisle(*args: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "cli", *map(str, args)], capture_output=True, text=True, env=ENVIRONMENT, check=False
    )


def result(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """The JSON of a command that succeeded."""
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The line of a command that refused its input."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def nightly(shop: Path, work: Path) -> tuple[object, ...]:
    """A night's command, with the settings beside the shop."""
    return ("nightly", "--data", shop, "--work", work, "--config", shop.parent / "small.yaml")
