"""Tunes the effort of an index until it reaches a recall target on real queries, and measures what a search costs then.

Efforts are tuned at several depths, see `faiss_index`: at k for plain searches, deeper for larger pages and for filters.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import faiss
import numpy as np

from core.columns import Array
from core.config import IndexConfig
from core.threads import one_thread
from index_builder.exact import ExactIndex
from index_builder.faiss_index import FaissIndex, Setting
from index_builder.kinds import COMPRESSED
from index_builder.protocol import Index

_DEEPER: Final = (2, 4, 10, 30, 100)  # efforts are tuned at k, and at so many times k
_DEEPEST_GRAPH: Final = 10  # beyond, a filter lets so few through that they are scored one by one
_DEEP_QUERIES: Final = 100  # measured there
_DEEPEST: Final = _DEEPER[-1]
_WIDEN: Final = (8, 4, 2)  # shortlists tried, in k
_SHORTER: Final = 4  # a shorter shortlist that needs more than so many times the effort is not worth it
_FAR: Final = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 32)  # times the allowed items, where a filter goes with the vectors
_CATEGORIES: Final = (
    (4, 3),
    (2, 1),
    (4, 1),
    (8, 1),
)  # filters that do: of so many neighbourhoods, the items of so many
_TOGETHER: Final = 8  # lists of a neighbourhood: a category may fill several lists, and its fringe lies beyond others
_HALVED: Final = 2  # times, so that two builds of one catalogue end within a fifth of the same effort
_NO_GAIN: Final = 0.002  # where the target is out of reach: the least effort within this of the best
_TIMED: Final = 200  # queries


@dataclass(frozen=True)
class Tuned:
    """A setting and what it costs. `recall` at k; `p50_ms`: one query on one thread; `filtered`: recall at k under the worst of `_CATEGORIES`."""

    setting: Setting
    recall: float
    p50_ms: float
    p99_ms: float
    filtered: float = 1.0


class Truth:
    """The true neighbours of queries float32 `[n, d]` among `vectors` float32 `[items, d]`: of all up to depth `k`, of a few far deeper."""

    def __init__(self, vectors: Array, queries: Array, k: int) -> None:
        self._exact, self._k, self.queries = ExactIndex(vectors), k, queries
        self._rows: dict[int, Array] = {}  # by the number of queries
        self._filtered: dict[
            bytes, Array
        ] = {}  # by a hash of the filter: kinds that share their lists are asked the same

    def recall(self, index: Index, k: int) -> float:
        """Mean share of the true k nearest that `index` returns; 1 without queries."""
        asked = self.queries if k <= self._k else self.queries[:_DEEP_QUERIES]
        if not len(asked) or not len(self._exact):
            return 1.0
        return overlap(self._nearest(min(k, len(self._exact)), asked), index.search(asked, k)[0])

    def filtered(self, allowed: Array, k: int) -> Callable[[Index], float] | None:
        """What measures recall under a filter bool `[items]`, on a few queries, each alone; None where there is nothing to measure."""
        asked, k = self.queries[:_DEEP_QUERIES], min(k, int(np.count_nonzero(allowed)))
        if not len(asked) or not k:
            return None
        key = hashlib.blake2b(np.packbits(allowed).tobytes()).digest()
        if key not in self._filtered:
            self._filtered[key] = self._exact.search(asked, k, allowed)[0]
        rows = self._filtered[key]
        return lambda index: overlap(rows, np.vstack([index.search(q[None], k, allowed)[0] for q in asked]))

    def _nearest(self, k: int, asked: Array) -> Array:
        deepest = min(k if len(asked) == len(self.queries) else _DEEPEST * self._k, len(self._exact))
        if (found := self._rows.get(len(asked))) is None or found.shape[1] < k:
            found = self._rows[len(asked)] = self._exact.search(asked, max(k, deepest))[0]
        return found[:, :k]


def overlap(truth: Array, found: Array) -> float:
    """Mean share of each line of `truth` `[n, k]` that the same line of `found` has."""
    return float(np.mean([len(np.intersect1d(t, f)) / len(t) for t, f in zip(truth, found, strict=True)]))


def recall_at(index: Index, vectors: Array, queries: Array, k: int) -> float:
    """Mean share of the true k nearest that `index` returns, over `queries` float32 `[n, d]`."""
    return Truth(vectors, queries, k).recall(index, k)


def tuned(index: FaissIndex, kind: str, truth: Truth, config: IndexConfig) -> Tuned:
    """The fastest setting that reaches the recall target; without any, the one of highest recall."""
    tries: list[Tuned] = []
    most = index.most
    for widen in _WIDEN if kind in COMPRESSED else (0,):
        effort, recall = _effort(index, widen, truth, config.k, config.recall_target, (1, most))
        p50, p99 = latency(index.at(effort, widen), truth.queries, config.k)
        tries.append(Tuned(Setting(((config.k, effort),), widen), recall, p50, p99))
        most = min(_SHORTER * effort, index.most)
    reached = [t for t in tries if t.recall >= config.recall_target]
    best = min(reached, key=lambda t: t.p50_ms) if reached else max(tries, key=lambda t: t.recall)
    efforts = list(best.setting.efforts)
    for factor in _DEEPER:
        depth = factor * config.k
        if 2 * depth > len(index) or (index.is_graph and factor > _DEEPEST_GRAPH):
            break  # nothing is gained over scoring what a filter allows
        bounds = (efforts[-1][1], index.most)
        efforts.append((depth, _effort(index, best.setting.widen, truth, depth, config.recall_target, bounds)[0]))
    setting = Setting(tuple(efforts), best.setting.widen)
    if not index.is_graph:  # a graph scores what such a filter allows
        setting, filtered = _with_far(index, setting, truth, config)
        best = replace(best, filtered=filtered)
    return replace(best, setting=setting)


def _with_far(index: FaissIndex, setting: Setting, truth: Truth, config: IndexConfig) -> tuple[Setting, float]:
    """The least `far` with which the target is reached under every filter of `_CATEGORIES`, in the manner of categories of all sizes; the lowest recall."""
    place, of_list = np.empty(len(index), np.int32), _neighbourhoods(index)
    for number in range(index.most):
        if size := int(index.index.get_list_size(number)):
            place[faiss.rev_swig_ptr(index.index.invlists.get_ids(number), size)] = of_list[number]
    asked = [truth.filtered(place % n < some, config.k) for n, some in _CATEGORIES]
    lowest = 1.0
    for far in _FAR:
        setting = replace(setting, far=far)
        at_this = replace(index, setting=setting)
        lowest = min((recall(at_this) for recall in asked if recall is not None), default=1.0)
        if lowest >= config.recall_target:
            break
    return setting, lowest


def _neighbourhoods(index: FaissIndex) -> Array:
    """The neighbourhood of each list, int `[lists]`: lists whose centroids are nearest to the same one of a few, which are drawn (seeded)."""
    centroids = index.index.quantizer.reconstruct_n(0, index.most)
    middles = centroids[np.random.default_rng(0).permutation(index.most)[::_TOGETHER]]
    return np.asarray(np.argmax(centroids @ middles.T - (middles**2).sum(axis=1) / 2, axis=1))


def _effort(
    index: FaissIndex, widen: int, truth: Truth, depth: int, target: float, bounds: tuple[int, int]
) -> tuple[int, float]:
    """The effort within the bounds that just reaches the target at `depth`, and the recall there: doubled until it does, then halved in between."""
    effort, most = max(bounds[0], depth if index.is_graph else 1), bounds[1]
    seen: list[tuple[int, float]] = []
    while not seen or (seen[-1][1] < target and seen[-1][0] < most):
        seen.append((min(effort, index.most), truth.recall(index.at(effort, widen), depth)))
        effort = min(2 * effort, max(most, effort))
    if seen[-1][1] >= target:
        enough, least = seen[-1], seen[-2][0] if len(seen) > 1 else seen[-1][0]
        for _ in range(_HALVED):
            effort = round(math.sqrt(least * enough[0]))
            if least < effort < enough[0]:
                recall = truth.recall(index.at(effort, widen), depth)
                least, enough = (least, (effort, recall)) if recall >= target else (effort, enough)
        return enough
    best = max(recall for _, recall in seen)
    return next((e, r) for e, r in seen if r >= best - _NO_GAIN)


def latency(index: Index, queries: Array, k: int, count: int = _TIMED) -> tuple[float, float]:
    """p50 and p99 in milliseconds of one query at a time on one thread, after as many to warm up. 0 without queries."""
    if not len(queries):
        return 0.0, 0.0
    times = []
    with one_thread():
        for at in range(2 * count):
            query = queries[at % len(queries)][None]
            start = time.perf_counter()
            index.search(query, k)
            times.append(time.perf_counter() - start)
    return tuple(round(1e3 * float(np.quantile(times[count:], q)), 4) for q in (0.5, 0.99))  # type: ignore[return-value]
