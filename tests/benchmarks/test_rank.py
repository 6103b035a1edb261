"""`bench rank` as a command: scores every row as LightGBM does, reports its figures, and names what it cannot use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest

from benchmarks.rank import score_files
from core.columns import Array
from core.errors import ArtifactError, InputError, NotFoundError
from tests.ranking.forests import random_rows, random_text

# bazel: size=medium, imports=[cli.__main__]


def bench(*arguments: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli", "bench", "rank", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model.txt").write_text(random_text(3, features=6, trees=20, most_leaves=63))
    return tmp_path / "model.txt"


def saved(path: Path, rows: Array) -> Path:
    np.save(path, rows)
    return path


def test_scores_and_figures(model: Path, tmp_path: Path) -> None:
    """1,234 rows: two blocks of 500 and one of 234."""
    rows, out = random_rows(1, 1234, 6), tmp_path / "scores.npy"
    run = bench("--model", model, "--rows", saved(tmp_path / "rows.npy", rows), "--out", out)
    assert run.returncode == 0, run.stderr
    scores = np.load(out)
    assert scores.dtype == np.float64
    assert np.array_equal(scores, lightgbm.Booster(model_file=model).predict(rows))
    figures = json.loads(run.stdout.splitlines()[-1])
    for name in ("p50_ms", "lightgbm_p50_ms", "speedup", "compile_seconds", "load_ms"):
        assert figures[name] > 0
    assert (figures["rows"], figures["features"], figures["max_error"]) == (1234, 6, 0)


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        (np.zeros((3, 6)), "float64 [3, 6], expected float32 [n, features]"),
        (np.zeros((3, 5), np.float32), "rows of 5 features, the model takes 6"),
        (np.zeros((0, 6), np.float32), "float32 [0, 6], expected"),
    ],
)
def test_rows_that_do_not_fit(model: Path, tmp_path: Path, rows: Array, error: str) -> None:
    out = tmp_path / "scores.npy"
    with pytest.raises(InputError, match=re.escape(error)):
        score_files(model, saved(tmp_path / "rows.npy", rows), out)
    assert not out.exists()


def test_files_that_are_not_there(model: Path, tmp_path: Path) -> None:
    run = bench("--model", model)
    assert run.returncode == 2
    assert "together, or none" in run.stderr
    with pytest.raises(NotFoundError, match=r"no\.txt: no such model"):
        score_files(tmp_path / "no.txt", model, tmp_path / "s.npy")
    with pytest.raises(ArtifactError, match=r"no\.npy: missing"):
        score_files(model, tmp_path / "no.npy", tmp_path / "s.npy")
    with pytest.raises(ArtifactError, match=r"model\.txt: truncated or not a numpy array"):
        score_files(model, model, tmp_path / "s.npy")
