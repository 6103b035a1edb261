"""What a sample of queries, answered in many ways, says about an evaluation: what each part brings, for whom, at what cost.

Every comparison is paired: the same queries, the bootstrap of the per-query difference (evaluation.intervals).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np

from core.columns import Array
from core.config import EvaluationConfig
from evaluation import exposure, fairness
from evaluation.catalogue import Catalogue
from evaluation.intervals import Interval, intervals
from evaluation.item_groups import Grouping
from evaluation.judgements import Judgements
from evaluation.metrics import find, ndcg
from evaluation.segments import Segmentation

PAGE: Final = 10


@dataclass(frozen=True)
class Setting:
    """The request path with its quotas multiplied by `factor`."""

    factor: float
    pages: Array  # int32 [q, 10]
    candidates: Array  # int64 [q], that were ranked
    retrieved: Array  # bool [p], relevant pairs among them
    seconds: Array  # float64 [q], CPU of the whole path


@dataclass(frozen=True)
class Study:
    """One sample of q queries with p relevant pairs, answered in many ways. Pages are int32 `[q, 10]`, padded with NO_ROW."""

    judgements: Judgements
    pages: Array  # as served
    before: Array  # of what it is compared with
    without_source: Mapping[str, Array]  # what only that source proposed is taken away
    proposed: Mapping[str, Array]  # bool [p], by source: the relevant pairs that it proposed
    shuffled: Mapping[str, Array]  # the features of a group carry another candidate's values
    settings: Sequence[Setting]
    config: EvaluationConfig

    def ndcg(self, pages: Array) -> Array:
        """NDCG@10 of each query, float64 `[q]`."""
        return ndcg(find(pages, self.judgements.relevance), PAGE)

    @cached_property
    def ours(self) -> Array:
        """NDCG@10 of the pages as served, `[q]`."""
        return self.ndcg(self.pages)

    @cached_property
    def gained(self) -> Array:
        """By how much each is better than before, `[q]`."""
        return self.ours - self.ndcg(self.before)

    def share(self, pairs: Array) -> Array:
        """Share of each query's relevant pairs in a mask, bool `[p]` -> float64 `[q]`."""
        relevance = self.judgements.relevance
        return np.bincount(relevance.queries, weights=pairs, minlength=len(relevance)) / np.diff(relevance.starts)

    def sure(self, columns: Array) -> list[dict[str, float]]:
        """The mean of each column, float64 `[q, m]`, with its interval."""
        c = self.config
        found = intervals(columns, samples=c.bootstrap_samples, confidence=c.confidence, seed=c.seed)
        return [stated(interval) for interval in found]


def stated(interval: Interval) -> dict[str, float]:
    """Rounded, by name."""
    return {name: round(value, 6) for name, value in interval._asdict().items()}


def headline(study: Study) -> dict[str, Any]:
    """The sample's own figures, and the difference to what was before."""
    ours, gained = study.sure(np.stack([study.ours, study.gained], 1))
    return {"queries": len(study.pages), "ndcg@10": ours, "ndcg@10_difference": gained}


def sources(study: Study) -> dict[str, Any]:
    """What is lost where one source proposes nothing: of the candidates' recall, and of NDCG@10. Its scores remain features of the others' candidates."""
    names = list(study.proposed)
    all_found = np.stack(list(study.proposed.values()), 1)
    found_by_any = np.asarray(all_found.any(axis=1))
    columns = []
    for s, name in enumerate(names):
        others = np.asarray(np.delete(all_found, s, 1).any(axis=1))
        columns += [
            study.share(all_found[:, s]),
            study.share(found_by_any) - study.share(others),
            study.ours - study.ndcg(study.without_source[name]),
        ]
    found = study.sure(np.stack(columns, 1))
    keys = ("recall", "recall_lost", "ndcg@10_lost")
    return {name: dict(zip(keys, found[3 * s : 3 * s + 3], strict=True)) for s, name in enumerate(names)}


def feature_groups(study: Study, gains: Mapping[str, float]) -> dict[str, Any]:
    """What is lost when a group's values are shuffled among a request's candidates (permutation importance, Breiman 2001), beside its share of the gain."""
    if not study.shuffled:
        return {}
    lost = study.sure(np.stack([study.ours - study.ndcg(pages) for pages in study.shuffled.values()], 1))
    return {
        group: {"gain_share": round(gains.get(group, 0.0), 6), "ndcg@10_lost": figure}
        for group, figure in zip(study.shuffled, lost, strict=True)
    }


