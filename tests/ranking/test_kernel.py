"""The compiled kernel gives LightGBM's own predictions, bit for bit, for every kind of node, row and shape."""

from __future__ import annotations

import platform
import threading
from functools import partial
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core import native as compiled
from core.columns import Array
from ranking import kernel, model_text
from ranking.kernel import SOURCE, NativeKernel
from ranking.layout import Layout, floor32
from tests.ranking.forests import random_rows, random_text, random_tree, text_of, tree_text

# bazel: size=medium

SEEDS = st.integers(0, 2**32 - 1)


def oracle(text: str, rows: Array) -> Array:
    return np.asarray(lightgbm.Booster(model_str=text).predict(rows, num_threads=1))


def native(text: str) -> NativeKernel:
    return NativeKernel(model_text.parse(text))


@settings(deadline=None)
@given(
    seed=SEEDS, n=st.integers(1, 1100), features=st.integers(1, 9), trees=st.integers(1, 8), leaves=st.integers(1, 64)
)
def test_every_kind_of_node_and_row(seed: int, n: int, features: int, trees: int, leaves: int) -> None:
    text, rows = random_text(seed, features, trees, leaves), random_rows(seed, n, features)
    assert np.array_equal(native(text).predict(rows), oracle(text, rows))


@settings(deadline=None, max_examples=20)
@given(
    seed=SEEDS,
    leaves=st.integers(2, 400),
    bins=st.sampled_from([15, 255, 2000]),
    zero_as_missing=st.booleans(),
    use_missing=st.booleans(),
)
def test_trained_models(seed: int, leaves: int, bins: int, zero_as_missing: bool, use_missing: bool) -> None:
    """Beyond 256 leaves, or 255 thresholds of a feature, ranks take two bytes."""
    rows = random_rows(seed, 1500, 4)
    learn = np.where(np.isfinite(rows), rows, np.nan).clip(-1e3, 1e3)
    learn[:, 3] = np.abs(np.nan_to_num(learn[:, 3])).round()
    parameters: dict[str, Any] = {
        "objective": "regression",
        "num_leaves": leaves,
        "max_bin": bins,
        "min_data_in_leaf": 1,
    }
    parameters |= {"min_data_per_group": 1, "cat_smooth": 0, "num_threads": 1, "verbose": -1, "min_data_in_bin": 1}
    parameters |= {"zero_as_missing": zero_as_missing, "use_missing": use_missing}
    label = np.random.default_rng(seed).normal(size=len(rows)) + np.nan_to_num(learn[:, 0])
    text = lightgbm.train(parameters, lightgbm.Dataset(learn, label, categorical_feature=[3]), 5).model_to_string()
    assert np.array_equal(native(text).predict(rows), oracle(text, rows))


@pytest.mark.parametrize(("leaves", "word"), [(256, np.uint8), (257, np.uint16), (3000, np.uint16)])
def test_wide_trees(leaves: int, word: Any) -> None:
    text = text_of([tree_text(0, random_tree(np.random.default_rng(leaves), 3, leaves, categorical=False))], 3)
    assert Layout.of(model_text.parse(text)).word == word
    rows = random_rows(3, 600, 3)
    assert np.array_equal(native(text).predict(rows), oracle(text, rows))


@pytest.mark.parametrize(("thresholds", "word"), [(255, np.uint8), (256, np.uint16)])
def test_many_thresholds_of_one_feature(thresholds: int, word: Any) -> None:
    """256 values below, at and above 255 thresholds are the most that a byte can tell apart; stumps, so that leaves are no limit."""

    def stump(t: int) -> str:
        tree: dict[str, list[Any]] = {
            "feature": [0],
            "threshold": [float(t)],
            "decision": [0],
            "left": [-1],
            "right": [-2],
        }
        return tree_text(t, tree | {"words": [], "sets": [0], "leaf": [0.0, 1.0]})

    text = text_of([stump(t) for t in range(thresholds)], 1)
    assert Layout.of(model_text.parse(text)).word == word
    # row v lies above the thresholds 0 to v - 1: v stumps say 1
    values = np.arange(thresholds + 1, dtype=np.float32)
    assert native(text).predict(values[:, None]).tolist() == values.tolist()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names the instructions of x86-64")
