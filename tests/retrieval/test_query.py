"""The online side alone: no TensorFlow, and search that leaves out what is excluded."""

import subprocess
import sys

import numpy as np
import pytest

from retrieval.query import TowerScoring, best


def test_serving_the_towers_imports_no_tensorflow() -> None:
    code = "import sys, retrieval.query; print(sorted({'tensorflow', 'tf_keras', 'keras', 'pandas', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_best_breaks_ties_by_row_and_drops_what_is_not_finite() -> None:
    rows = np.array([5, 3, 9, 1], np.int32)
    got = best(rows, np.array([1.0, 1.0, np.nan, -np.inf], np.float32), 4)
    assert got[0].tolist() == [3, 5]
    assert best(rows, np.array([1.0, 1.0, 2.0, 1.0], np.float32), 2)[0].tolist() == [9, 1]
    assert best(rows, np.zeros(4, np.float32), 0)[0].tolist() == []


def test_top_asks_for_as_many_more_as_are_excluded() -> None:
    vectors = np.eye(4, dtype=np.float32)
    query = np.array([0.4, 0.3, 0.2, 0.1], np.float32)

    def search(vector: np.ndarray, k: int, allowed: object = None) -> tuple[np.ndarray, np.ndarray]:
        return best(np.arange(4, dtype=np.int32), vectors @ vector, k)

    rows, scores = TowerScoring(query, vectors, search).top(2, np.array([0, 2], np.int32))
    assert rows.tolist() == [1, 3]
    assert scores == pytest.approx([0.3, 0.1])
