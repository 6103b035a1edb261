"""Lays a tree ensemble out for ranking/native/kernel.c: ranks instead of thresholds, the leaf that a row heads for instead of children.

Exact for float32 input: x <= t for the double t means x <= the greatest float32 that is no greater than t, and that means that no more of the
feature's distinct thresholds lie below x than below t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from core.columns import Array
from ranking.trees import CATEGORICAL, DEFAULT_LEFT, MISSING, MISSING_NAN, MISSING_ZERO, Forest, UnsupportedModelError

# What a column of ranks makes of missing values: one column for each of these that the nodes of a feature ask for. The kernel knows them too.
NAN_IS_ZERO: Final = 0
NAN_LEFT: Final = 1
NAN_RIGHT: Final = 2
ZERO_LEFT: Final = 3
ZERO_RIGHT: Final = 4
CATEGORY: Final = 5
_KINDS: Final = 6


@dataclass(frozen=True)
class Layout:
    """The kernel's arrays: U features that nodes ask for, C columns of ranks, N nodes, T trees. `word` is uint8 if all fits, else uint16."""

    word: Any
    feature: Array  # int32 [U], ascending
    table: Array  # int32 [U]: where the feature's thresholds begin
    steps: Array  # int32 [U]: there are 2^steps - 1, filled up with infinity
    count: Array  # int32 [U]: so many are real
    columns: Array  # int32 [U+1]
    thresholds: Array  # float32, ascending for each feature
    kind: Array  # uint8 [C]
    set: Array  # int32 [C+1] into bits
    bits: Array  # uint32
    nodes: Array  # int32 [T+1]
    column: Array  # int32 [N]
    rank: Array  # word [N]: higher ones go right
    source: Array  # word [N]: the leaf that rows at this node head for
    target: Array  # word [N]: the leaf that they head for once they go right
    start: Array  # word [T]: the leaf that all rows head for first
    leaf: Array  # float64 [N+T]

    @classmethod
    def of(cls, forest: Forest) -> Layout:
        """Lay out `forest`.

        Raises:
            UnsupportedModelError: if a feature has more than 65,535 thresholds or a tree more than 65,536 leaves.
        """
        kinds, sets = _kinds(forest), _sets(forest)
        ranks, feature, count, thresholds = _ranks(forest)
        most_leaves = int(np.diff(forest.nodes).max(initial=0)) + 1
        if count.max(initial=0) > 0xFFFF or most_leaves > 0x10000:
            raise UnsupportedModelError(f"{count.max()} thresholds of one feature, {most_leaves} leaves of one tree")
        word = np.uint8 if count.max(initial=0) <= 0xFF and most_leaves <= 0x100 else np.uint16
        table, steps, padded = _tables(count, thresholds)
        # a column is a feature, a kind and, for categories, the set
        keys, column = np.unique(
            (forest.feature.astype(np.int64) * _KINDS + kinds) * (len(forest.sets) + 1) + sets, return_inverse=True
        )
        key_sets, key_kinds = keys % (len(forest.sets) + 1), keys // (len(forest.sets) + 1) % _KINDS
        key_features = keys // (len(forest.sets) + 1) // _KINDS
        chosen = [forest.words[forest.sets[s - 1] : forest.sets[s]] for s in key_sets[key_sets > 0]]
        words = np.zeros(len(keys), np.int32)
        words[key_sets > 0] = [len(c) for c in chosen]
        source, target, start = _heads(forest)
        return cls(
            word=word,
            feature=feature,
            table=table,
            steps=steps,
            count=count,
            columns=np.append(np.searchsorted(key_features, feature), len(keys)).astype(np.int32),
            thresholds=padded,
            kind=key_kinds.astype(np.uint8),
            set=_starts(words),
            bits=np.concatenate([*chosen, np.empty(0, np.uint32)]),
            nodes=np.ascontiguousarray(forest.nodes),
            column=column.astype(np.int32),
            rank=np.where(kinds == CATEGORY, 0, ranks).astype(word),
            source=source.astype(word),
            target=target.astype(word),
            start=start.astype(word),
            leaf=np.ascontiguousarray(forest.leaf),
        )


def _kinds(forest: Forest) -> Array:
    """What each node makes of missing values, int64 `[N]`."""
    missing, right = forest.decision & MISSING, (forest.decision & DEFAULT_LEFT) == 0
    kinds: Array = np.select(
        [(forest.decision & CATEGORICAL) > 0, missing == MISSING_ZERO, missing == MISSING_NAN],
        [np.full(len(right), CATEGORY), ZERO_LEFT + right, NAN_LEFT + right],
        NAN_IS_ZERO,
    ).astype(np.int64)
    return kinds


def _sets(forest: Forest) -> Array:
    """1 + the number of each categorical node's set, 0 for the others; int64 `[N]`."""
    numbers: Array = np.where((forest.decision & CATEGORICAL) > 0, forest.threshold + 1, 0).astype(np.int64)
    return numbers


def floor32(values: Array) -> Array:
    """The greatest float32 no greater than each float64."""
    with np.errstate(over="ignore"):
        near = values.astype(np.float32)
    floor: Array = np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)
    return floor


def _ranks(forest: Forest) -> tuple[Array, Array, Array, Array]:
    """Rank of each node's threshold among the distinct ones of its feature; those features, how many each has, and all of them in order."""
    limits = floor32(np.where((forest.decision & CATEGORICAL) > 0, np.inf, forest.threshold))
    order = np.lexsort((limits, forest.feature))
    features, limits = forest.feature[order], limits[order]
    opens = np.ones(len(order), bool)  # the first node of its feature
    opens[1:] = features[1:] != features[:-1]
    fresh = opens.copy()  # the first node of its threshold
    fresh[1:] |= limits[1:] != limits[:-1]
    nth = np.cumsum(fresh) - 1
    ranks = np.empty(len(order), np.int64)
    ranks[order] = nth - np.repeat(nth[opens], np.diff(np.append(np.flatnonzero(opens), len(order))))
    count = np.diff(np.append(nth[opens], fresh.sum())).astype(np.int32)
    return ranks, features[opens].astype(np.int32), count, limits[fresh]


def _tables(count: Array, thresholds: Array) -> tuple[Array, Array, Array]:
    """Each feature's thresholds filled up to 2^steps - 1: start of each, steps, all of them."""
    steps = np.array([int(c).bit_length() for c in count], np.int32)
    starts = _starts((1 << steps) - 1)
    padded = np.full(int(starts[-1]), np.inf, np.float32)
    shift = starts[:-1] - _starts(count)[:-1]
    padded[np.arange(len(thresholds)) + np.repeat(shift, count)] = thresholds
    return starts[:-1], steps, padded


def _heads(forest: Forest) -> tuple[Array, Array, Array]:
    """The leaf found by going left for ever: from each node, from its right child, and from each root (trees of one leaf have it as 0)."""
    first = forest.nodes[:-1][forest.tree_of_node()]

    def leftmost(at: Array) -> Array:
        at = at.astype(np.int64)
        while (inner := np.flatnonzero(at >= 0)).size:
            at[inner] = forest.left[at[inner] + first[inner]]
        return ~at

    source, target = leftmost(forest.left), leftmost(forest.right)
    start = np.zeros(forest.trees, np.int64)
    grown = np.diff(forest.nodes) > 0
    start[grown] = source[forest.nodes[:-1][grown]]
    return source, target, start


def _starts(lengths: Array) -> Array:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
