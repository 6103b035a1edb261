"""Which kind is built, how far its effort goes, and what the manifest says of it."""

# bazel: size=medium

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import IndexConfig
from core.errors import EnvironmentGapError
from index_builder import device
from index_builder.build import build_index, kinds_for
from index_builder.exact import ExactIndex
from index_builder.faiss_index import Setting
from index_builder.search import open_index
from index_builder.tune import overlap, recall_at
from tests.index_builder.catalogues import CONFIG, KINDS, clustered, config_of, like_towers, quiet


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_built_reaches_its_recall_and_says_so(tmp_path: Path, kind: str) -> None:
    vectors, queries = like_towers(3000), like_towers(100, seed=9)
    facts = build_index(vectors, queries, "e", config_of(kind), tmp_path, quiet)
    index = open_index(tmp_path, vectors, "e")
    assert facts["kind"] == kind
    assert facts["recall@100"] >= CONFIG.recall_target
    assert recall_at(index, vectors, queries, 100) == pytest.approx(facts["recall@100"], abs=1e-3)
    assert {"bytes_per_vector", "items", "dimensions", "embedding_id", "queries"} <= facts.keys()
    if kind != "exact":
        assert 0 < facts["p50_ms"] <= facts["p99_ms"]
        on_disk = sum(f.stat().st_size for f in tmp_path.iterdir() if f.name != "segments.json")
        assert facts["bytes_per_vector"] == pytest.approx(on_disk / 3000, rel=0.01)
    assert (facts.get("list_imbalance") is not None) == kind.startswith("ivf")


def test_the_losers_leave_no_file_and_their_figures(tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"exact_below": 0, "kinds": dict.fromkeys(KINDS[1:], (0, None))})
    facts = build_index(clustered(2000), clustered(50, seed=9), "e", config, tmp_path, quiet)
    assert set(facts["tried"]) == set(KINDS[1:])
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        f"base-1.{facts['kind']}.faiss",
        "base-1.vectors.npy",
        "segments.json",
    ]


def test_a_graph_that_cannot_reach_everything_is_not_chosen(tmp_path: Path) -> None:
    # 20 clusters far from one another: whatever the effort, the links of a graph do not lead from one to all others
    config = CONFIG.model_copy(update={"exact_below": 0, "kinds": {"hnsw": (0, None), "ivf-flat": (0, None)}})
    facts = build_index(clustered(3000), clustered(100, seed=9), "e", config, tmp_path, quiet)
    assert facts["tried"]["hnsw"]["recall@100"] < CONFIG.recall_floor
    assert facts["kind"] == "ivf-flat"
    assert facts["recall@100"] >= CONFIG.recall_target


def test_no_queries_is_no_obstacle(tmp_path: Path) -> None:
    vectors = clustered(500)
    facts = build_index(vectors, np.empty((0, 16), np.float32), "e", config_of("ivf-sq8"), tmp_path, quiet)
    assert (facts["recall@100"], facts["queries"]) == (1.0, 0)
    assert len(open_index(tmp_path, vectors, "e").search(vectors[:1], 5)[0][0]) == 5


def test_a_recall_out_of_reach_is_stated_for_the_gate(tmp_path: Path) -> None:
    # codes of 4 bits for 2 components and a shortlist of 8 k: queries far from everything do not find all
    vectors = np.random.default_rng(0).normal(size=(2000, 32)).astype(np.float32)
    queries = np.random.default_rng(1).normal(size=(50, 32)).astype(np.float32)
    config = config_of("ivf-pq").model_copy(update={"recall_target": 1.0, "k": 10})
    facts = build_index(vectors, queries, "e", config, tmp_path, quiet)
    found = open_index(tmp_path, vectors, "e").search(queries, 10)[0]
    truth = ExactIndex(vectors).search(queries, 10)[0]
    measured = np.mean([len(set(t) & set(f)) / 10 for t, f in zip(truth.tolist(), found.tolist(), strict=True)])
    assert facts["recall@10"] == pytest.approx(measured, abs=1e-3)
    assert facts["recall@10"] < 1.0


def test_kinds_by_size() -> None:
    # the ranges of configs/pipeline.yaml: [from, below)
    assert kinds_for(60_000, CONFIG) == ["hnsw", "ivf-flat", "ivf-sq8"]
    assert kinds_for(100_000, CONFIG) == ["ivf-flat", "ivf-sq8"]
    assert kinds_for(2_000_000, CONFIG) == ["ivf-flat", "ivf-sq8", "ivf-pq"]
    assert kinds_for(10_000_000, CONFIG) == ["ivf-sq8", "ivf-pq"]


