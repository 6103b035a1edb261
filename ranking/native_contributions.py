"""The SHAP values of ranking/contributions.py by a compiled kernel (ranking/native/contributions.c): the same to rounding, a hundred times faster.

A page of twenty is explained in about a millisecond. Where there is no compiler, `Contributions` explains in numpy.
"""

# bazel: data=[//ranking/native:all_files]

from __future__ import annotations

import ctypes
import functools
from pathlib import Path
from typing import Final, Self

import numpy as np

from core.columns import Array
from core.native import address, load
from ranking import model_text
from ranking.contributions import LEAST
from ranking.kernel import RowKernel
from ranking.trees import Forest, UnsupportedModelError

_SOURCE: Final = Path(__file__).parent / "native" / "contributions.c"
_MOST: Final = 16  # points of the quadrature at most, as in the source: ways that ask for 32 features
_POINTERS: Final = (
    *("nodes", "points", "at", "weight", "feature", "threshold", "decision", "left", "right", "leaf"),
    *("sets", "words", "zero", "before", "start", "by_on", "by_off"),
)


class _Plan(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("trees", "features", "most_nodes")),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    """The kernel, compiled where it is not there.

    Raises:
        EnvironmentGapError: if it is not there and no compiler makes it.
    """
    compiled = load(_SOURCE)
    compiled.scratch_bytes.restype = ctypes.c_int64
    compiled.scratch_bytes.argtypes = [ctypes.c_int64, ctypes.c_int64]
    return compiled


class NativeContributions:
    """Explains a forest with the compiled kernel: without the GIL, from any number of threads."""

    def __init__(self, forest: Forest, node_rows: Array, leaf_rows: Array) -> None:
        """Of trees and the training rows that passed each node, `[N]`, and ended in each leaf, `[N + T]`.

        Raises:
            UnsupportedModelError: if a way through a tree asks for more than 32 features.
            EnvironmentGapError: if the kernel cannot be built here.
        """
        zero, before, features_asked = _edges(forest, node_rows, leaf_rows)
        points = (features_asked + 1) // 2
        if points.max(initial=0) > _MOST:
            raise UnsupportedModelError(f"a way that asks for {int(features_asked.max())} features")
        compiled = library()
        at, weight = _quadrature()
        named = {"points": points, "at": at, "weight": weight, "zero": zero, "before": before}
        named |= _inverses(forest, points, at, zero)
        # the struct points into these
        self._arrays = [np.ascontiguousarray(named[n] if n in named else getattr(forest, n)) for n in _POINTERS]
        most = int(np.diff(forest.nodes).max(initial=0))
        plan = _Plan(forest.trees, forest.features, most, *map(address, self._arrays))
        room = int(compiled.scratch_bytes(forest.features, most))
        self._contribute = RowKernel(compiled.contribute, plan, forest.features, room)
        self._features, self._expected = forest.features, _expected(forest, leaf_rows)

    @classmethod
    def open(cls, model: Path) -> Self:
        """As `ranking.contributions.Contributions.open`, and as here."""
        return cls(model_text.read(model), *model_text.covers(model))

    def __call__(self, rows: Array) -> Array:
        """Contributions to the scores of float32 `[n, F]`: float64 `[n, F + 1]`, one a feature, and the mean score last; a row adds up to its score.

        Raises:
            ValueError: if `rows` is of another type or width.
        """
        out = np.zeros((len(rows), self._features + 1))
        out[:, -1] = self._expected
        return self._contribute(rows, out)


def _quadrature() -> tuple[Array, Array]:
    """Gauss-Legendre points in [0, 1] and their weights, float64 `[_MOST + 1, _MOST]` each: row n has n of them."""
    at, weight = np.full((_MOST + 1, _MOST), 0.5), np.zeros((_MOST + 1, _MOST))
    for n in range(1, _MOST + 1):
        points, weights = np.polynomial.legendre.leggauss(n)
        at[n, :n], weight[n, :n] = (points + 1) / 2, weights / 2
    return at, weight


def _inverses(forest: Forest, points: Array, at: Array, zero: Array) -> dict[str, Array]:
    """1 / (t + (1 - t) z) and 1 / ((1 - t) z) of every edge and point, tree by tree, and where each tree's begin."""
    edges = 2 * np.diff(forest.nodes).astype(np.int64)
    of_edge = np.repeat(points.astype(np.int64), edges)
    n, t = np.repeat(of_edge, of_edge), np.arange(int(of_edge.sum())) - np.repeat(np.cumsum(of_edge) - of_edge, of_edge)
    where, off = at[n, t], (1 - at[n, t]) * np.repeat(zero, of_edge)
    start = np.concatenate([[0], np.cumsum(edges * points)]).astype(np.int64)
    return {"start": start, "by_on": 1 / (where + off), "by_off": 1 / off}


def _expected(forest: Forest, leaf_rows: Array) -> float:
    """The mean score over the training rows."""
    tree = np.repeat(np.arange(forest.trees), np.diff(forest.nodes) + 1)
    total = np.bincount(tree, leaf_rows, minlength=forest.trees)[tree]
    alone = (np.diff(forest.nodes) == 0)[tree]
    return float(forest.leaf @ np.where(alone, 1.0, leaf_rows / np.maximum(total, 1)))


def _edges(forest: Forest, node_rows: Array, leaf_rows: Array) -> tuple[Array, Array, Array]:
    """What the kernel asks of every way through the trees.

    Returns:
        Of the edges to the left and right of each node, float64 `[2 N]`: the share of the training rows that come through at it and at all edges above it
        that ask for the same feature. Of each node, int32 `[N]`: the nearest edge above that asks for its feature, counted from the tree's first; -1:
        none. And the most distinct features that a way of each tree asks for, int32 `[T]`.
    """
    n, tree = len(forest.feature), forest.tree_of_node().astype(np.int64)
    first = forest.nodes[:-1].astype(np.int64)[tree]
    child = np.stack([forest.left, forest.right], axis=1).astype(np.int64)
    inner = child >= 0
    node = np.where(inner, first[:, None] + child, -1).ravel()  # where each edge leads to
    leaf = np.where(inner, 0, (first + tree)[:, None] + ~child).ravel()
    rows = leaf_rows[leaf].astype(np.float64)
    rows[node >= 0] = node_rows[node[node >= 0]]
    zero = np.maximum(rows / np.maximum(np.repeat(node_rows, 2), 1), LEAST)
    up = np.full(n, -1, np.int64)  # the edge that leads to each node
    up[node[node >= 0]] = np.flatnonzero(node >= 0)
    before = up.copy()
    while (other := np.flatnonzero((before >= 0) & (forest.feature[before // 2] != forest.feature))).size:
        before[other] = up[before[other] // 2]
    share, chain = zero.copy(), np.repeat(before, 2)
    while (on := np.flatnonzero(chain >= 0)).size:
        zero[on] *= share[chain[on]]
        chain[on] = before[chain[on] // 2]
    asked, chain = (before < 0).astype(np.int32), up.copy()
    while (on := np.flatnonzero(chain >= 0)).size:
        asked[on] += before[chain[on] // 2] < 0
        chain[on] = up[chain[on] // 2]
    most = np.zeros(forest.trees, np.int32)
    np.maximum.at(most, tree, asked)
    return np.maximum(zero, LEAST), np.where(before >= 0, before - 2 * first, -1).astype(np.int32), most