def test_the_narrowest_vectors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers of 16 bytes, as on a machine without AVX2: tiles of 128 rows, or 64 where ranks take two bytes."""
    flags = tuple("-march=x86-64" if flag.startswith("-march") else flag for flag in compiled._FLAGS)
    monkeypatch.setattr(compiled, "_FLAGS", flags)
    load = partial(compiled.load.__wrapped__, folder=tmp_path)
    monkeypatch.setattr(kernel, "load", load)
    for leaves, tile in ((60, 128), (300, 64)):
        assert load(SOURCE, 1 if leaves <= 256 else 2).tile_rows() == tile
        text = text_of([tree_text(0, random_tree(np.random.default_rng(leaves), 4, leaves, categorical=True))], 4)
        for n in (1, 15, 16, 17, 100, 128, 129, 500):
            rows = random_rows(n, n, 4)
            assert np.array_equal(native(text).predict(rows), oracle(text, rows))


def test_trees_of_one_leaf_only() -> None:
    leaf: dict[str, list[Any]] = {"feature": [], "threshold": [], "decision": [], "left": [], "right": []}
    text = text_of([tree_text(t, leaf | {"words": [], "sets": [0], "leaf": [0.25]}) for t in range(3)], 2)
    assert native(text).predict(np.full((3, 2), np.nan, np.float32)).tolist() == [0.75] * 3  # 3 trees of 0.25


def test_no_rows_and_no_trees() -> None:
    assert native(random_text(1)).predict(np.empty((0, 5), np.float32)).shape == (0,)
    assert native(text_of([], 5)).predict(np.zeros((2, 5), np.float32)).tolist() == [0, 0]


@settings(deadline=None, max_examples=30)
@given(seed=SEEDS)
def test_rows_in_any_memory_order_are_left_as_they_were(seed: int) -> None:
    text, rows = random_text(seed), random_rows(seed, 300, 5)
    rows.flags.writeable = False
    wanted, evaluate = oracle(text, rows), native(text).predict
    wide = np.repeat(rows, 2, axis=1)
    for same in (rows, np.asfortranarray(rows), wide[:, ::2], rows[::-1][::-1]):
        assert np.array_equal(evaluate(same), wanted)
    assert np.array_equal(evaluate(rows[::-1]), wanted[::-1])
    shifted = np.frombuffer(b"\0" + rows.tobytes(), np.uint8)[1:].view(np.float32).reshape(rows.shape)
    assert np.array_equal(evaluate(shifted), wanted)


@pytest.mark.parametrize("rows", [np.zeros((2, 4), np.float32), np.zeros((2, 5)), np.zeros(5, np.float32)])
def test_rows_of_another_shape_are_refused(rows: Array) -> None:
    with pytest.raises(ValueError, match=r"expected float32 \[n, 5\]"):
        native(random_text(1)).predict(rows)


def test_threads_share_a_kernel() -> None:
    text = random_text(5, features=8, trees=40, most_leaves=60)
    shared, wrong = native(text), list[int]()

    def ask(seed: int) -> None:
        rows = random_rows(seed, 100 + 100 * seed, 8)
        wanted = oracle(text, rows)
        wrong.extend(seed for _ in range(50) if not np.array_equal(shared.predict(rows), wanted))

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_the_greatest_float32_that_is_no_greater() -> None:
    """0.5 is one itself; the one nearest to 0.1 lies above it; beyond the range of float32 they end at the greatest and at -infinity."""
    limits = floor32(np.array([0.5, 0.1, 1e300, -1e300, np.inf, 1e-46]))
    assert limits.tolist() == [
        0.5,
        np.nextafter(np.float32(0.1), np.float32(0)),
        np.finfo(np.float32).max,
        -np.inf,
        np.inf,
        0,
    ]
