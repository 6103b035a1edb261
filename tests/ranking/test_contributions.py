"""Contributions are LightGBM's own SHAP values, and the Shapley values of the definition on a tree that a reader can do by hand."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import lightgbm
import numpy as np
import pytest

from core.columns import Array
from core.errors import ArtifactError
from ranking import model_text
from ranking.contributions import Contributions, goes_left
from ranking.native_contributions import NativeContributions
from ranking.trees import Forest, UnsupportedModelError
from tests.ranking.forests import random_rows, random_text

BOTH = pytest.mark.parametrize("kind", [Contributions, NativeContributions])
Kind = type[Contributions] | type[NativeContributions]


def explainer(kind: Kind, forest: Forest, node_rows: Array, leaf_rows: Array) -> Contributions | NativeContributions:
    """Of trees, in numpy or compiled."""
    return (
        Contributions.of(forest, node_rows, leaf_rows)
        if kind is Contributions
        else NativeContributions(forest, node_rows, leaf_rows)
    )


def grown(folder: Path, seed: int, leaves: int, categorical: bool) -> tuple[lightgbm.Booster, Path, Array]:
    """A ranker grown on rows with missing values, zeros and, if wanted, a categorical column."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(4_000, 7)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    rows[:, 3] = rng.integers(0, 40, len(rows))
    rows[rng.random(len(rows)) < 0.3, 1] = 0
    worth = np.nan_to_num(rows[:, 0] * rows[:, 2]) + (rows[:, 3] % 3 == 0) + np.nan_to_num(rows[:, 1])
    parameters = {"objective": "lambdarank", "num_leaves": leaves, "verbose": -1, "min_data_in_leaf": 5, "seed": seed}
    data = lightgbm.Dataset(
        rows, (worth > 1).astype(int), group=[40] * 100, categorical_feature=[3] if categorical else []
    )
    booster = lightgbm.train(parameters, data, 20)
    booster.save_model(folder / "model.txt")
    return booster, folder / "model.txt", rows


@BOTH
@pytest.mark.parametrize(("seed", "leaves", "categorical"), [(1, 31, False), (2, 63, True), (3, 2, False)])
def test_the_same_as_lightgbm(tmp_path: Path, kind: Kind, seed: int, leaves: int, categorical: bool) -> None:
    booster, model, rows = grown(tmp_path, seed, leaves, categorical)
    few = rows[:50]
    found = kind.open(model)(few)
    np.testing.assert_allclose(found, booster.predict(few, pred_contrib=True), atol=1e-9)
    np.testing.assert_allclose(found.sum(axis=1), booster.predict(few), atol=1e-9)


@BOTH
def test_by_hand(kind: Kind) -> None:
    """One tree, x0 <= 0 ? 1 : (x1 <= 0 ? 2 : 4); of 8 rows 4, 3 and 1 ended in the leaves.

    v({}) = (4 + 6 + 4) / 8 = 1.75. The row (1, 1) ends in 4. v({0}) = (3 x 2 + 4) / 4 = 2.5; v({1}): half go left, the others to 4: 2.5; v = 4.
    Feature 0: ((2.5 - 1.75) + (4 - 2.5)) / 2 = 1.125; feature 1 the same; 1.75 + 2 x 1.125 = 4.
    """
    forest = Forest(
        features=2,
        nodes=np.array([0, 2], np.int32),
        feature=np.array([0, 1], np.int32),
        threshold=np.zeros(2),
        decision=np.zeros(2, np.uint8),
        left=np.array([~0, ~1], np.int32),
        right=np.array([1, ~2], np.int32),
        leaf=np.array([1.0, 2.0, 4.0]),
        sets=np.zeros(1, np.int32),
        words=np.empty(0, np.uint32),
    )
    explain = explainer(kind, forest, np.array([8.0, 4.0]), np.array([4.0, 3.0, 1.0]))
    np.testing.assert_allclose(explain(np.array([[1, 1]], np.float32)), [[1.125, 1.125, 1.75]])


@BOTH
@pytest.mark.parametrize("seed", range(20))
def test_the_same_as_the_definition(kind: Kind, seed: int) -> None:
    """The mean over all orders of the features of what each adds to the value of those before it, on random trees with every kind of node."""
    text = random_text(seed, features=4, trees=3, most_leaves=9)
    forest, rng = model_text.parse(text), np.random.default_rng(seed)
    leaf_rows = rng.integers(1, 9, len(forest.leaf)).astype(np.float64)
    node_rows = rows_of_nodes(forest, leaf_rows)
    row = random_rows(seed, 1, 4)
    found = explainer(kind, forest, node_rows, leaf_rows)(row)[0]
    left = goes_left(forest, row)[0]
    worth = {
        frozenset(known): value(forest, node_rows, leaf_rows, left, set(known))
        for order in permutations(range(4))
        for known in (order[:n] for n in range(5))
    }
    expected = np.zeros(4)
    for order in permutations(range(4)):
        for n, feature in enumerate(order):
            expected[feature] += (worth[frozenset(order[: n + 1])] - worth[frozenset(order[:n])]) / 24
    np.testing.assert_allclose(found[:-1], expected, atol=1e-9)
    assert found[-1] == pytest.approx(worth[frozenset()])


