"""Search in one immutable FAISS index: how much effort, with a filter pushed down or applied afterwards, with or without exact re-scoring.

**Effort.** Finding the k best of the items that a filter lets through means looking about k / share deep into the unfiltered order (exactly so where
the filter is independent of the query). The tuned efforts are therefore kept by depth, and one rule serves every k and every filter.

**Filters.** So few are allowed that scoring them all is cheapest: they are scored, exactly. Nearly all are: some more are fetched and the others
dropped. In between the filter is pushed into FAISS as a bitmap, and lists are visited until enough allowed items were met: a category may lie far from
the query. (A graph searches badly through a bitmap: there the allowed are scored.) What FAISS returns is held against the filter once more either way:
FAISS has ignored selectors silently before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Final

import faiss
import numpy as np

from core.columns import Array
from core.ids import NO_ROW
from index_builder.exact import ExactIndex
from index_builder.protocol import check_queries, mask_of, merged, nothing

_SCANNED: Final = 5000  # so many rows are scored one by one sooner than any index answers
_NEARLY_ALL: Final = 0.8  # from this share on the disallowed are dropped afterwards
_WORTH_A_SCAN: Final = 3  # up to so many times the rows that lists would be visited for
_CLUMPED: Final = 1.25  # a filter whose share differs between lists more than so many times what chance makes of it goes with the vectors
_FARTHER: Final = 4  # so many times the tuned shortlist where a filter may keep away from the query
_SAMPLE: Final = 1 << 16  # rows that stand for all when a filter's spread over the lists is looked at
_DEVIATIONS: Final = 4  # so many more are fetched then that chance rarely leaves too few


@dataclass(frozen=True)
class Setting:
    """How much work a search does, as tuned. `efforts`: (depth, lists visited or graph candidates), depths rising; there is one at least.

    `widen`: where vectors are compressed, the shortlist to score exactly is so many times k; 0: scores are exact as they are. `far`: where a filter
    goes with the vectors, as a category does, so many times the allowed items are looked at.
    """

    efforts: tuple[tuple[int, int], ...]
    widen: int = 0
    far: float = 1

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
        return self.among(queries, k, mask, int(self.index.ntotal) if mask is None else int(np.count_nonzero(mask)))

    def among(self, queries: Array, k: int, mask: Array | None, count: int) -> tuple[Array, Array]:
        """`search` of checked queries, with a mask bool `[rows]` of `count` rows: counting ten million costs more than a search."""
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
        if mask is None:
            rows, scores = self._visit(queries, k, None, effort)
        elif count >= _NEARLY_ALL * self.index.ntotal:
            spare = _DEVIATIONS * math.sqrt(k * (1 - count / self.index.ntotal)) * depth / k
            fetched = min(math.ceil(depth + spare), int(self.index.ntotal))
            rows, scores = _kept(*self._found(queries, fetched, None, effort), mask, k)
        elif self.is_graph or count <= max(_SCANNED, _WORTH_A_SCAN * self._mass(k, depth)):
            return self._scan(queries, k, mask)
        else:
            rows, scores = self._pushed(queries, k, mask, self._mass(k, depth))
        while self.fills and (short := np.flatnonzero((rows == NO_ROW).any(axis=1))).size:
            if effort >= self.most:
                # a graph may not reach every node
                rows[short], scores[short] = self._scan(queries[short], k, mask)
                break
            effort = min(4 * effort, self.most)
            rows[short], scores[short] = self._visit(queries[short], k, mask, effort)
        return rows, scores

    def _mass(self, k: int, depth: float) -> float:
        """How many allowed items to look at.

        As many as the effort for `depth` would meet of a filter that is independent of the query, and as the effort for `k` would meet in a
        catalogue of the allowed items alone.
        """
        lists = max(self.setting.effort(depth) * k / depth, self.setting.effort(k))
        return float(lists * self.index.ntotal / self.most)

    def _pushed(self, queries: Array, k: int, mask: Array, mass: float) -> tuple[Array, Array]:
        """Visit the nearest lists until they hold `mass` allowed items; `far` times as many where the filter is no matter of chance.

        A category lies in some lists and not in others: what is nearest to the query among its items is spread over more lists than as many items
        drawn at random would be.
        """
        rows, lists, held = self._sample
        there = np.bincount(lists[mask[rows]], minlength=self.most)
        share = there.sum() / len(rows)
        chance = len(rows) * share * (1 - share)  # expected sum of the squares below, were each item allowed by chance
        is_clumped = float(((there - share * held) ** 2).sum()) > _CLUMPED * chance
        _, order = self.index.quantizer.search(queries, self.most)
        wanted = mass * (self.setting.far if is_clumped else 1) * len(rows) / self.index.ntotal
        efforts = 1 + (np.cumsum(there[order], axis=1) < wanted).sum(axis=1)
        found, scores = nothing(len(queries), k)
        # a few sizes of effort only, so that queries are searched together
        efforts = np.minimum(2 ** np.ceil(np.log2(efforts)).astype(int) if len(queries) > 1 else efforts, self.most)
        for effort in np.unique(efforts).tolist():
            these = np.flatnonzero(efforts == effort)
            # far from the query, codes tell items apart less well
            shortlist = min(_FARTHER * k, int(self.index.ntotal)) if self.setting.widen else k
            found[these], scores[these] = _kept(*self._found(queries[these], shortlist, mask, effort), mask, k)
        return found, scores

    @cached_property
    def _sample(self) -> tuple[Array, Array, Array]:
        """Rows of every n-th vector, list by list, the list of each, and how many are of each list: enough to tell how a filter is spread over them."""
        step, passed, rows, numbers = -(-int(self.index.ntotal) // _SAMPLE), 0, [], []
        for number in range(self.index.nlist):
            size = int(self.index.get_list_size(number))
            if size:
                held = self.index.invlists.get_ids(number)
                chosen = faiss.rev_swig_ptr(held, size)[-passed % step :: step].copy()
                self.index.invlists.release_ids(number, held)
                rows.append(chosen)
                numbers.append(np.full(len(chosen), number))
            passed += size
        lists = np.concatenate(numbers)
        return np.concatenate(rows), lists, np.bincount(lists, minlength=self.most)

    def _scan(self, queries: Array, k: int, mask: Array | None) -> tuple[Array, Array]:
        few = np.flatnonzero(np.ones(len(self), bool) if mask is None else mask).astype(np.int32)
        places, scores = ExactIndex(np.asarray(self.vectors[few], np.float32)).search(queries, k)
        return np.where(places == NO_ROW, NO_ROW, few[places]), scores

    def _visit(self, queries: Array, k: int, mask: Array | None, effort: int) -> tuple[Array, Array]:
        """The k best of what FAISS finds, everything held against the mask."""
        return _kept(*self._found(queries, k, mask, effort), mask, k)

    def _found(self, queries: Array, k: int, mask: Array | None, effort: int) -> tuple[Array, Array]:
        """What FAISS finds, k at least (where there are as many), in no order; the compressed re-scored."""
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
        return rows, scores

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
