"""How much each feature adds to a score: SHAP values of a tree ensemble, exact, in numpy, so that a serving host needs no more than it has.

The game is that of path-dependent TreeSHAP (Lundberg et al., "From local explanations to global understanding with explainable AI for trees",
Nature Machine Intelligence 2020): where a feature is unknown, a row goes down both branches, in proportion to the training rows that did. On the
way to a leaf with value v, feature i then lets through o_i in {0, 1} of the row where it is known and z_i where it is not, so the value of a
coalition is v times a product, and the Shapley value of i is the integral of its multilinear extension (Owen, "Multilinear extensions of games",
Management Science 1972):

    v (o_i - z_i) * integral over t in [0, 1] of the product over j != i of (t o_j + (1 - t) z_j)

A polynomial of a degree below the number of features on the way, which Gauss-Legendre quadrature with half as many points integrates exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np

from core.columns import Array
from ranking import model_text
from ranking.trees import CATEGORICAL, DEFAULT_LEFT, MISSING, MISSING_NAN, MISSING_ZERO, Forest

_ZERO: Final = float(np.float32(1e-35))  # LightGBM's kZeroThreshold: no further from 0 is 0
LEAST: Final = 1e-30  # of z, so that it divides
_BLOCK: Final = 16  # rows at a time: bounds the memory


@dataclass(frozen=True)
class Contributions:
    """The ways to all leaves: W slots of (leaf, feature), grouped by leaf, and the S nodes that each way passes."""

    forest: Forest
    expected: float  # mean score over the training rows: what no feature explains
    slot_feature: Array  # int32 [W]
    slot_leaf: Array  # int32 [W]: the leaf, numbered through all trees
    slot_zero: Array  # float64 [W]: z, the share of the training rows that take the way at the feature's nodes
    step_slot: Array  # int32 [S], ascending
    step_node: Array  # int32 [S]
    step_left: Array  # bool [S]: whether the way goes left there

    @classmethod
    def open(cls, model: Path) -> Self:
        """Of the model file `model` in LightGBM's text format, which says how many training rows went where.

        Raises:
            ArtifactError: if the file is missing, cut short or not LightGBM's.
            UnsupportedModelError: if the model is more than a sum of trees with one feature a node.
        """
        forest = model_text.read(model)
        return cls.of(forest, *model_text.covers(model))

    @classmethod
    def of(cls, forest: Forest, node_rows: Array, leaf_rows: Array) -> Self:
        """From trees and the training rows that passed each node, `[N]`, and ended in each leaf, `[N + T]`."""
        leaf, node, left = _ways(forest)
        child = np.where(left, forest.left[node], forest.right[node])
        tree = forest.tree_of_node()[node]
        first = forest.nodes[:-1][tree].astype(np.int64)
        rows = np.where(child >= 0, node_rows[np.maximum(first + child, 0)], leaf_rows[(first + tree + ~child).clip(0)])
        share = rows / np.maximum(node_rows[node], 1)
        order = np.lexsort((forest.feature[node], leaf))
        leaf, node, left, share = leaf[order], node[order], left[order], share[order]
        opens = np.ones(len(order), bool)  # the first step of its leaf and feature
        opens[1:] = (leaf[1:] != leaf[:-1]) | (forest.feature[node[1:]] != forest.feature[node[:-1]])
        starts = np.flatnonzero(opens)
        zero = np.multiply.reduceat(share, starts) if len(starts) else np.empty(0)
        tree_of_leaf = np.repeat(np.arange(forest.trees), np.diff(forest.nodes) + 1)
        total = np.bincount(tree_of_leaf, leaf_rows, minlength=forest.trees)
        alone = np.bincount(tree_of_leaf, minlength=forest.trees) == 1
        weight = np.where(alone[tree_of_leaf], 1.0, leaf_rows / np.maximum(total, 1)[tree_of_leaf])
        return cls(
            forest=forest,
            expected=float(forest.leaf @ weight),
            slot_feature=forest.feature[node[starts]],
            slot_leaf=leaf[starts].astype(np.int32),
            slot_zero=np.maximum(zero, LEAST),
            step_slot=(np.cumsum(opens) - 1).astype(np.int32),
            step_node=node.astype(np.int32),
            step_left=left,
        )

    def __call__(self, rows: Array) -> Array:
        """Contributions to the scores of float32 `[n, F]`: float64 `[n, F + 1]`, one a feature, and the mean score last; a row adds up to its score."""
        out = np.zeros((len(rows), self.forest.features + 1))
        out[:, -1] = self.expected
        if len(self.slot_feature):
            for at in range(0, len(rows), _BLOCK):
                self._add(rows[at : at + _BLOCK], out[at : at + _BLOCK])
        return out

    def _add(self, rows: Array, out: Array) -> None:
        taken = goes_left(self.forest, rows)[:, self.step_node] == self.step_left
        starts = np.searchsorted(self.step_slot, np.arange(len(self.slot_feature)))
        one = np.logical_and.reduceat(taken, starts, axis=1).astype(np.float64)  # o [n, W]
        leaves = np.searchsorted(self.slot_leaf, np.unique(self.slot_leaf))
        sizes = np.diff(np.append(leaves, len(self.slot_leaf)))
        integral = np.zeros_like(one)
        points, weights = np.polynomial.legendre.leggauss((int(sizes.max()) + 1) // 2)
        for t, weight in zip((points + 1) / 2, weights / 2, strict=True):
            factor = t * one + (1 - t) * self.slot_zero
            product = np.multiply.reduceat(factor, leaves, axis=1)
            integral += weight * np.repeat(product, sizes, axis=1) / factor
        parts = self.forest.leaf[self.slot_leaf] * (one - self.slot_zero) * integral
        for row, values in zip(out, parts, strict=True):
            row[:-1] += np.bincount(self.slot_feature, values, minlength=self.forest.features)


def goes_left(forest: Forest, rows: Array) -> Array:
    """Which way each row would go at every node, bool `[n, N]`, by LightGBM's rules: rows are float32 `[n, F]`, NaN allowed."""
    x = rows[:, forest.feature].astype(np.float64)
    missing, default = forest.decision & MISSING, (forest.decision & DEFAULT_LEFT) > 0
    nan = np.isnan(x)
    x = np.where((np.abs(x) <= _ZERO) | (nan & (missing != MISSING_NAN)), 0.0, x)
    absent = np.where(missing == MISSING_NAN, nan, (missing == MISSING_ZERO) & (x == 0))
    left: Array = np.where(absent, default, x <= forest.threshold)
    for node in np.flatnonzero(forest.decision & CATEGORICAL):
        left[:, node] = _in_set(forest, int(forest.threshold[node]), rows[:, forest.feature[node]])
    return left


