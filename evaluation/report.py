"""One protocol's result as the JSON of `evaluate` (design 6), and as rows for a table.

The main figure is over the queries of `Judgements.main`; cohorts and segments stand apart, each over its own queries. In a segment of items only
those items count as relevant. Every figure is rounded to 6 decimals here, at the end; None stands where there was nothing to measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import numpy as np

from core.columns import Array
from core.config import EvaluationConfig
from evaluation import exposure, metrics
from evaluation.catalogue import Catalogue
from evaluation.funnel import Sightings, funnel
from evaluation.intervals import Interval, intervals
from evaluation.judgements import NEW_USER, Judgements
from evaluation.metrics import Found, find
from evaluation.segments import Segmentation, segmentations

METRICS: Final[dict[str, Callable[[Found], Array]]] = {
    "ndcg@10": partial(metrics.ndcg, k=10),
    "hit@10": partial(metrics.hit, k=10),
    "recall@100": partial(metrics.recall, k=100),
    "recall@500": partial(metrics.recall, k=500),
    "mrr@10": partial(metrics.mrr, k=10),
}
COMPARED: Final = "ndcg@10"  # the metric of the differences
LEVEL: Final = "level"  # the segments by the rung of the ladder that answered
PAGE: Final = 10  # items of an answer that a person sees: exposure is measured on them


def summary(
    judgements: Judgements,
    answers: Array,
    baselines: Mapping[str, Array],
    catalogue: Catalogue,
    config: EvaluationConfig,
    *,
    sightings: Sightings | None = None,
    by_query: Mapping[str, Array] | None = None,
) -> dict[str, Any]:
    """The whole result of one protocol.

    Args:
        judgements: q queries, those of the cohorts among them.
        answers: int32 `[q, k]`, k >= 500 for recall@500 to mean it, padded with NO_ROW.
        baselines: Other systems' answers to the same queries, by name.
        catalogue: The items as known at `judgements.fold`.
        config: Seed, bootstrap samples and confidence.
        sightings: What the stages did with the relevant pairs; without it there is no `funnel`.
        by_query: More segments: a label for each query, `[q]`, by name. Of `level`, which rung of the ladder answered, there is more: `levels` has every
            metric of every rung over all its queries. Those of new users are among them, and only they stand on the lowest rungs.
    """
    found = find(answers, judgements.relevance)
    main = judgements.main
    pairs = main[judgements.relevance.queries]
    rivals = {name: find(rows, judgements.relevance) for name, rows in baselines.items()}
    others = {name: rival.only(pairs)[0] for name, rival in rivals.items()}
    kinds = [*segmentations(judgements, catalogue), *(_labelled(n, v) for n, v in (by_query or {}).items())]
    result: dict[str, Any] = {
        "queries": int(main.sum()),
        "seen": judgements.seen,
        **_compared(found.only(pairs)[0], others, config),
        **_exposed(answers[main], catalogue),
        **answered(answers[main]),
        "dropped": dict(judgements.dropped),
        "cohorts": _cohorts(judgements, found, config),
        "segments": {kind.name: _segments(judgements, found, kind) for kind in kinds},
    }
    if by_query is not None and LEVEL in by_query:
        result["levels"] = _levels(judgements, found, rivals, answers, by_query[LEVEL], catalogue, config)
    for name, rows in baselines.items():
        result["baselines"][name] |= _exposed(rows[main], catalogue)
    if sightings is not None:
        result["funnel"] = funnel(sightings, found.positions, pairs)
    return result


def answered(answers: Array) -> dict[str, int]:
    """Queries without any answer, and places taken by an item that the answer already held."""
    ordered = np.sort(answers, axis=1)
    repeated = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)
    return {"unanswered": int((answers < 0).all(1).sum()), "duplicates": int(repeated.sum())}


def table(result: Mapping[str, Any], name: str = "aisle") -> list[dict[str, Any]]:
    """Rows for people: the system itself, then its baselines by falling NDCG@10, each with the metrics and how much better the system is."""
    systems = sorted(result["baselines"].items(), key=lambda s: (-(s[1][COMPARED] or 0.0), s[0]))
    key = f"{COMPARED}_difference"
    return [
        {"system": system} | {m: values[m] for m in METRICS} | {key: values.get(key)}
        for system, values in ((name, result), *systems)
    ]


def measure(found: Found) -> Array:
    """Every metric of every query: float64 `[q, m]` in the order of METRICS."""
    return np.stack([metric(found) for metric in METRICS.values()], axis=1)


def _compared(found: Found, others: Mapping[str, Found], config: EvaluationConfig) -> dict[str, Any]:
    """Means and intervals of the system and of every baseline, and the paired differences: one bootstrap for all."""
    ours, theirs = measure(found), [measure(other) for other in others.values()]
    at = list(METRICS).index(COMPARED)
    differences = [ours[:, [at]] - values[:, [at]] for values in theirs]
    columns = _intervals(np.concatenate([ours, *theirs, *differences], axis=1), config)
    m = len(METRICS)
    baselines = {
        name: _means(columns[m * (i + 1) : m * (i + 2)])
        | {f"{COMPARED}_difference": _difference(columns[m * (1 + len(others)) + i])}
        for i, name in enumerate(others)
    }
    return _means(columns[:m]) | {"baselines": baselines}


def _cohorts(judgements: Judgements, found: Found, config: EvaluationConfig) -> dict[str, Any]:
    new_users = (judgements.cohort == NEW_USER)[judgements.relevance.queries]
    cohorts = {"new_users": new_users, "new_items": judgements.new_items & ~new_users}
    parts = {name: found.only(pairs)[0] for name, pairs in cohorts.items()}
    return {name: {"queries": len(part)} | _means(_intervals(measure(part), config)) for name, part in parts.items()}


def _levels(
    judgements: Judgements,
    found: Found,
    rivals: Mapping[str, Found],
    answers: Array,
    levels: Array,
    catalogue: Catalogue,
    config: EvaluationConfig,
) -> dict[str, Any]:
    """Every metric by the rung that answered, over all queries, those of new users too, and beside every baseline."""
    result = {}
    for level in np.unique(levels).tolist():
        on = levels == level
        pairs = on[judgements.relevance.queries]
        others = {name: rival.only(pairs)[0] for name, rival in rivals.items()}
        compared = _compared(found.only(pairs)[0], others, config)
        result[str(level)] = {"queries": int(on.sum())} | compared | _exposed(answers[on], catalogue)
    return result


def _segments(judgements: Judgements, found: Found, kind: Segmentation) -> dict[str, Any]:
    """Means over the main queries of each segment; segments without any are left out."""
    main = judgements.main[judgements.relevance.queries]
    parts = {label: found.only(main & kind.pairs(judgements, label))[0] for label in kind.labels}
    return {
        label: {"queries": len(part)} | dict(zip(METRICS, map(_rounded, measure(part).mean(0).tolist()), strict=True))
        for label, part in parts.items()
        if len(part)
    }


def _labelled(name: str, labels: Array) -> Segmentation:
    values, codes = np.unique(labels, return_inverse=True)
    return Segmentation(name, tuple(map(str, values)), codes, of_pairs=False)


def _exposed(answers: Array, catalogue: Catalogue) -> dict[str, Any]:
    """What the pages do to the catalogue."""
    items = exposure.shown(answers, PAGE)
    shows = exposure.counts(items, len(catalogue))[catalogue.alive]
    surprise = exposure.self_information(catalogue.popularity, catalogue.people)
    return {
        f"coverage@{PAGE}": _rounded(exposure.coverage(shows)),
        f"gini@{PAGE}": _rounded(exposure.gini(shows)),
        f"novelty@{PAGE}": _mean_of_answered(exposure.mean_of_shown(items, surprise)),
        f"popularity_percentile@{PAGE}": _mean_of_answered(
            exposure.mean_of_shown(items, exposure.percentiles(catalogue.popularity))
        ),
    }


def _mean_of_answered(values: Array) -> float | None:
    there = values[~np.isnan(values)]
    return _rounded(float(there.mean())) if len(there) else None


def _intervals(values: Array, config: EvaluationConfig) -> list[Interval | None]:
    if not len(values):
        return [None] * values.shape[1]
    return [*intervals(values, samples=config.bootstrap_samples, confidence=config.confidence, seed=config.seed)]


def _means(columns: list[Interval | None]) -> dict[str, Any]:
    named = dict(zip(METRICS, columns, strict=True))
    return {
        **{m: None if c is None else _rounded(c.mean) for m, c in named.items()},
        "intervals": {m: None if c is None else [_rounded(c.low), _rounded(c.high)] for m, c in named.items()},
    }


def _difference(column: Interval | None) -> dict[str, float] | None:
    return None if column is None else {n: _rounded(v) for n, v in column._asdict().items()}


def _rounded(value: float) -> float:
    return round(value, 6)
