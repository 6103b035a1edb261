"""`bench index` on small catalogues: the figures that others read are there and hang together; killed writers leave whole indexes."""

# bazel: size=medium, data=[//configs:all_files]

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.index import bench_files, bench_items, catalogue
from benchmarks.index_kills import kill_writers
from core.errors import InputError


def quiet(_: str) -> None:
    """No progress."""


def test_a_made_up_catalogue() -> None:
    # 60 seconds for a baseline are plenty at this size; 3000 items are searched exactly
    figures = bench_items(3000, 3, 60, 1, quiet)
    assert (figures["kind"], figures["recall@100"], figures["recall@500"]) == ("exact", 1.0, 1.0)
    assert {"build_seconds", "p50_ms", "p99_ms", "bytes_per_vector", "incremental_ratio"} <= figures.keys()
    assert figures["incremental_recall@100"] == figures["rebuilt_recall@100"] == 1.0
    assert figures["nights_recall@100"] == [1.0, 1.0]
    assert figures["incremental_deleted_returned"] == figures["nights_deleted_returned"] == 0
    assert set(figures["baselines"]) == {"IndexFlatIP", "IndexIVFFlat", "IndexHNSWFlat"}
    memory = figures["memory"]
    assert 0 < memory["searching_anonymous_gb"] <= memory["searching_gb"] <= memory["built_gb"] <= memory["peak_gb"] < 8
    for filtered in figures["filters"].values():
        assert (filtered["recall@100"], filtered["violations"]) == (1.0, 0)


def test_a_baseline_that_takes_too_long_is_left_out_and_says_so() -> None:
    left_out = {"left_out": "not built within 0 s"}
    assert bench_items(1000, 0, 0, 1, quiet)["baselines"]["IndexHNSWFlat"] == left_out


def test_files(tmp_path: Path) -> None:
    shop = catalogue(2000, 5)
    np.save(tmp_path / "v.npy", shop.vectors)
    np.save(tmp_path / "q.npy", shop.judge[:40])
    figures = bench_files(tmp_path / "v.npy", tmp_path / "q.npy", 10, tmp_path / "rows.npy", 60, quiet)
    wanted = np.argsort(-(shop.judge[:40] @ shop.vectors.T), axis=1, kind="stable")[:, :10]
    assert np.load(tmp_path / "rows.npy").tolist() == wanted.tolist()
    assert figures["recall@10"] == 1.0


def test_files_that_do_not_fit_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((5, 4), np.float32))
    np.save(tmp_path / "q.npy", np.ones((5, 3), np.float32))
    np.save(tmp_path / "d.npy", np.ones((5, 4)))
    with pytest.raises(InputError, match=r"q\.npy: queries of 3 dimensions, the vectors of .*v\.npy have 4"):
        bench_files(tmp_path / "v.npy", tmp_path / "q.npy", 2, None, 60, quiet)
    with pytest.raises(InputError, match=r"d\.npy: float64 \[5, 4\], expected float32"):
        bench_files(tmp_path / "d.npy", tmp_path / "q.npy", 2, None, 60, quiet)


def test_kill_9_at_random_moments_leaves_the_old_index_or_the_new_one() -> None:
    found = kill_writers(40, 2, quiet)
    assert found["kills"] == 40
    assert (found["wrong"], found["uncleaned"]) == (0, 0)
    assert found["left"] > 0  # some were hit in the middle of a write
