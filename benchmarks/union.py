"""The union of the sources' candidates, as measured against what people then chose."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from core.candidates import Candidates, Source, gather
from core.columns import Array
from core.config import SourcesConfig
from core.history import Query
from evaluation.metrics import find, hit, ndcg, padded, recall
from evaluation.relevance import Relevance
from ranking.blend import blend
from retrieval.sources.popularity import Popularity

DEPTH = 500
POPULARITY = Popularity.name
METRICS = ("ndcg@10", "hit@10", "recall@100", "recall@500")

Asked = Sequence[tuple[Query, Array]]  # a query, and the rows that must not be returned (int32 ascending)


@dataclass(frozen=True)
class Union:
    """Of q queries; all arrays float64 `[q]` unless stated."""

    measured: Array  # [q, 4]: METRICS of the page, in the order of the blend and filled up with popular items
    recall: Array  # of the whole union, whatever the order
    sizes: Array
    seconds: Array
    alone: dict[str, Array]  # recall of what each source proposes
    lost: dict[str, Array]  # recall that goes when the source is left out

    def means(self) -> dict[str, float]:
        """For print: quality, size and cost."""
        return {
            **dict(zip(METRICS, self.measured.mean(0).round(4).tolist(), strict=True)),
            "recall": round(float(self.recall.mean()), 4),
            "size_p50": int(np.median(self.sizes)),
            "size_max": int(self.sizes.max()),
            "p50_ms": round(float(np.median(self.seconds)) * 1000, 3),
        }


def unite(
    sources: tuple[Source, ...],
    quotas: Mapping[str, int],
    weights: Mapping[str, float],
    asked: Asked,
    relevance: Relevance,
) -> Union:
    """Ask as the request path does, and order by the blend with `weights`."""
    q = len(asked)
    pages: list[Array] = []
    popular = next((s for s in sources if s.name == POPULARITY), None)
    sizes, seconds, whole = np.zeros(q), np.zeros(q), np.zeros(q)
    own, lost = np.zeros((q, len(sources))), np.zeros((q, len(sources)))
    for i, (query, excluded) in enumerate(asked):
        start = time.perf_counter()
        candidates = gather(sources, dict(quotas), query, excluded)
        scores = blend(candidates, weights)
        seconds[i] = time.perf_counter() - start
        ordered = candidates.rows[np.argsort(-scores, kind="stable")][:DEPTH]
        pages.append(ordered if popular is None else filled(ordered, popular, query, excluded))
        sizes[i] = len(candidates)
        wanted = relevance.items[relevance.starts[i] : relevance.starts[i + 1]]
        whole[i], own[i], lost[i] = shares(candidates, wanted)
    names = [s.name for s in sources]
    return Union(
        measured=measured(pages, relevance),
        recall=whole,
        sizes=sizes,
        seconds=seconds,
        alone=dict(zip(names, own.T, strict=True)),
        lost=dict(zip(names, lost.T, strict=True)),
    )


def filled(rows: Array, popular: Source, query: Query, excluded: Array) -> Array:
    """An answer completed to DEPTH by what is `popular`, as every page is."""
    missing = DEPTH - len(rows)
    if missing <= 0:
        return rows
    return np.concatenate([rows, popular.scoring(query).top(missing, np.union1d(excluded, rows))[0]])


def shares(candidates: Candidates, wanted: Array) -> tuple[float, Array, Array]:
    """Of the `wanted` rows: the share in the union, in each source's own list `[S]`, and in that source's list alone `[S]`."""
    proposed = candidates.ranks[np.isin(candidates.rows, wanted)] >= 0  # [found, S]
    only = proposed & (proposed.sum(1, keepdims=True) == 1)
    return len(proposed) / len(wanted), proposed.sum(0) / len(wanted), only.sum(0) / len(wanted)


def measured(answers: list[Array], relevance: Relevance) -> Array:
    """METRICS of each query: float64 `[q, 4]`."""
    found = find(padded(answers, DEPTH), relevance)
    return np.stack([ndcg(found, 10), hit(found, 10), recall(found, 100), recall(found, DEPTH)], axis=1)


def page_quotas(quotas: Mapping[str, int], config: SourcesConfig, k: int) -> dict[str, int]:
    """What the request path asks of each source for a page of `k` places (serving.request_path)."""
    factor = max(1.0, config.candidates_per_place * k / config.candidates)
    return {name: round(quota * factor) for name, quota in quotas.items()}
