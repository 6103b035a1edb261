"""`experiment demo` on a small release: it ends with 0, the shares have moved, and the kill switch worked within a second."""

# bazel: size=medium, imports=[cli.*]

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.serving.shop import make_shop


def test_the_demo_shifts_to_the_better_arm_stops_and_reports(tmp_path: Path) -> None:
    shop, keep = make_shop(tmp_path / "shop"), tmp_path / "keep"
    keep.mkdir()
    command = ("experiment", "demo", "--work", shop.root, "--seconds", 30, "--keep", keep)
    ran = subprocess.run(
        [sys.executable, "-m", "cli", *map(str, command)], capture_output=True, text=True, timeout=240, check=False
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["shares"]["varied"] > 0.5
    assert found["version"] > 1
    assert found["stopped_after_seconds"] <= 1
    assert found["exposed"]["varied"] >= found["rewarded"]["varied"] > 0
    assert (keep / "varied-home.html").exists()
    assert "What happened." in ran.stderr