def test_a_size_without_a_kind_is_a_mistake_in_the_configuration() -> None:
    values = CONFIG.model_dump() | {"kinds": {"ivf-flat": (0, 1000), "ivf-pq": (2000, None)}, "exact_below": 500}
    with pytest.raises(ValueError, match="no kind for 1000 items"):
        IndexConfig.model_validate(values)


def test_effort_between_the_tuned_depths() -> None:
    setting = Setting(((100, 8), (400, 32)))
    # a quarter deeper than what is known first, as known, half way on the power law 8 (d / 100): 16, known, then in proportion
    assert [setting.effort(d) for d in (10, 100, 200, 400, 800)] == [8, 8, 16, 32, 64]
    assert Setting(((100, 5),)).effort(101) == 6  # 5.05, rounded up


@given(st.lists(st.tuples(st.integers(1, 10**5), st.integers(1, 4096)), min_size=1, max_size=6), st.floats(1, 1e6))
def test_effort_never_falls_with_depth(points: list[tuple[int, int]], depth: float) -> None:
    depths, efforts = sorted({d for d, _ in points}), sorted(e for _, e in points)
    setting = Setting(tuple(zip(depths, efforts, strict=False)))
    assert setting.effort(depth) <= setting.effort(depth * 1.5)


def test_a_gpu_that_is_asked_for_and_not_there_is_named() -> None:
    if device.gpus("auto"):
        pytest.skip("there is a GPU")
    assert device.gpus("cpu") == 0
    with pytest.raises(EnvironmentGapError, match=r"index\.device is gpu, but FAISS sees none"):
        device.gpus("gpu")


@pytest.mark.skipif(not device.gpus("auto"), reason="FAISS sees no GPU: what it trains is not compared")
@pytest.mark.parametrize("kind", KINDS[1:])
def test_trained_on_a_gpu_it_finds_the_same_as_trained_on_the_cpu(kind: str, tmp_path: Path) -> None:
    vectors, queries = like_towers(20_000, 32), like_towers(100, 32, seed=9)
    config = config_of(kind)
    for where in ("cpu", "gpu"):
        build_index(vectors, queries, "e", config.model_copy(update={"device": where}), tmp_path / where, quiet)
        index = open_index(tmp_path / where, vectors, "e")
        assert recall_at(index, vectors, queries, 100) >= CONFIG.recall_target


@pytest.mark.parametrize("kind", ["ivf-flat", "ivf-sq8", "ivf-pq"])
def test_a_filter_that_keeps_away_from_the_query_keeps_its_recall(kind: str, tmp_path: Path) -> None:
    # 20 clusters; the queries are of the first 10, allowed are the other 10: their nearest lists hold nothing that is allowed
    rng = np.random.default_rng(0)
    centres, of = rng.normal(size=(20, 32)), rng.integers(20, size=24_000)
    vectors = (centres[of] + 0.5 * rng.normal(size=(len(of), 32))).astype(np.float32)
    queries = (centres[rng.integers(10, size=100)] + 0.7 * rng.normal(size=(100, 32))).astype(np.float32)
    config = config_of(kind).model_copy(update={"k": 10})
    build_index(vectors, queries, "e", config, tmp_path, quiet)
    allowed = of >= 10
    truth = ExactIndex(vectors).search(queries, 10, allowed)[0]
    found = open_index(tmp_path, vectors, "e").search(queries, 10, allowed)[0]
    assert allowed[found].all()
    assert overlap(truth, found) >= CONFIG.recall_floor


@pytest.mark.parametrize("kind", ["ivf-flat", "ivf-sq8", "ivf-pq"])
def test_filters_keep_the_floor_at_every_share(kind: str, tmp_path: Path) -> None:
    """Whole clusters and items by chance, from nearly all to a few, each query alone: what was tuned is what a request gets."""
    rng = np.random.default_rng(1)
    centres, of = rng.normal(size=(200, 32)), rng.integers(200, size=40_000)
    vectors = (centres[of] + rng.normal(size=(len(of), 32))).astype(np.float32)
    queries = (centres[rng.integers(200, size=400)] + 1.4 * rng.normal(size=(400, 32))).astype(np.float32)
    config = config_of(kind).model_copy(update={"k": 20})
    build_index(vectors, queries[:300], "e", config, tmp_path, quiet)
    index, oracle = open_index(tmp_path, vectors, "e"), ExactIndex(vectors)
    for share in (0.9, 0.7, 0.5, 0.3, 0.15, 0.01):
        for allowed in (of < 200 * share, rng.random(len(of)) < share):
            truth = oracle.search(queries[300:], 20, allowed)[0]
            found = np.vstack([index.search(q[None], 20, allowed)[0] for q in queries[300:]])
            assert allowed[found].all()
            assert overlap(truth, found) >= CONFIG.recall_floor, share
