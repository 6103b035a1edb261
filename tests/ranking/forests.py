"""Random forests in LightGBM's text format, with every kind of node there is, and rows that lie where nodes differ."""

from __future__ import annotations

from typing import Any

import numpy as np

from core.columns import Array

TINY = 1e-35  # LightGBM takes what is no farther from zero for zero
THRESHOLDS = (
    0.0,
    -0.0,
    TINY,
    -TINY,
    1.0000000180025095e-35,
    1e-40,
    0.1,
    1 / 3,
    -2.5,
    7.0,
    1e300,
    -1e300,
    3.4028234663852886e38,
)


def random_text(seed: int, features: int = 5, trees: int = 4, most_leaves: int = 20, categorical: bool = True) -> str:
    """A model of random trees."""
    rng = np.random.default_rng(seed)
    blocks = [
        tree_text(t, random_tree(rng, features, int(rng.integers(1, most_leaves + 1)), categorical))
        for t in range(trees)
    ]
    return text_of(blocks, features)


def text_of(blocks: list[str], features: int, objective: str = "lambdarank") -> str:
    """The model of these trees."""
    head = {
        "version": "v4",
        "num_class": 1,
        "num_tree_per_iteration": 1,
        "label_index": 0,
        "max_feature_idx": features - 1,
        "objective": objective,
        "feature_names": " ".join(f"f{j}" for j in range(features)),
        "feature_infos": " ".join(["[-10:10]"] * features),
    }
    lines = "\n".join(f"{key}={value}" for key, value in head.items())
    return f"tree\n{lines}\n\n" + "".join(blocks) + "end of trees\n"


def random_tree(rng: np.random.Generator, features: int, leaves: int, categorical: bool) -> dict[str, list[Any]]:
    """Grown as LightGBM grows: split i turns a leaf into node i, whose left child keeps the leaf's number and whose right one is leaf i + 1."""
    tree: dict[str, list[Any]] = {name: [] for name in ("feature", "threshold", "decision", "left", "right", "words")}
    tree |= {"sets": [0], "leaf": [float(v) for v in rng.normal(size=leaves)]}
    place: dict[int, tuple[str, int]] = {}  # leaf -> where its parent names it
    for i in range(leaves - 1):
        leaf = int(rng.integers(0, i + 1))
        if leaf in place:
            side, parent = place[leaf]
            tree[side][parent] = i
        tree["left"].append(~leaf)
        tree["right"].append(~(i + 1))
        place |= {leaf: ("left", i), i + 1: ("right", i)}
        tree["feature"].append(int(rng.integers(0, features)))
        if categorical and rng.random() < 0.25:
            words = rng.integers(0, 2**32, int(rng.integers(1, 4))).tolist()
            tree["decision"].append(1)
            tree["threshold"].append(len(tree["sets"]) - 1)
            tree["words"] += words
            tree["sets"].append(len(tree["words"]))
        else:
            tree["decision"].append(int(rng.choice([0, 2, 4, 6, 8, 10])))
            tree["threshold"].append(float(rng.choice(THRESHOLDS) if rng.random() < 0.5 else rng.normal()))
    if rng.random() < 0.5:  # other programs number leaves otherwise
        number = rng.permutation(leaves).tolist()
        for side in ("left", "right"):
            tree[side] = [child if child >= 0 else ~number[~child] for child in tree[side]]
    return tree


def tree_text(number: int, tree: dict[str, list[Any]]) -> str:
    """One tree of the file."""
    n, leaves = len(tree["feature"]), len(tree["leaf"])
    values = {
        "num_leaves": [leaves],
        "num_cat": [len(tree["sets"]) - 1],
        "split_feature": tree["feature"],
        "split_gain": [1] * n,
        "threshold": [f"{v:.17g}" for v in tree["threshold"]],
        "decision_type": tree["decision"],
        "left_child": tree["left"],
        "right_child": tree["right"],
        "leaf_value": [f"{v:.17g}" for v in tree["leaf"]],
        "leaf_weight": [1] * leaves,
        "leaf_count": [1] * leaves,
        "internal_value": [0] * n,
        "internal_weight": [1] * n,
        "internal_count": [1] * n,
    }
    if len(tree["sets"]) > 1:
        values |= {"cat_boundaries": tree["sets"], "cat_threshold": tree["words"]}
    values |= {"is_linear": [0], "shrinkage": [1]}
    return "\n".join([f"Tree={number}", *(f"{k}={' '.join(map(str, v))}" for k, v in values.items())]) + "\n\n\n"


def random_rows(seed: int, n: int, features: int) -> Array:
    """float32 `[n, features]`: ordinary values, categories, thresholds and their neighbours, zeros, NaN, infinities."""
    rng = np.random.default_rng(seed)
    edges = np.array(THRESHOLDS, np.float64).clip(-3e38, 3e38).astype(np.float32)
    pool = np.concatenate(
        [
            *(np.nextafter(edges, np.float32(to)) for to in (-np.inf, np.inf)),
            edges,
            np.arange(-2, 100, dtype=np.float32),
            np.array([np.nan, np.inf, -np.inf, -0.5, 2.5, 2.0**31, 3e9, -3e9], np.float32),
        ]
    )
    ordinary = rng.normal(size=(n, features)).astype(np.float32)
    missing = rng.random((n, features)) < 0.1
    return np.where(
        missing,
        np.float32(np.nan),
        np.where(rng.random((n, features)) < 0.6, rng.choice(pool, (n, features)), ordinary),
    )
