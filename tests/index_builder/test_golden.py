"""Indexes that were written once, by the code of their day, and must load for ever. Never write them again."""

# bazel: data=[//tests/index_builder/golden:all_files]

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from index_builder.exact import ExactIndex
from index_builder.search import open_index
from tests.index_builder.catalogues import KINDS

GOLDEN = Path(__file__).parent / "golden"
EMBEDDING = "golden-embedding"
QUERIES = np.random.default_rng(2).normal(size=(10, 8)).astype(np.float32)


def test_format_1() -> None:
    # an inverted file at the effort it was tuned to, which visits every list
    folder = GOLDEN / "format_1"
    vectors = np.load(folder / "vectors.npy")
    index = open_index(folder, vectors, EMBEDDING)
    assert index.search(QUERIES, 200)[0].tolist() == ExactIndex(vectors).search(QUERIES, 200)[0].tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_format_2(kind: str) -> None:
    # 200 items; then row 7 was replaced, rows 200 and 201 appended, rows 5 and 201 deleted
    vectors = np.load(GOLDEN / "format_2" / "vectors.npy")
    now = np.vstack([vectors, np.zeros((2, 8), np.float32)])
    now[[7, 200, 201]] = np.load(GOLDEN / "format_2" / "appended.npy")
    alive = np.ones(202, bool)
    alive[[5, 201]] = False
    index = open_index(GOLDEN / "format_2" / kind, vectors, EMBEDDING, verify=True)
    found, _ = index.search(QUERIES, 202)
    assert found.tolist() == ExactIndex(now).search(QUERIES, 202, alive)[0].tolist()
