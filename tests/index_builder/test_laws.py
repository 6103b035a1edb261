"""The laws that an index of any kind obeys, each at its exact setting, against an oracle of three lines."""

# bazel: size=medium

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.columns import Array
from core.errors import InputError
from core.ids import NO_ROW
from index_builder import device
from index_builder.exact import ExactIndex
from index_builder.protocol import Index
from index_builder.search import open_index
from index_builder.writer import index_writer
from tests.index_builder.catalogues import KINDS, at_its_exact_setting, built, clustered, exactly, truth

N, D = 400, 16


def grown(folder: Path, kind: str, vectors: Array) -> Index:
    """The same catalogue come about in steps: half of it at first, some wrong, some too many, put right by deltas and tombstones."""
    half = len(vectors) // 2
    first = vectors[:half].copy()
    first[::7] += 1
    at_its_exact_setting(built(folder, kind, first))
    with index_writer(folder, first, "e") as writer:
        writer.append(np.arange(half, len(vectors) + 5), np.vstack([vectors[half:], np.ones((5, D), np.float32)]))
        changed = np.arange(0, half, 7)
        writer.delete(changed[::2])
        writer.append(changed, vectors[changed])
        writer.delete(np.arange(len(vectors), len(vectors) + 5))
    return open_index(folder, first, "e")


def compacted(folder: Path, kind: str, vectors: Array) -> Index:
    """The same once more, merged into one base."""
    half = len(vectors) // 2
    grown(folder, kind, vectors)
    first = vectors[:half].copy()
    first[::7] += 1
    with index_writer(folder, first, "e") as writer:
        writer.compact()
    return open_index(folder, first, "e", verify=True)


def trained_on_a_gpu(folder: Path, kind: str, vectors: Array) -> Index:
    """Clustered and assigned on a GPU, searched on the CPU like any other."""
    if not device.gpus("auto"):
        pytest.skip("FAISS sees no GPU: the laws of what it trains are not tested")
    return exactly(folder, kind, vectors, "gpu")


@pytest.fixture(
    scope="module",
    params=[
        *(f"{kind} {how}" for kind in KINDS for how in ("built", "grown", "compacted")),
        *(f"{kind} gpu" for kind in KINDS[1:]),
    ],
)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, Array]:
    kind, how = request.param.split()
    make = {"built": exactly, "grown": grown, "compacted": compacted, "gpu": trained_on_a_gpu}[how]
    vectors = clustered(N)
    return make(tmp_path_factory.mktemp("index"), kind, vectors), vectors


