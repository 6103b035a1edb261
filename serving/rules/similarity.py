"""How alike items are, for diversity: the cosine of their vectors, or how much of the category path they share. In [0, 1]."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import numpy as np

from core.columns import Array, Coded, Texts
from core.schema import CATEGORY_SEPARATOR, Column
from retrieval.query import TowerSource
from serving.release import Release

_NOTHING: Final = -1

Against = Callable[[int], Array]
Likeness = Callable[[Array], Against]
"""Item rows int32 `[n]` to a function of a position among them, which returns the likeness of all to that one: float32 `[n]`."""


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
    """The cosine of item vectors float32 `[items, d]`; below 0 counts as 0."""

    def of(rows: Array) -> Against:
        mine = vectors[rows].astype(np.float32)
        lengths = np.linalg.norm(mine, axis=1, keepdims=True)
        mine /= np.where(lengths > 0, lengths, 1)

        def against(at: int) -> Array:
            alike: Array = np.maximum(mine @ mine[at], 0)
            return alike

        return against

    return of


def _of_paths(codes: Array, levels: Array) -> Likeness:
    def of(rows: Array) -> Against:
        mine = levels[codes[rows]]
        mine[codes[rows] < 0] = _NOTHING
        depth = np.maximum((mine >= 0).sum(axis=1), 1).astype(np.float32)
        columns = np.ascontiguousarray(mine.T)
        own = np.where(columns >= 0, columns, _NOTHING - 1)  # so that no level that is not there equals another

        def against(at: int) -> Array:
            # a prefix has one code, so that levels agree down to where the paths part
            shared = (columns == own[:, at, None]).view(np.uint8).sum(axis=0, dtype=np.uint8)
            alike: Array = shared / np.maximum(depth, depth[at])
            return alike

        return against

    return of
