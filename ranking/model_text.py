"""Reads a model in LightGBM's text format into portable arrays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.columns import Array
from core.errors import ArtifactError
from ranking.trees import CATEGORICAL, Forest, UnsupportedModelError

# Objectives whose prediction is the plain sum of leaves; the others put it through a function.
_PLAIN: Final = ("lambdarank", "rank_xendcg", "regression", "regression_l1", "huber", "fair", "quantile", "mape", "")


def read(model: Path) -> Forest:
    """The trees of the model file `model`.

    Raises:
        ArtifactError: if the file is missing, cut short or not LightGBM's.
        UnsupportedModelError: if the model is more than a sum of trees with one feature a node.
    """
    try:
        return parse(model.read_text())
    except FileNotFoundError:
        raise ArtifactError(f"{model}: missing") from None
    except (ValueError, KeyError, IndexError, OverflowError, ArtifactError) as e:
        raise ArtifactError(f"{model}: truncated or not a LightGBM model ({e})") from None


def parse(text: str) -> Forest:
    """The same from the text itself; what is wrong with it is a ValueError, KeyError, IndexError, OverflowError or ArtifactError."""
    head, *blocks = text.split("\nTree=")
    if not head.startswith("tree\n") or "\nend of trees" not in text:
        raise ValueError("expected 'tree' in the first line and 'end of trees' after the last tree")
    header = _fields(head)
    _plain_sum(header)
    if "tree_sizes" in header and len(header["tree_sizes"].split()) != len(blocks):
        raise ValueError(f"{len(blocks)} trees, its header says {len(header['tree_sizes'].split())}")
    trees = [_Tree.parse(_fields(block)) for block in blocks]
    return Forest(
        features=int(header["max_feature_idx"]) + 1,
        nodes=_ends(len(t.feature) for t in trees),
        feature=_joined((t.feature for t in trees), np.int32),
        threshold=_joined(_numbered(trees), np.float64),
        decision=_joined((t.decision for t in trees), np.uint8),
        left=_joined((t.left for t in trees), np.int32),
        right=_joined((t.right for t in trees), np.int32),
        leaf=_joined((t.leaf for t in trees), np.float64),
        sets=_ends(b - a for t in trees for a, b in pairwise(t.sets)),
        words=_joined((t.words for t in trees), np.uint32),
    )


def covers(model: Path) -> tuple[Array, Array]:
    """How many training rows passed each node and ended in each leaf of the model file `model`: float64 `[N]` and `[N + T]`, in `read`'s order.

    Raises:
        ArtifactError: if the file does not say so.
    """
    try:
        blocks = [_fields(block) for block in model.read_text().split("\nTree=")[1:]]
        alone = {"internal_count": "", "leaf_count": "1"}  # a tree of one leaf counts nothing
        counted = [alone if int(b["num_leaves"]) == 1 else b for b in blocks]
        nodes, leaves = (
            _joined((_ints(b[name]) for b in counted), np.float64) for name in ("internal_count", "leaf_count")
        )
    except (FileNotFoundError, ValueError, KeyError) as e:
        raise ArtifactError(f"{model}: does not say how many rows went where ({e!r})") from None
    return nodes, leaves


@dataclass(frozen=True)
class _Tree:
    """One tree as LightGBM writes it; sets are counted within it."""

    feature: list[int]
    threshold: list[float]
    decision: list[int]
    left: list[int]
    right: list[int]
    leaf: list[float]
    sets: list[int]
    words: list[int]

    @classmethod
    def parse(cls, values: Mapping[str, str]) -> _Tree:
        if values.get("is_linear", "0") != "0":
            raise UnsupportedModelError("its leaves are linear models")
        tree = cls(
            feature=_ints(values.get("split_feature", "")),
            threshold=[float(v) for v in values.get("threshold", "").split()],
            decision=_ints(values.get("decision_type", "")),
            left=_ints(values.get("left_child", "")),
            right=_ints(values.get("right_child", "")),
            leaf=[float(v) for v in values["leaf_value"].split()],
            sets=_ints(values.get("cat_boundaries", "0")),
            words=_ints(values.get("cat_threshold", "")),
        )
        leaves = int(values["num_leaves"])
        for f in fields(tree):
            wanted = {"leaf": leaves, "sets": int(values["num_cat"]) + 1, "words": tree.sets[-1]}.get(
                f.name, leaves - 1
            )
            if len(getattr(tree, f.name)) != wanted:
                raise ValueError(
                    f"a tree of {leaves} leaves with {len(getattr(tree, f.name))} values of {f.name}, expected {wanted}"
                )
        return tree


def _numbered(trees: list[_Tree]) -> Iterator[list[float]]:
    """Thresholds, those of categorical nodes numbering the sets of all trees."""
    before = 0
    for tree in trees:
        yield (
            [v + before if d & CATEGORICAL else v for v, d in zip(tree.threshold, tree.decision, strict=True)]
            if before
            else tree.threshold
        )
        before += len(tree.sets) - 1


def _plain_sum(header: Mapping[str, str]) -> None:
    objective = header.get("objective", "").split()
    if int(header["num_tree_per_iteration"]) != 1:
        raise UnsupportedModelError(f"it has {header['num_tree_per_iteration']} outputs")
    if "average_output" in header:
        raise UnsupportedModelError("its trees are averaged, not summed (a random forest)")
    if (objective or [""])[0] not in _PLAIN or "sqrt" in objective:
        raise UnsupportedModelError(
            f"its objective, {' '.join(objective)}, puts the sum of the trees through a function"
        )


def _fields(block: str) -> dict[str, str]:
    """`key=value` lines, to the end of the tree."""
    lines = block.partition("\nend of trees")[0].split("\n")
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


def _ints(text: str) -> list[int]:
    return [int(v) for v in text.split()]


def _ends(lengths: Iterable[int]) -> Array:
    return np.concatenate([[0], np.cumsum(list(lengths), dtype=np.int64)]).astype(np.int32)


def _joined(parts: Iterable[list[Any]], dtype: Any) -> Array:
    return np.array([v for part in parts for v in part], dtype)
