"""mypy, strict, on the whole tree."""

# bazel: size=large, data=[//:tree]

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.repo.checkout import copy
from tools import genproto


def mypy(root: Path) -> subprocess.CompletedProcess[str]:
    # Kept beside the packages, most of whose types it holds: mypy itself checks each entry against its source.
    cache = sys.prefix if os.access(sys.prefix, os.W_OK) else tempfile.gettempdir()
    command = [sys.executable, "-m", "mypy", f"--cache-dir={cache}/mypy-cache", "."]
    environ = {
        k: v for k, v in os.environ.items() if k != "PYTHONPATH"
    }  # which names the checkout that this is a copy of
    return subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True)


def test_types(tmp_path: Path) -> None:
    root = copy(tmp_path)
    genproto.ensure(root)
    run = mypy(root)
    assert run.returncode == 0, run.stdout + run.stderr
    (root / "core" / "planted.py").write_text("def double(n: int) -> str:\n    return n * 2\n")
    assert "core/planted.py:2: error: Incompatible return value type" in mypy(root).stdout
