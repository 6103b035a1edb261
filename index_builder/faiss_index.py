"""Search in one immutable FAISS index: how much effort, with a filter pushed down or applied afterwards, with or without exact re-scoring.

**Effort.** Finding the k best of the items that a filter lets through means looking about k / share deep into the unfiltered order (exactly so where
the filter is independent of the query). The tuned efforts are therefore kept by depth, and one rule serves every k and every filter.

**Filters.** So few are allowed that scoring them all is cheapest: they are scored, exactly. Nearly all are: some more are fetched and the others
dropped. In between the filter is pushed into FAISS as a bitmap (a graph searches badly through one: there more is fetched). What FAISS returns is
held against the filter once more either way: FAISS has ignored selectors silently before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Final

import faiss
import numpy as np

from core.columns import Array
from core.ids import NO_ROW
from index_builder.exact import ExactIndex
from index_builder.protocol import check_queries, mask_of, merged, nothing

_SCANNED: Final = 5000  # so many rows are scored one by one sooner than any index answers
_NEARLY_ALL: Final = 0.8  # from this share on the disallowed are dropped afterwards
_DEVIATIONS: Final = 4  # so many more are fetched then that chance rarely leaves too few


@dataclass(frozen=True)
class Setting:
    """How much work a search does, as tuned. `efforts`: (depth, lists visited or graph candidates), depths rising; there is one at least.

    `widen`: where vectors are compressed, the shortlist to score exactly is so many times k; 0: scores are exact as they are.
    """

    efforts: tuple[tuple[int, int], ...]
    widen: int = 0

    def effort(self, depth: float) -> int:
        """The effort for the best `depth` items: between two tuned depths by power law, beyond the last in proportion."""
        (low, least), deepest = self.efforts[0], self.efforts[-1]
        for high, most in self.efforts:
            if depth <= high:
                between = math.log(max(depth, low) / low) / math.log(high / low) if high > low else 1.0
                return round(least * float((most / least) ** between))
            low, least = high, most
        return math.ceil(deepest[1] * depth / deepest[0])


@dataclass(frozen=True)
class FaissIndex:
    """An inverted file or a graph over vectors whose FAISS ids are rows.

    `vectors` float16 or float32 `[rows, d]`, by row: scored where few are allowed, and for the shortlist where FAISS holds compressed ones.
    """

    index: Any  # faiss.IndexIVF, or faiss.IndexIDMap of faiss.IndexHNSW
    setting: Setting
    vectors: Array
    fills: bool = True  # False: a search ends after its effort, with places left empty
    is_exact: bool = False

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self.index.d)

    @property
    def is_graph(self) -> bool:
        """HNSW, not an inverted file."""
        return not hasattr(self.index, "nlist")

    @property
    def most(self) -> int:
        """The effort that visits everything."""
        return int(self.index.ntotal if self.is_graph else self.index.nlist)

    def at(self, effort: int, widen: int) -> FaissIndex:
        """The same with one effort at every depth, for trial."""
        return replace(self, setting=Setting(((2**62, effort),), widen))

    def search(self, queries: Array, k: int, allowed: Array | None = None) -> tuple[Array, Array]:
        """See `protocol.Index.search`. Where it `fills`, more is visited until no place is empty or everything was visited."""
        check_queries(queries, self.dimensions)
        mask = None if allowed is None else mask_of(allowed, len(self))
        count = int(self.index.ntotal) if mask is None else int(np.count_nonzero(mask))
        there = min(k, count)
        rows, scores = nothing(len(queries), k)
        asked = np.flatnonzero(np.isfinite(queries).all(axis=1))
        if not there or not len(asked):
            return rows, scores
        real = np.ascontiguousarray(queries[asked], np.float32)
        found, values = self._search(real, there, mask, count)
        rows[asked, :there], scores[asked, :there] = found, values
        return rows, scores

    def _search(self, queries: Array, k: int, mask: Array | None, count: int) -> tuple[Array, Array]:
        """`k` at most `count`, the number of allowed rows."""
        depth = k * self.index.ntotal / count
        effort = self.setting.effort(depth)
        if mask is not None and (count <= _SCANNED or (self.is_graph and depth > self.setting.efforts[-1][0])):
            return self._scan(queries, k, mask)
        if mask is None:
            rows, scores = self._visit(queries, k, None, effort)
        elif self.is_graph or count >= _NEARLY_ALL * self.index.ntotal:
            spare = _DEVIATIONS * math.sqrt(k * (1 - count / self.index.ntotal)) * depth / k
            fetched = min(math.ceil(depth + spare), int(self.index.ntotal))
            rows, scores = _kept(*self._visit(queries, fetched, None, effort), mask, k)
        else:
            rows, scores = self._visit(queries, k, mask, effort)
        while self.fills and (short := np.flatnonzero((rows == NO_ROW).any(axis=1))).size:
            if effort >= self.most:
                # a graph may not reach every node
                rows[short], scores[short] = self._scan(queries[short], k, mask)
                break
            effort = min(4 * effort, self.most)
            rows[short], scores[short] = self._visit(queries[short], k, mask, effort)
        return rows, scores

    def _scan(self, queries: Array, k: int, mask: Array | None) -> tuple[Array, Array]:
        few = np.flatnonzero(np.ones(len(self), bool) if mask is None else mask).astype(np.int32)
        places, scores = ExactIndex(np.asarray(self.vectors[few], np.float32)).search(queries, k)
        return np.where(places == NO_ROW, NO_ROW, few[places]), scores

    def _visit(self, queries: Array, k: int, mask: Array | None, effort: int) -> tuple[Array, Array]:
        """What FAISS finds, the compressed re-scored, everything held against the mask."""
        shortlist = min(max(k * self.setting.widen, k), int(self.index.ntotal))
        effort = min(max(effort, shortlist if self.is_graph else 1), self.most)
        selector = {} if mask is None else {"sel": faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))}
        parameters = (
            faiss.SearchParametersHNSW(efSearch=effort, **selector)
            if self.is_graph
            else faiss.SearchParametersIVF(nprobe=effort, **selector)
        )
        scores, rows = self.index.search(queries, shortlist, params=parameters)
        if self.setting.widen:
            scores = self._rescored(queries, rows)
        return _kept(rows, scores, mask, k)

    def _rescored(self, queries: Array, rows: Array) -> Array:
        """Inner products float32 `[n, m]` of queries with the stored vectors of `rows` `[n, m]`; those of NO_ROW mean nothing."""
        scores = np.empty(rows.shape, np.float32)
        for at, query in enumerate(queries):
            scores[at] = self.vectors[np.maximum(rows[at], 0)].astype(np.float32) @ query
        return scores


def _kept(rows: Array, scores: Array, mask: Array | None, k: int) -> tuple[Array, Array]:
    """The k best of what was found that the mask allows."""
    if mask is not None:
        rows = np.where(mask[np.maximum(rows, 0)], rows, NO_ROW)
    return merged(rows, scores, k)