def _in_set(forest: Forest, number: int, values: Array) -> Array:
    """Whether each value is a category of the set: bool `[n]`; what is NaN, negative or beyond the set is not."""
    words = forest.words[forest.sets[number] : forest.sets[number + 1]]
    inside = (values > -1) & (values < 32 * len(words))  # truncated towards 0; NaN is neither
    category = np.where(inside, values, 0).astype(np.int64)
    return inside & ((words[np.minimum(category // 32, len(words) - 1)] >> (category % 32).astype(np.uint32)) & 1 > 0)


def _ways(forest: Forest) -> tuple[Array, Array, Array]:
    """Each leaf with every node on the way to it: leaf, node int64 and whether the way goes left, bool; `[steps]` each."""
    tree = forest.tree_of_node().astype(np.int64)
    first = forest.nodes[:-1].astype(np.int64)[tree]
    parent, side = np.full(len(tree), -1, np.int64), np.zeros(len(tree), bool)
    of_leaf, left_leaf = np.full(len(forest.leaf), -1, np.int64), np.zeros(len(forest.leaf), bool)
    every = np.arange(len(tree), dtype=np.int64)
    for child, left in ((forest.left, True), (forest.right, False)):
        inner = child >= 0
        at = (first + child)[inner]
        parent[at], side[at] = every[inner], left
        end = (first + tree + ~child)[~inner]
        of_leaf[end], left_leaf[end] = every[~inner], left
    leaf, node, went = np.flatnonzero(of_leaf >= 0), of_leaf[of_leaf >= 0], left_leaf[of_leaf >= 0]
    steps = []
    while len(leaf):
        steps.append((leaf, node, went))
        on = parent[node] >= 0
        leaf, node, went = leaf[on], parent[node[on]], side[node[on]]
    if not steps:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, bool)
    leaf, node, went = (np.concatenate(part) for part in zip(*steps, strict=True))
    return leaf, node, went
