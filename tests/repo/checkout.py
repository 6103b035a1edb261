"""The checkout as a test may have it: a copy, because Bazel shows symbolic links and nobody's tests write to the sources."""

import shutil
from pathlib import Path

from tools.layers import FOLDERS

ROOT = Path(__file__).parents[2]
_BAZEL = (".bazelignore", ".bazelrc", "BUILD.bazel", "WORKSPACE")
_OTHERS = (
    ".ci/run",
    "CONTRIBUTING.md",
    "LICENSE",
    "README.md",
    "aisle",
    "conftest.py",
    "pyproject.toml",
    "pytest.ini",
    "uv.lock",
)


def copy(target: Path) -> Path:
    """A copy of everything in `//:tree`."""
    for name in (*_BAZEL, *_OTHERS):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    for folder in (*FOLDERS, "deploy", "proto"):
        if (ROOT / folder).is_dir():
            shutil.copytree(ROOT / folder, target / folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return target


def write(root: Path, files: dict[str, str]) -> Path:
    """Writes a small tree: path -> text."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root
