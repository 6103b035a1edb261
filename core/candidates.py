"""Candidate sources and what they hand to ranking. Every source, learned or not, answers through these two protocols."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, runtime_checkable

import numpy as np

from core.columns import Array
from core.compiled import Column, library, scratch
from core.history import Query
from core.ids import NO_ROW
from core.native import address

Gathered = tuple[Array, Array, Array]
"""Rows int32 `[n]`, scores float32 `[n, S]` and ranks int32 `[n, S]`, as in Candidates."""


class Scoring(Protocol):
    """One source's opinion for one query."""

    def top(self, k: int, excluded: Array) -> tuple[Array, Array]:
        """The best k item rows that are not in `excluded` (sorted int32): rows int32 `[m]`, scores float32 `[m]`, m <= k, best first.

        Ties break by row; no item twice; only items that the source has evidence for, so m may be 0.
        """

    def of(self, rows: Array) -> Array:
        """The scores float32 `[n]` of any item rows int32 `[n]`; 0 where the source has no evidence."""


class Source(Protocol):
    """A candidate source, opened from a release."""

    @property
    def name(self) -> str:
        """The name in configuration, responses and metrics."""

    def scoring(self, query: Query) -> Scoring:
        """Form the opinion for `query`. Reads nothing but its own fitted files and the query."""


@runtime_checkable
class Explains(Protocol):
    """A source that can name the item behind a proposal. Asked only for the items of a page, so it may recompute."""

    def because(self, query: Query, row: int) -> int | None:
        """The row of the person's or the page's item that speaks most for item `row`; None where none does."""


@runtime_checkable
class Narrows(Protocol):
    """A source that can look among some of the items only, better than by proposing more and dropping the others."""

    def narrowed(self, allowed: Array) -> Source:
        """The same source, which proposes only rows that `allowed` (bool `[items]`) marks, and scores any."""


@dataclass(frozen=True)
class Candidates:
    """The union of what the sources proposed for one query, each item once."""

    rows: Array  # int32 [n], ascending
    sources: tuple[str, ...]  # S names
    scores: Array  # float32 [n, S]: every source's score of every candidate
    ranks: Array  # int32 [n, S]: position in the source's own list, from 0; NO_ROW where it did not propose the item

    def __len__(self) -> int:
        return len(self.rows)


def gather(
    sources: tuple[Source, ...], quotas: dict[str, int], query: Query, excluded: Array, more: Array | None = None
) -> Candidates:
    """Ask every source for its quota, unite the answers (and `more` rows int32), and let every source score the whole union."""
    scorings = [s.scoring(query) for s in sources]
    asked = [quotas.get(s.name, 0) for s in sources]
    kernel, gathered = library(), counted
    if kernel is not None:
        gathered = partial(_compiled, kernel)
    rows, scores, ranks = gathered(scorings, asked, excluded, more)
    return Candidates(rows, tuple(s.name for s in sources), scores, ranks)


def counted(scorings: Sequence[Scoring], asked: Sequence[int], excluded: Array, more: Array | None) -> Gathered:
    """The union of the best of S scorings, `asked` of each, and of `more`, in numpy: rows, scores and ranks of Candidates."""
    lists = [scoring.top(k, excluded)[0] for scoring, k in zip(scorings, asked, strict=True)]
    together = lists if more is None else [*lists, more]
    rows = np.unique(np.concatenate(together)).astype(np.int32) if together else np.empty(0, np.int32)
    scores = np.empty((len(rows), len(scorings)), np.float32)
    ranks = np.full((len(rows), len(scorings)), NO_ROW, np.int32)
    for s, (scoring, proposed) in enumerate(zip(scorings, lists, strict=True)):
        scores[:, s] = scoring.of(rows)
        ranks[np.searchsorted(rows, proposed), s] = np.arange(len(proposed), dtype=np.int32)
    return rows, scores, ranks


def _compiled(
    kernel: Any, scorings: Sequence[Scoring], asked: Sequence[int], excluded: Array, more: Array | None
) -> Gathered:
    """The same by the kernel, which takes what it can from the scorings by itself."""
    columns, held, others = (Column * (len(scorings) + 1))(), [], []
    total = largest = 0
    for s, (scoring, k) in enumerate(zip(scorings, asked, strict=True)):
        described = getattr(scoring, "column", None)
        if described is None:
            proposed = np.ascontiguousarray(scoring.top(k, excluded)[0], np.int32)
            column, room, keep = Column(len(proposed), None, address(proposed)), 0, proposed
            others.append((s, scoring))
        else:
            column, room, keep = described(k, excluded)
        columns[s] = column
        held.append(keep)
        total, largest = total + column.most, max(largest, room)
    if more is not None:
        more = np.ascontiguousarray(more, np.int32)
        columns[len(scorings)] = Column(len(more), None, address(more))
        total += len(more)
    excluded, shape = np.ascontiguousarray(excluded, np.int32), (total, len(scorings))
    rows, ranks, scores = np.empty(total, np.int32), np.empty(shape, np.int32), np.empty(shape, np.float32)
    n = kernel.gather(
        *(ctypes.addressof(columns), len(columns), len(scorings), address(excluded), len(excluded), total, largest),
        *(address(rows), address(ranks), address(scores), scratch.of(kernel.gather_bytes(total, largest))),
    )
    rows, scores, ranks = rows[:n], scores[:n], ranks[:n]
    for s, scoring in others:
        scores[:, s] = scoring.of(rows)
    return rows, scores, ranks


def listed(sources: tuple[Source, ...], quotas: dict[str, int], query: Query, rows: Array) -> Candidates:
    """Candidates for the caller's own item rows (int32, ascending, distinct): what `gather` would give if the catalogue held these and no others.

    Every source scores them all, and proposes those that it has evidence for (a score other than 0), up to its quota.
    """
    scores = np.empty((len(rows), len(sources)), np.float32)
    ranks = np.full((len(rows), len(sources)), NO_ROW, np.int32)
    for s, source in enumerate(sources):
        scores[:, s] = source.scoring(query).of(rows)
        known = np.flatnonzero(scores[:, s])
        proposed = known[np.lexsort((rows[known], -scores[known, s]))][: quotas.get(source.name, 0)]
        ranks[proposed, s] = np.arange(len(proposed), dtype=np.int32)
    return Candidates(rows.astype(np.int32), tuple(s.name for s in sources), scores, ranks)