def costs(study: Study) -> list[dict[str, Any]]:
    """Candidates, their recall, NDCG@10 and CPU time at each setting of the quotas."""
    rows = []
    for setting in study.settings:
        recall, quality, change = study.sure(
            np.stack(
                [study.share(setting.retrieved), (at := study.ndcg(setting.pages)), at - study.ours],
                1,
            )
        )
        low, median, high = (round(1e3 * float(q), 4) for q in np.quantile(setting.seconds, [0.05, 0.5, 0.95]))
        rows.append(
            {
                "factor": setting.factor,
                "candidates": round(float(setting.candidates.mean()), 1),
                "recall": recall,
                "ndcg@10": quality,
                "ndcg@10_difference": change,
                "cpu_ms": {"low": low, "median": median, "high": high},
            }
        )
    return rows


def segments(study: Study, kinds: Sequence[Segmentation]) -> dict[str, Any]:
    """NDCG@10 of each segment with its interval, and by how much it is better than before. In a segment of items only those items count as relevant."""
    return {kind.name: _segment(study, kind) for kind in kinds}


def _segment(study: Study, kind: Segmentation) -> dict[str, Any]:
    found, before = (find(pages, study.judgements.relevance) for pages in (study.pages, study.before))
    result = {}
    for label in kind.labels:
        pairs = kind.pairs(study.judgements, label)
        if not pairs.any():
            continue
        ours, theirs = (ndcg(f.only(pairs)[0], PAGE) for f in (found, before))
        figure, gained = study.sure(np.stack([ours, ours - theirs], 1))
        result[label] = {"queries": len(ours), "ndcg@10": figure, "ndcg@10_difference": gained}
    return result


def exposures(study: Study, kinds: Sequence[Grouping], catalogue: Catalogue) -> dict[str, Any]:
    """By group of items: its share of the catalogue, of what was wanted, and of the attention that pages give out, now and before."""
    relevance, alive, result = study.judgements.relevance, np.flatnonzero(catalogue.alive), {}
    for kind in kinds:
        now, then = (fairness.exposure(exposure.shown(p, PAGE), kind) for p in (study.pages, study.before))
        wanted = fairness.wanted(relevance.items, relevance.queries, kind, len(relevance))
        shown = study.sure(now)
        gained = study.sure(now - then)
        items = np.bincount(kind.codes[alive], minlength=len(kind.labels)) / max(1, len(alive))
        result[kind.name] = {
            label: {
                "items": round(float(items[g]), 6),
                "wanted": round(float(wanted[:, g].mean()), 6),
                "shown": shown[g],
                "shown_difference": gained[g],
            }
            for g, label in enumerate(kind.labels)
            if items[g] or wanted[:, g].any() or now[:, g].any()
        }
    return result


def variety(study: Study, catalogue: Catalogue, category: Grouping | None) -> dict[str, Any]:
    """Coverage, concentration, novelty, popularity and diversity of the pages, now and before; means over pages are compared in pairs."""
    surprise = exposure.self_information(catalogue.popularity, catalogue.people)
    percentile = exposure.percentiles(catalogue.popularity)
    per_page: dict[str, tuple[Array, Array]] = {}
    now, then = (exposure.shown(pages, PAGE) for pages in (study.pages, study.before))
    for name, values in (("novelty", surprise), ("popularity_percentile", percentile)):
        per_page[name] = exposure.mean_of_shown(now, values), exposure.mean_of_shown(then, values)
    if category is not None:
        per_page["diversity"] = fairness.differing(now, category.codes), fairness.differing(then, category.codes)
    whole = {
        side: {"coverage": round(exposure.coverage(shows), 6), "gini": round(exposure.gini(shows), 6)}
        for side, pages in (("now", now), ("before", then))
        for shows in [exposure.counts(pages, len(catalogue))[catalogue.alive]]
    }
    means = {}
    for name, (ours, theirs) in per_page.items():
        there = ~np.isnan(ours) & ~np.isnan(theirs)
        if there.any():
            a, b, d = study.sure(np.stack([ours[there], theirs[there], (ours - theirs)[there]], 1))
            means[name] = {"now": a, "before": b, "difference": d}
    return {"catalogue": whole, "pages": means}
