"""The laws that every index obeys, exact or not, against an oracle of three lines."""

import json
from pathlib import Path

import faiss
import numpy as np
import pytest

from core.columns import Array
from core.config import IndexConfig, load_pipeline
from core.errors import ArtifactError
from core.ids import NO_ROW
from index_builder.build import build_index, recall_at
from index_builder.exact import ExactIndex
from index_builder.search import FaissIndex, Index, open_index

CONFIG = load_pipeline().index
INVERTED = CONFIG.model_copy(update={"exact_below": 0})


def clustered(n: int, d: int = 16, seed: int = 3) -> Array:
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, d))
    return (centres[rng.integers(20, size=n)] + 0.4 * rng.normal(size=(n, d))).astype(np.float32)


def truth(vectors: Array, query: Array, k: int, allowed: Array | None = None) -> list[int]:
    scores = vectors @ query
    rows = sorted(range(len(vectors)), key=lambda r: (-scores[r], r))
    return [r for r in rows if allowed is None or allowed[r]][:k]


def quiet(_: str) -> None:
    """No progress."""


def inverted(vectors: Array) -> FaissIndex:
    """An inverted file at its exact setting: every list is visited."""
    index = faiss.index_factory(vectors.shape[1], "IVF8,Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(vectors)
    index.add(vectors)
    return FaissIndex(index, effort=8)


@pytest.fixture(params=["exact", "inverted file at its exact setting"])
def made(request: pytest.FixtureRequest) -> tuple[Index, Array]:
    vectors = clustered(400)
    return (ExactIndex(vectors) if request.param == "exact" else inverted(vectors)), vectors


@pytest.mark.parametrize("k", [1, 10, 400, 1000])
def test_equals_the_oracle(made: tuple[Index, Array], k: int) -> None:
    index, vectors = made
    queries = clustered(7, seed=5)
    rows, scores = index.search(queries, k)
    assert rows.shape == scores.shape == (7, k)
    for q, query in enumerate(queries):
        there = min(k, len(vectors))
        assert rows[q, :there].tolist() == truth(vectors, query, k)
        assert (rows[q, there:] == NO_ROW).all()
        assert (scores[q, there:] == -np.inf).all()
        np.testing.assert_allclose(scores[q, :there], (vectors @ query)[rows[q, :there]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.0])
def test_a_filter_is_never_ignored_and_never_costs_places(made: tuple[Index, Array], share: float) -> None:
    index, vectors = made
    allowed = np.random.default_rng(1).random(len(vectors)) < share
    queries = clustered(20, seed=6)
    rows, _ = index.search(queries, 10, allowed)
    for q, query in enumerate(queries):
        assert rows[q][rows[q] != NO_ROW].tolist() == truth(vectors, query, 10, allowed)


def test_a_filter_is_satisfied_at_low_effort_too() -> None:
    # one list visited of eight, and the allowed items are mostly elsewhere
    vectors = clustered(400)
    index = FaissIndex(inverted(vectors).index, effort=1)
    allowed = np.zeros(400, bool)
    allowed[::40] = True
    rows, _ = index.search(clustered(20, seed=6), 10, allowed)
    assert (np.sort(rows, axis=1) == np.flatnonzero(allowed)).all()


def test_a_query_of_another_dimension_is_refused(made: tuple[Index, Array]) -> None:
    with pytest.raises(ValueError, match=r"queries of shape \(1, 5\), expected \[n, 16\]"):
        made[0].search(np.zeros((1, 5), np.float32), 3)


def test_a_nan_query_returns_rows_that_exist(made: tuple[Index, Array]) -> None:
    rows, scores = made[0].search(np.full((1, 16), np.nan, np.float32), 3)
    assert ((rows >= NO_ROW) & (rows < 400)).all()
    assert not np.isnan(scores).any()


def test_exact_ties_break_by_row_and_nan_vectors_take_no_slot() -> None:
    vectors = np.ones((6, 2), np.float32)
    vectors[1] = np.nan
    rows, _ = ExactIndex(vectors).search(np.ones((1, 2), np.float32), 10)
    assert rows[0].tolist() == [0, 2, 3, 4, 5, -1, -1, -1, -1, -1]


def test_one_item(tmp_path: Path) -> None:
    vectors = clustered(1)
    build_index(vectors, vectors, "e", CONFIG, tmp_path, quiet)
    assert open_index(tmp_path, vectors, "e").search(vectors, 3)[0].tolist() == [[0, -1, -1]]


@pytest.mark.parametrize("config", [CONFIG, INVERTED], ids=["exact", "ivf"])
def test_what_is_built_opens_and_reaches_its_recall(tmp_path: Path, config: IndexConfig) -> None:
    vectors, queries = clustered(3000), clustered(100, seed=9)
    facts = build_index(vectors, queries, "e", config, tmp_path, quiet)
    index = open_index(tmp_path, vectors, "e")
    assert index.is_exact == (facts["kind"] == "exact")
    assert facts["recall@100"] >= config.recall_target
    assert recall_at(index, vectors, queries, 100) == pytest.approx(facts["recall@100"], abs=1e-3)


def built(tmp_path: Path) -> tuple[Path, Array]:
    vectors = clustered(3000)
    build_index(vectors, clustered(50, seed=9), "embedding-1", INVERTED, tmp_path, quiet)
    return tmp_path, vectors


def test_the_index_of_other_towers_is_refused(tmp_path: Path) -> None:
    folder, vectors = built(tmp_path)
    with pytest.raises(ArtifactError, match="made for embedding embedding-1, but the embedding here is embedding-2"):
        open_index(folder, vectors, "embedding-2")


def test_vectors_that_moved_are_seen_by_the_canaries(tmp_path: Path) -> None:
    folder, vectors = built(tmp_path)
    with pytest.raises(ArtifactError, match="canary item 0 finds"):
        open_index(folder, vectors[::-1].copy(), "embedding-1")


def test_another_size_another_format_and_a_cut_file_are_refused(tmp_path: Path) -> None:
    folder, vectors = built(tmp_path)
    with pytest.raises(
        ArtifactError, match=r"an index of 3000 vectors of 16, but the item vectors here are \[2999, 16\]"
    ):
        open_index(folder, vectors[1:], "embedding-1")
    whole = (folder / "index.faiss").read_bytes()
    (folder / "index.faiss").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match=r"index\.faiss: missing, truncated or not a FAISS index"):
        open_index(folder, vectors, "embedding-1")
    facts = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(facts | {"format_version": 99}))
    with pytest.raises(ArtifactError, match="index format 99, this Aisle reads 1"):
        open_index(folder, vectors, "embedding-1")
