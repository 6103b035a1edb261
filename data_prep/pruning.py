"""Which pairs are kept: the strongest of each item, as each fold knew them."""

from __future__ import annotations

from typing import Final

import numpy as np

from core.columns import Array

FOLDS: Final = 4


def kept_rows(
    pairs: Array, folds: Array, values: Array, bits: int, per_item: int
) -> tuple[Array, Array, Array, Array, Array]:
    """The rows of the `per_item` strongest pairs of each source and fold.

    What is kept in a fold depends on that fold and earlier ones only: a pair's strength at fold f is its `decayed` summed over
    folds up to f, and its row of fold f is written when that is among the strongest of its source. The row then carries what the
    pair gathered since its last written row, so that the rows of the folds below a cut add up to all that was known there.

    Args:
        pairs: source << bits | target, ascending, int64 `[n]`; all pairs of a source are here.
        folds: `[n]`, in any order; a pair may have several entries of one fold.
        values: count and decayed, float64 `[2, n]`; counts are above 0.
        bits: Of a target in `pairs`.
        per_item: Pairs kept for each source.

    Returns:
        source, target, fold, count, decayed, sorted by (source, target, fold).
    """
    begins = np.concatenate([[True], pairs[1:] != pairs[:-1]]) if len(pairs) else np.empty(0, bool)
    distinct = pairs[begins]
    n = len(distinct)
    cell = np.cumsum(begins) - 1 + folds * n  # fold after fold
    count, decayed = (np.bincount(cell, v, FOLDS * n).reshape(FOLDS, n) for v in values)
    keep = count > 0
    source = distinct >> bits
    for fold in range(FOLDS):
        if fold:
            count[fold] += count[fold - 1]
            decayed[fold] += decayed[fold - 1]
        if keep[fold].any():
            keep[fold] &= strongest(source, decayed[fold], per_item)
    pair, fold_column = np.divmod(np.flatnonzero(keep.T.ravel()), FOLDS)
    at = fold_column * n + pair
    same = pair[1:] == pair[:-1]
    gathered = []
    for total in (count, decayed):
        known = total.ravel()[at]
        gathered.append(known - np.concatenate([[0], np.where(same, known[:-1], 0)])[: len(known)])
    target = distinct[pair] & ((1 << bits) - 1)
    return source[pair], target, fold_column, gathered[0], gathered[1]


def strongest(source: Array, strength: Array, k: int) -> Array:
    """Bool `[n]`: the k largest positive strengths of each run of equal sources, ties by position (so by target).

    Strengths are compared as float32: two nights that reach the same sum by different additions must choose alike.
    """
    keep = strength > 0
    if len(source) == 0:
        return keep
    begins = np.concatenate([[True], source[1:] != source[:-1]])
    starts = np.flatnonzero(begins)
    run = np.cumsum(begins) - 1
    crowded = np.add.reduceat(keep, starts, dtype=np.int64) > k
    rows = np.flatnonzero(keep & crowded[run])
    if len(rows) == 0:
        return keep
    # one number sorts by source, then by falling strength: the bits of positive floats grow with them
    place = np.cumsum(crowded) - 1
    which = place[run[rows]]
    falling = np.uint32(0xFFFFFFFF) - strength[rows].astype(np.float32).view(np.uint32)
    packed = which.astype(np.uint64) << np.uint64(32) | falling
    first = np.searchsorted(which, np.arange(place[-1] + 1))
    weakest = np.sort(packed)[first + k - 1][which]
    above, tied = packed < weakest, packed == weakest
    room = k - np.add.reduceat(above, first, dtype=np.int64)
    tie = np.cumsum(tied)
    tie -= (tie - tied)[first][which]
    keep[rows] = above | (tied & (tie <= room[which]))
    return keep
