"""Candidate sources and what they hand to ranking. Every source, learned or not, answers through these two protocols."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from core.columns import Array
from core.compiled import library, scratch
from core.history import Query
from core.ids import NO_ROW
from core.native import address


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
    lists = [scoring.top(quotas.get(s.name, 0), excluded)[0] for s, scoring in zip(sources, scorings, strict=True)]
    rows, ranks = united(lists, more)
    scores = np.empty((len(rows), len(sources)), np.float32)
    for s, scoring in enumerate(scorings):
        scores[:, s] = scoring.of(rows)
    return Candidates(rows, tuple(s.name for s in sources), scores, ranks)


def united(lists: Sequence[Array], more: Array | None = None) -> tuple[Array, Array]:
    """Every item of S lists (int32, each without duplicates) and of `more` once, and where it stands in each list.

    Returns:
        int32 `[n]` ascending, and int32 `[n, S]`: positions from 0, NO_ROW where the list lacks the item.
    """
    kernel, together = library(), [*lists] if more is None else [*lists, more]
    if kernel is None or not together:
        return counted_union(lists, together)
    proposed = np.concatenate(together, dtype=np.int32)
    total, lengths = len(proposed), np.array([len(each) for each in together])
    rows, ranks = np.empty(total, np.int32), np.empty((total, len(lists)), np.int32)
    memory = np.empty(kernel.opinion_bytes(total), np.uint8)
    sizes = (len(together), len(lists), address(rows), address(ranks), address(memory), scratch.of(8 * total))
    n = kernel.unite(address(proposed), address(lengths), *sizes)
    return rows[:n], ranks[:n]


def counted_union(lists: Sequence[Array], together: Sequence[Array]) -> tuple[Array, Array]:
    """The same by numpy; `together`: the lists and what else there is."""
    rows = np.unique(np.concatenate(together)).astype(np.int32) if together else np.empty(0, np.int32)
    ranks = np.full((len(rows), len(lists)), NO_ROW, np.int32)
    for s, proposed in enumerate(lists):
        ranks[np.searchsorted(rows, proposed), s] = np.arange(len(proposed), dtype=np.int32)
    return rows, ranks


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
