"""The portable arrays of a model: what LightGBM's text says comes back, and what could lead an evaluator astray is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.columns import Array
from core.errors import ArtifactError
from ranking import model_text
from ranking.trees import HEADER, Forest, UnsupportedModelError
from tests.ranking.forests import random_text, text_of, tree_text

ARRAYS = [f.name for f in fields(Forest) if f.name != "features"]

BY_HAND: dict[str, list[Any]] = {
    "feature": [1, 0, 0],
    "threshold": [0.5, 0, 1],
    "decision": [10, 1, 1],  # NaN is missing and goes left; two sets of categories
    "left": [1, -1, -2],
    "right": [2, -3, -4],
    "leaf": [0.1, 0.2, 0.3, 0.4],
    "sets": [0, 1, 3],
    "words": [5, 6, 7],
}


def by_hand() -> str:
    return text_of([tree_text(0, BY_HAND), tree_text(1, BY_HAND)], 2)


def test_two_trees_by_hand() -> None:
    """Nodes 0 to 2 and 3 to 5; the second tree's sets are the third and fourth."""
    forest = model_text.parse(by_hand())
    assert (forest.features, forest.trees, forest.nodes.tolist()) == (2, 2, [0, 3, 6])
    assert forest.threshold.tolist() == [0.5, 0, 1, 0.5, 2, 3]
    assert forest.sets.tolist() == [0, 1, 3, 4, 6]
    assert forest.left.tolist() == [1, -1, -2] * 2
    assert forest.leaf.tolist() == [0.1, 0.2, 0.3, 0.4] * 2
    assert forest.tree_of_node().tolist() == [0, 0, 0, 1, 1, 1]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_written_is_opened(seed: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    model = tmp_path_factory.mktemp("ranker") / "model.txt"
    model.write_text(random_text(seed))
    forest = model_text.read(model)
    forest.write(model.parent / "trees", model)
    again = Forest.open(model.parent / "trees", model)
    assert again.features == forest.features
    assert all(np.array_equal(getattr(again, name), getattr(forest, name)) for name in ARRAYS)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda t: t.replace("is_linear=0", "is_linear=1"), "linear models"),
        (lambda t: t.replace("num_tree_per_iteration=1", "num_tree_per_iteration=3"), "3 outputs"),
        (lambda t: t.replace("label_index=0", "label_index=0\naverage_output"), "averaged"),
        (lambda t: t.replace("objective=lambdarank", "objective=binary sigmoid:1"), "binary sigmoid:1, puts"),
        (lambda t: t.replace("objective=lambdarank", "objective=regression sqrt"), "regression sqrt, puts"),
    ],
)
def test_models_that_are_more_than_a_sum(change: Callable[[str], str], reason: str) -> None:
    with pytest.raises(UnsupportedModelError, match=reason):
        model_text.parse(change(by_hand()))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[: len(t) // 2],
        lambda t: t.replace("tree\n", "", 1),
        lambda t: t.replace("left_child=1 -1 -2", "left_child=1 -1", 1),
        lambda t: t.replace("num_leaves=4", "num_leaves=5", 1),
        lambda t: t.replace("num_cat=2", "num_cat=1", 1),
        lambda t: t.replace("cat_threshold=5 6 7", "cat_threshold=5 6", 1),
        lambda t: t.replace("split_feature=1", "split_feature=9999999999", 1),
        lambda t: t.replace("label_index=0", "tree_sizes=10 20 30", 1),
        lambda t: t.replace("leaf_value=", "leaf_valu=", 1),
        lambda t: "\0" + t,
    ],
)
def test_a_damaged_model_is_named(tmp_path: Path, change: Callable[[str], str]) -> None:
    model = tmp_path / "model.txt"
    model.write_text(change(by_hand()))
    with pytest.raises(ArtifactError, match=r"model\.txt: truncated or not a LightGBM model"):
        model_text.read(model)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("feature", [1, 0, 2, 1, 0, 0], "beyond the 2"),
        ("feature", [1, 0, -1, 1, 0, 0], "beyond the 2"),
        ("threshold", [np.nan, 0, 1, 0.5, 2, 3], "NaN"),
        ("threshold", [0.5, 0, 1, 0.5, 2, 4], "set beyond the 4"),
        ("threshold", [0.5, 0, 1], "3 values of threshold"),
        ("left", [1, -1, -2, 3, -1, -2], "not of its tree"),  # a node that the tree lacks
        ("left", [0, -1, -2, 1, -1, -2], "comes before its parent"),  # round in circles
        ("left", [1, -1, -5, 1, -1, -2], "not of its tree"),  # a leaf that it lacks
        ("left", [2, -1, -2, 1, -1, -2], "child of none or of several"),
        ("right", [2, -3, -3, 2, -3, -4], "child of none or of several"),
        ("leaf", [0.0] * 7, "7 leaves, expected 8"),
        ("nodes", [0, 7, 6], "do not add up to 6"),
        ("nodes", [1, 3, 6], "do not add up to 6"),
        ("sets", [0, 1, 3, 4, 9], "do not add up to 6 words"),
    ],
)
def test_trees_that_lead_astray_are_refused(name: str, value: list[float], problem: str) -> None:
    forest = model_text.parse(by_hand())
    changed: dict[str, Any] = {name: np.array(value, getattr(forest, name).dtype)}
    with pytest.raises(ArtifactError, match=problem):
        replace(forest, **changed)


def test_arrays_of_another_type_are_refused() -> None:
    forest = model_text.parse(by_hand())
    with pytest.raises(ArtifactError, match=r"left is int64 \[6\], expected int32"):
        replace(forest, left=forest.left.astype(np.int64))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    model = tmp_path / "model.txt"
    model.write_text(by_hand())
    model_text.read(model).write(tmp_path / "trees", model)
    return tmp_path / "trees"


def reopen(folder: Path) -> Forest:
    return Forest.open(folder, folder.parent / "model.txt")


@pytest.mark.parametrize("name", [HEADER, *(f"{name}.npy" for name in ARRAYS)])
def test_a_missing_or_truncated_file_is_named(written: Path, name: str) -> None:
    whole = (written / name).read_bytes()
    (written / name).write_bytes(whole[: len(whole) - 3])
    with pytest.raises(ArtifactError, match=name):
        reopen(written)
    (written / name).unlink()
    with pytest.raises(ArtifactError, match=name):
        reopen(written)


def edited(folder: Path, name: str, change: Callable[[Array], None]) -> None:
    array = np.load(folder / f"{name}.npy")
    change(array)
    np.save(folder / f"{name}.npy", array)


def test_altered_arrays_are_refused(written: Path) -> None:
    edited(written, "leaf", lambda leaf: leaf.__setitem__(0, 99.0))
    with pytest.raises(ArtifactError, match=r"altered: sha256 .* of the arrays, trees\.json says"):
        reopen(written)


def test_trees_of_another_model_are_refused(written: Path) -> None:
    (written.parent / "model.txt").write_text(random_text(1))
    with pytest.raises(ArtifactError, match=r"model\.txt: sha256 .*the trees beside it are of"):
        reopen(written)


def test_another_format_is_refused(written: Path) -> None:
    header = json.loads((written / HEADER).read_text())
    (written / HEADER).write_text(json.dumps(header | {"format_version": 2}))
    with pytest.raises(ArtifactError, match="tree format 2, this Aisle reads 1"):
        reopen(written)
    shutil.rmtree(written)
    with pytest.raises(ArtifactError, match=r"trees\.json: missing"):
        reopen(written)
