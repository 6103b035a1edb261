"""LightGBM's own learning-to-rank example through our training function, and the figures that its own tests ask for."""

# bazel: size=medium

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.lambdarank import FEATURES, measured, predicted, read
from core.config import load_pipeline
from core.errors import InputError

DATA = Path(os.environ.get("AISLE_DATA", "")) / "lambdarank"
# What `python -m benchmarks.lambdarank` chose on the training file.
CHOSEN = {"learning_rate": 0.03, "leaves": 31, "rows_per_leaf": 5, "feature_share": 0.5, "row_share": 1.0}
CHOSEN |= {"shrinkage": 1.0, "truncation": 10, "seed": 1}
TREES = 220


@pytest.mark.skipif(not DATA.is_dir(), reason=f"public data: no {DATA}; set AISLE_DATA to the folder that holds it")
def test_as_good_as_lightgbms_own_tests_ask() -> None:
    learn, test = read(DATA / "rank.train.gz"), read(DATA / "rank.test.gz")
    assert (len(learn), len(learn.grades), len(test), len(test.grades)) == (201, 3005, 50, 768)
    [scores] = predicted(learn, test, load_pipeline().ranker.model_copy(update=CHOSEN), TREES)
    at_1, at_3, _ = measured(test, scores)
    assert at_1 > 0.5674
    assert at_3 > 0.578


def written(folder: Path, rows: str, sizes: str) -> Path:
    with gzip.open(folder / "rows.gz", "wt") as f:
        f.write(rows)
    (folder / "rows.query").write_text(sizes)
    return folder / "rows.gz"


def test_read_by_hand(tmp_path: Path) -> None:
    """Labels 0 to 4 are gains 0, 1, 3, 7, 15; columns count from 1."""
    rows = read(written(tmp_path, "2 1:0.5 300:2\n0 2:1\n4\n", "2\n1\n"))
    assert rows.grades.tolist() == [3, 0, 15]
    assert rows.sizes.tolist() == [2, 1]
    assert (rows.matrix[0, 0], rows.matrix[0, FEATURES - 1], rows.matrix[1, 1]) == (0.5, 2.0, 1.0)
    assert rows.matrix.sum() == 3.5


@pytest.mark.parametrize(
    ("rows", "sizes", "problem"),
    [
        ("1 1:x\n", "1\n", "rows.gz:1"),
        ("1 301:1\n", "1\n", "rows.gz:1"),
        ("1 1:1\n", "2\n", "queries of 2 rows in all, but there are 1"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path: Path, rows: str, sizes: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        read(written(tmp_path, rows, sizes))


def test_ndcg_by_hand(tmp_path: Path) -> None:
    """Query 1, gains 1, 3, 0, ordered 0, 3, 1: at 1 nothing of 3; at 3 (3 / log2 3 + 1 / 2) of (3 + 1 / log2 3). Query 2 has nothing to find: 1."""
    rows = read(written(tmp_path, "1 1:1\n2 1:2\n0 1:3\n0 1:1\n", "3\n1\n"))
    at_1, at_3, at_10 = measured(rows, np.array([1.0, 2.0, 3.0, 0.0]))
    assert at_1 == pytest.approx((0 + 1) / 2)
    first = (3 / np.log2(3) + 1 / 2) / (3 + 1 / np.log2(3))
    assert at_3 == at_10 == pytest.approx((first + 1) / 2)
