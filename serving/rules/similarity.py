"""How alike items are, for diversity: the cosine of their vectors, or how much of the category path they share. In [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from core.columns import Array, Coded, Texts
from core.schema import CATEGORY_SEPARATOR, Column
from retrieval.query import TowerSource
from serving.release import Release

_NOTHING: Final = -1


@dataclass(frozen=True)
class AlikeVectors:
    """Items of a line by the cosine of their vectors; below 0 counts as 0."""

    columns: Array  # float32 [d, n], of unit length

    def to(self, at: int) -> Array:
        """How alike all are to item `at`: float32 `[n]`. Summed in the order of the dimensions, as the kernel does."""
        alike = np.zeros(self.columns.shape[1], np.float32)
        for column in self.columns:
            alike += column * column[at]
        return np.maximum(alike, 0)


@dataclass(frozen=True)
class AlikePaths:
    """Items of a line by how much of their category paths they share."""

    columns: Array  # int32 [deepest, n]: codes of the prefixes, the shortest first; below 0 where the path has ended
    depth: Array  # float32 [n], at least 1

    def to(self, at: int) -> Array:
        """How alike all are to item `at`: float32 `[n]`."""
        mine = self.columns[:, at, None]
        # a prefix has one code, so that levels agree down to where the paths part
        shared = ((self.columns == mine) & (mine >= 0)).view(np.uint8).sum(axis=0, dtype=np.uint8)
        alike: Array = shared / np.maximum(self.depth, self.depth[at])
        return alike


Alike = AlikeVectors | AlikePaths
Likeness = Callable[[Array], Alike]
"""Item rows int32 `[n]` to how alike they are."""


def likeness(by: Literal["vectors", "category"], release: Release) -> Likeness | None:
    """None where the release lacks what it takes."""
    if by == "vectors":
        towers = next((s for s in release.sources if isinstance(s, TowerSource)), None)
        return None if towers is None else of_vectors(towers.tower.item_vectors)
    column = release.items[Column.CATEGORY]
    assert isinstance(column, Coded)
    return _of_paths(column.codes, category_levels(column.values))


def category_levels(values: Texts) -> Array:
    """For each category path the codes of its prefixes, the shortest first: int32 `[values, deepest]`, -1 below its end."""
    paths = [str(v).split(CATEGORY_SEPARATOR) for v in values]
    deepest = max((len(p) for p in paths), default=1)
    levels = np.full((max(len(paths), 1), deepest), _NOTHING, np.int32)
    codes: dict[tuple[str, ...], int] = {}
    for at, path in enumerate(paths):
        for depth in range(len(path)):
            levels[at, depth] = codes.setdefault(tuple(path[: depth + 1]), len(codes))
    return levels


def category_prefixes(values: Texts, levels: int) -> Array:
    """For each category path a code that is the same for all paths with the same first `levels` levels: int32 `[values]`."""
    codes: dict[tuple[str, ...], int] = {}
    prefixes = (tuple(str(v).split(CATEGORY_SEPARATOR)[:levels]) for v in values)
    return np.array([codes.setdefault(p, len(codes)) for p in prefixes], np.int32)


def of_vectors(vectors: Array) -> Likeness:
    """By item vectors float32 `[items, d]`."""

    def of(rows: Array) -> AlikeVectors:
        mine = vectors[rows].astype(np.float32)
        lengths = np.linalg.norm(mine, axis=1, keepdims=True)
        mine /= np.where(lengths > 0, lengths, 1)
        return AlikeVectors(np.ascontiguousarray(mine.T))

    return of


def _of_paths(codes: Array, levels: Array) -> Likeness:
    def of(rows: Array) -> AlikePaths:
        mine = levels[codes[rows]]
        mine[codes[rows] < 0] = _NOTHING
        depth = np.maximum((mine >= 0).sum(axis=1), 1).astype(np.float32)
        return AlikePaths(np.ascontiguousarray(mine.T), depth)

    return of
