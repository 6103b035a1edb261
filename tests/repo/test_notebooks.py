"""The notebooks run from the first cell to the last, one kernel each, define nothing and carry no outputs."""

# bazel: size=large, timeout=eternal, data=[//notebooks:all_files, //configs:all_files], imports=[cli.__main__, cli.commands.*, experiments.*, pipeline.*]

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SECONDS = 600  # that a cell may take; all take a few minutes together on a busy machine


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the kernels find in their environment: our modules, and a folder that they share, since 2 reads what 1 made."""
    folder = tmp_path_factory.mktemp("notebooks")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AISLE_NOTEBOOKS", str(folder))
        patch.setenv("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        patch.setenv("PYDEVD_DISABLE_FILE_VALIDATION", "1")
        yield folder


def test_there_are_three() -> None:
    assert [n.name[0] for n in NOTEBOOKS] == ["1", "2", "3"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_imports_and_never_defines(path: Path) -> None:
    notebook = nbformat.reads(path.read_text(), as_version=4)  # type: ignore[no-untyped-call]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code), "strip the outputs"
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    assert not [n for cell in code for n in ast.walk(ast.parse(cell.source)) if isinstance(n, defined)]
    assert len(code) <= 15
    linked = [
        link
        for cell in notebook.cells
        for link in re.findall(r"\]\(([^)#:]+)\)", cell.source)
        if cell.cell_type == "markdown"
    ]
    assert [link for link in linked if link.startswith("../docs") is False and not (FOLDER / link).exists()] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_it_runs(path: Path, place: Path) -> None:
    """In the order of their numbers."""
    notebook = nbformat.reads(path.read_text(), as_version=4)  # type: ignore[no-untyped-call]
    NotebookClient(
        notebook, timeout=SECONDS, kernel_name="python3", resources={"metadata": {"path": str(place)}}
    ).execute()
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