@pytest.mark.parametrize("k", [1, 10, 400, 1000])
def test_equals_the_oracle(made: tuple[Index, Array], k: int) -> None:
    index, vectors = made
    queries = clustered(7, seed=5)
    rows, scores = index.search(queries, k)
    assert rows.shape == scores.shape == (7, k)
    assert (str(rows.dtype), str(scores.dtype)) == ("int32", "float32")
    for q, query in enumerate(queries):
        there = min(k, N)
        assert rows[q, :there].tolist() == truth(vectors, query, k)
        assert (rows[q, there:] == NO_ROW).all()
        assert (scores[q, there:] == -np.inf).all()
        np.testing.assert_allclose(scores[q, :there], (vectors @ query)[rows[q, :there]], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("share", [0.99, 0.5, 0.1, 0.01, 0.0])
def test_a_filter_is_never_ignored_and_never_costs_places(made: tuple[Index, Array], share: float) -> None:
    index, vectors = made
    allowed = np.random.default_rng(1).random(len(vectors)) < share
    queries = clustered(20, seed=6)
    rows, _ = index.search(queries, 10, allowed)
    for q, query in enumerate(queries):
        assert rows[q][rows[q] != NO_ROW].tolist() == truth(vectors, query, 10, allowed)


def test_what_a_short_filter_does_not_speak_of_is_not_allowed(made: tuple[Index, Array]) -> None:
    index, vectors = made
    allowed = np.arange(N) < 30
    rows, _ = index.search(vectors[:3], 50, allowed[:30])
    assert np.sort(rows[:, :30]).tolist() == [list(range(30))] * 3
    assert (rows[:, 30:] == NO_ROW).all()


def test_a_filter_that_is_no_mask_is_refused(made: tuple[Index, Array]) -> None:
    with pytest.raises(ValueError, match="a filter of int64"):
        made[0].search(np.zeros((1, D), np.float32), 3, np.array([1, 2, 3]))


def test_no_queries_and_no_places(made: tuple[Index, Array]) -> None:
    assert made[0].search(np.empty((0, D), np.float32), 5)[0].shape == (0, 5)
    assert made[0].search(np.ones((2, D), np.float32), 0)[0].shape == (2, 0)


def test_a_query_of_another_dimension_is_refused(made: tuple[Index, Array]) -> None:
    with pytest.raises(ValueError, match=r"queries of shape \(1, 5\), expected \[n, 16\]"):
        made[0].search(np.zeros((1, 5), np.float32), 3)


def test_a_query_with_a_nan_finds_nothing_and_leaves_the_others_alone(made: tuple[Index, Array]) -> None:
    index, vectors = made
    queries = clustered(3, seed=8)
    queries[1, 4] = np.nan
    rows, scores = index.search(queries, 5)
    assert rows[0].tolist() == truth(vectors, queries[0], 5)
    assert rows[1].tolist() == [NO_ROW] * 5
    assert scores[1].tolist() == [-np.inf] * 5
    assert rows[2].tolist() == truth(vectors, queries[2], 5)


@pytest.mark.parametrize("kind", KINDS)
def test_duplicates_and_ties_come_by_row(kind: str, tmp_path: Path) -> None:
    # rows 0..5 and 100..105 hold the same vector, which the query likes best: twelve equal scores, in order of their rows
    vectors = clustered(200)
    vectors[:6] = vectors[100:106] = 4.0
    rows, scores = exactly(tmp_path, kind, vectors).search(np.ones((1, D), np.float32), 12)
    assert rows[0].tolist() == [*range(6), *range(100, 106)]
    assert scores[0].tolist() == [64.0] * 12


@pytest.mark.parametrize("kind", KINDS)
def test_all_alike(kind: str, tmp_path: Path) -> None:
    vectors = np.ones((100, D), np.float32)
    rows, _ = exactly(tmp_path, kind, vectors).search(np.ones((1, D), np.float32), 110)
    assert rows[0].tolist() == [*range(100)] + [NO_ROW] * 10


@pytest.mark.parametrize("kind", KINDS)
def test_one_item(kind: str, tmp_path: Path) -> None:
    vectors = clustered(1)
    assert exactly(tmp_path, kind, vectors).search(vectors, 3)[0].tolist() == [[0, NO_ROW, NO_ROW]]


@pytest.mark.parametrize("kind", KINDS)
def test_empty_and_filled_later(kind: str, tmp_path: Path) -> None:
    none = np.empty((0, D), np.float32)
    built(tmp_path, kind, none)
    assert (open_index(tmp_path, none, "e").search(np.ones((2, D), np.float32), 3)[0] == NO_ROW).all()
    with index_writer(tmp_path, none, "e") as writer:
        writer.append(np.array([2, 0]), np.array([[1.0] * D, [2.0] * D], np.float32))
        assert open_index(tmp_path, none, "e").search(np.ones((1, D), np.float32), 3)[0].tolist() == [[0, 2, NO_ROW]]
        writer.compact()
    assert open_index(tmp_path, none, "e").search(np.ones((1, D), np.float32), 3)[0].tolist() == [[0, 2, NO_ROW]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_item_vectors_that_are_no_numbers_are_refused(kind: str, bad: float, tmp_path: Path) -> None:
    vectors = clustered(30)
    vectors[17, 2] = bad
    with pytest.raises(InputError, match="vector 17 holds a NaN or an infinity"):
        built(tmp_path, kind, vectors)
    assert not (tmp_path / "segments.json").exists()


def test_exact_ties_break_by_row_and_nan_vectors_take_no_slot() -> None:
    vectors = np.ones((6, 2), np.float32)
    vectors[1] = np.nan
    rows, _ = ExactIndex(vectors).search(np.ones((1, 2), np.float32), 10)
    assert rows[0].tolist() == [0, 2, 3, 4, 5, -1, -1, -1, -1, -1]


def test_many_queries_are_searched_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, queries = clustered(100), clustered(30, seed=2)
    whole = ExactIndex(vectors).search(queries, 9)
    monkeypatch.setattr("index_builder.exact._BLOCK_SCORES", 700)  # 7 queries of 100 scores
    blocks = ExactIndex(vectors).search(queries, 9)
    assert np.array_equal(whole[0], blocks[0])
    np.testing.assert_allclose(whole[1], blocks[1], rtol=1e-5)