def rows_of_nodes(forest: Forest, leaf_rows: Array) -> Array:
    """Children come after their parents: sums from the last node to the first."""
    rows, tree = np.zeros(len(forest.feature)), forest.tree_of_node()
    for node in reversed(range(len(rows))):
        first = forest.nodes[tree[node]]
        for child in (forest.left[node], forest.right[node]):
            rows[node] += rows[first + child] if child >= 0 else leaf_rows[first + tree[node] + ~child]
    return rows


def value(forest: Forest, node_rows: Array, leaf_rows: Array, left: Array, known: set[int]) -> float:
    """What is expected of a row of which only some features are known, tree by tree, from the root down."""

    def below(t: int, at: int) -> float:
        first = forest.nodes[t]
        if at < 0:
            return float(forest.leaf[first + t + ~at])
        node = first + at
        sides = (int(forest.left[node]), int(forest.right[node]))
        if forest.feature[node] in known:
            return below(t, sides[0] if left[node] else sides[1])
        weights = [node_rows[first + s] if s >= 0 else leaf_rows[first + t + ~s] for s in sides]
        return float(sum(w * below(t, s) for w, s in zip(weights, sides, strict=True)) / sum(weights))

    return sum(below(t, 0 if forest.nodes[t + 1] > forest.nodes[t] else ~0) for t in range(forest.trees))


@BOTH
@pytest.mark.parametrize("seed", range(10))
def test_the_ways_lead_to_the_leaves_that_lightgbm_finds(kind: Kind, seed: int) -> None:
    """A row's contributions add up to its score, on adversarial rows."""
    text = random_text(seed, trees=6)
    forest = model_text.parse(text)
    explain = explainer(kind, forest, rows_of_nodes(forest, np.ones(len(forest.leaf))), np.ones(len(forest.leaf)))
    rows = random_rows(seed, 200, 5)
    expected = lightgbm.Booster(model_str=text).predict(rows)
    np.testing.assert_allclose(explain(rows).sum(axis=1), expected, atol=1e-8)


def test_a_model_that_does_not_count_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.txt").write_text(random_text(1).replace("leaf_count", "leaf_weighed"))
    with pytest.raises(ArtifactError, match="does not say how many rows went where"):
        Contributions.open(tmp_path / "model.txt")


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("n", [0, 1, 7, 8, 33, 100])
def test_compiled_is_numpy(seed: int, n: int) -> None:
    """On random trees with every kind of node, features asked for again and again on a way, and rows in any memory order."""
    forest = model_text.parse(random_text(seed, features=3 + seed % 9, trees=8, most_leaves=40))
    leaf_rows = np.random.default_rng(seed).integers(0, 9, len(forest.leaf)).astype(np.float64)  # an empty leaf: z is 0
    node_rows, rows = rows_of_nodes(forest, leaf_rows), random_rows(seed, max(n, 1), 3 + seed % 9)[:n]
    expected = Contributions.of(forest, node_rows, leaf_rows)(rows)
    found = NativeContributions(forest, node_rows, leaf_rows)
    np.testing.assert_allclose(found(rows), expected, atol=1e-9)
    assert np.array_equal(found(np.asfortranarray(rows)), found(rows))


def test_rows_of_another_shape_are_refused(tmp_path: Path) -> None:
    _, model, rows = grown(tmp_path, 4, 7, False)
    with pytest.raises(ValueError, match=r"float32 \[2, 3\], expected float32 \[n, 7\]"):
        NativeContributions.open(model)(rows[:2, :3])


def test_more_features_on_a_way_than_the_kernel_has_points_for(tmp_path: Path) -> None:
    """A tree that is one way of 33 features: 17 points, the kernel has 16."""
    n = 33
    chain = Forest(
        features=n,
        nodes=np.array([0, n], np.int32),
        feature=np.arange(n, dtype=np.int32),
        threshold=np.zeros(n),
        decision=np.zeros(n, np.uint8),
        left=~np.arange(n, dtype=np.int32),
        right=np.append(np.arange(1, n), ~n).astype(np.int32),
        leaf=np.arange(n + 1.0),
        sets=np.zeros(1, np.int32),
        words=np.empty(0, np.uint32),
    )
    with pytest.raises(UnsupportedModelError, match="33 features"):
        NativeContributions(chain, np.arange(n + 1.0, 1, -1), np.ones(n + 1))
