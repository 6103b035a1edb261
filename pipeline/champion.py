"""The candidate's twin against the champion's on the same test queries: all of them, and in segments.

The twin of the champion's own night knew less of the timeline than tonight's, and nothing of tonight's test window, so neither side has seen what it
is asked. Differences are paired: the luck of the queries falls on both (evaluation.intervals). Many segments are looked at, so each is asked for more
certainty: Bonferroni's correction (Dunn, Multiple comparisons among means, JASA 1961), with the normal approximation of the mean difference.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import NormalDist
from typing import Any, Final

import numpy as np

from core import artifact
from core.columns import Array, Coded
from core.config import GatesConfig, PipelineConfig
from core.prepared import TWIN, Fold, Prepared
from core.schema import CATEGORY_SEPARATOR, Column
from core.work import Work
from evaluation import exposure
from evaluation.catalogue import Catalogue
from evaluation.intervals import difference
from evaluation.judgements import Judgements
from evaluation.judgements import judge as judgements_of
from evaluation.metrics import Found, find
from evaluation.report import METRICS, PAGE, measure
from evaluation.segments import history_length
from pipeline.evaluate import pages
from pipeline.gates import Verdict

KIND: Final = "comparison"
FORMAT_VERSION: Final = 1
STAGE: Final = "compare"
REPORT: Final = "report.json"
_ATTRIBUTE: Final = "attribute."
_SHORT: Final = ("1", "2-4")  # lengths of histories
_LONG: Final = ("50+",)

Say = Callable[[str], None]


def twin_of_champion(work: Work, until: int) -> Path | None:
    """The twin that was judged for the champion.

    None: there is no champion, its twin is gone, or it knows events from `until` on (microseconds), which tonight's test window asks for: the cuts moved back.
    """
    if not work.current.exists():
        return None
    id = artifact.read_manifest(work.current).parents.get("twin")
    path = work.stage("twin", str(id))
    if not id or not path.exists() or int(artifact.read_manifest(path).about["window"][1]) > until:
        return None
    return path


def compare(work: Work, prepared: Prepared, ours: Path, theirs: Path, config: PipelineConfig, say: Say) -> Path:
    """The artifact with `judged` of both twins on tonight's test queries; made once."""
    code = artifact.code_version("evaluation", "pipeline", "serving", "core", "ranking")
    settings = [config.evaluation.fingerprint(), config.gates.requests, config.gates.segments]
    id = artifact.hash_json([prepared.manifest.id, ours.name, theirs.name, settings, code])[:32]
    path = work.stage(STAGE, id)
    if not path.exists():
        report = judged(prepared, TWIN, ours, theirs, config, say)
        with artifact.publish(path, kind=KIND, format_version=FORMAT_VERSION, id=id) as draft:
            draft.parents.update(twin=ours.name, champion=theirs.name)
            (draft.path / REPORT).write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    work.set_latest(STAGE, id)
    return path


def judged(
    prepared: Prepared, fold: Fold, ours: Path, theirs: Path, config: PipelineConfig, say: Say
) -> dict[str, Any]:
    """Two releases on the test queries of `fold`: figures with paired intervals, in all and by segment, and what each does to the catalogue."""
    asked = _sampled(judgements_of(prepared, fold, prepared.seen(config.evaluation.seen)), config)
    if not asked.main.any():
        return {"queries": 0}
    say(f"champion and candidate on {int(asked.main.sum())} test queries")
    answers = [pages(release, prepared, asked) for release in (ours, theirs)]
    mine, champions = (find(a, asked.relevance) for a in answers)
    main = asked.main[asked.relevance.queries]
    catalogue = Catalogue.of(prepared, fold)
    return {
        "queries": int(asked.main.sum()),
        "metrics": _metrics(measure(mine.only(main)[0]), measure(champions.only(main)[0]), config),
        "segments": {
            name: _segment(mine, champions, pairs) for name, pairs in segments(asked, catalogue, prepared, config.gates)
        },
        "exposure": [_exposure(a[asked.main], catalogue) for a in answers],
    }


def segments(
    asked: Judgements, catalogue: Catalogue, prepared: Prepared, gates: GatesConfig
) -> Iterator[tuple[str, Array]]:
    """Each segment's name, and the relevant pairs that are of it: bool `[p]`."""
    of = asked.relevance.queries
    main = asked.main[of]
    lengths = history_length(asked)
    yield "new people", ~main
    for name, labels in (("short histories", _SHORT), ("heavy users", _LONG)):
        yield name, main & np.isin(np.array(lengths.labels)[lengths.codes], labels)[of]
    yield "new items", main & asked.new_items
    for name in gates.segments:
        column = prepared.users.get(_ATTRIBUTE + name)
        if isinstance(column, Coded):
            codes = np.asarray(column.codes)[asked.users][of]
            yield from (
                (f"{name} {column.values[c]}", main & (codes == c)) for c in np.unique(codes[codes >= 0]).tolist()
            )
    category = prepared.items[Column.CATEGORY]
    if isinstance(category, Coded):
        tops = [(category.values[i] or "").split(CATEGORY_SEPARATOR)[0] for i in range(len(category.values))]
        names = sorted(set(tops))
        top = np.array([names.index(t) for t in tops], np.int64)
        codes = np.asarray(category.codes)[asked.relevance.items]
        departments = np.where(codes >= 0, top[np.maximum(codes, 0)], -1) if len(top) else np.full(len(codes), -1)
        yield from (
            (f"category {names[c]}", main & (departments == c))
            for c in np.unique(departments[departments >= 0]).tolist()
        )


def verdicts(report: Mapping[str, Any], config: PipelineConfig) -> list[Verdict]:
    """What the gates say of a comparison."""
    gates = config.gates
    if not report["queries"]:
        return [Verdict("ndcg", True, "no test queries: not judged")]
    found = [
        _fall("ndcg", "NDCG@10", report["metrics"]["ndcg@10"], gates.ndcg_fall),
        _fall("retrieval-recall", "recall@500", report["metrics"]["recall@500"], gates.recall_fall),
        _segments(report["segments"], config),
        *_catalogue(report["exposure"][0], report["exposure"][1], gates),
    ]
    return [v for v in found if v is not None]


def _fall(gate: str, name: str, figure: Mapping[str, float], fall: float | None) -> Verdict | None:
    if fall is None:
        return None
    least = 0.0 - fall * figure["champion"]
    reason = (
        f"{name} {figure['candidate']:.4f}, the champion's {figure['champion']:.4f}: {figure['mean']:+.4f}, "
        f"interval {figure['low']:+.4f} to {figure['high']:+.4f}, refused below {least:+.4f}"
    )
    return Verdict(gate, figure["high"] >= least, reason, figure["high"], round(least, 6))


def _segments(found: Mapping[str, Mapping[str, float]], config: PipelineConfig) -> Verdict | None:
    fall = config.gates.segment_fall
    if fall is None:
        return None
    big = {name: s for name, s in found.items() if s["queries"] >= config.gates.segment_queries}
    z = NormalDist().inv_cdf(1 - (1 - config.evaluation.confidence) / (2 * max(1, len(big))))
    shares = {
        name: (s["mean"] + z * s["standard_error"]) / s["champion"] for name, s in big.items() if s["champion"] > 0
    }
    bad = [name for name, share in shares.items() if share < -fall]
    said = [f"{name}: NDCG@10 {big[name]['candidate']:.4f}, the champion's {big[name]['champion']:.4f}" for name in bad]
    worst = min(shares.values(), default=None)
    reason = "; ".join(said) or f"{len(big)} of {len(found)} segments are big enough, and none is below the champion's"
    return Verdict("segments", not bad, f"{reason}, refused below {-fall:.0%} beyond chance", worst, -fall)


def _catalogue(ours: Mapping[str, float], theirs: Mapping[str, float], gates: GatesConfig) -> Iterator[Verdict]:
    if gates.coverage_fall is not None:
        least = (1 - gates.coverage_fall) * theirs["coverage"]
        reason = f"{ours['coverage']:.1%} of the catalogue shown, by the champion {theirs['coverage']:.1%}, refused below {least:.1%}"
        yield Verdict("coverage", ours["coverage"] >= least, reason, ours["coverage"], round(least, 6))
    if gates.gini_rise is not None:
        most = theirs["gini"] + gates.gini_rise
        reason = f"Gini of what is shown {ours['gini']:.3f}, of the champion's {theirs['gini']:.3f}, refused above {most:.3f}"
        yield Verdict("concentration", ours["gini"] <= most, reason, ours["gini"], round(most, 6))


def _sampled(asked: Judgements, config: PipelineConfig) -> Judgements:
    most = config.gates.requests
    if len(asked) <= most:
        return asked
    return asked.only(np.sort(np.random.default_rng(config.evaluation.seed).choice(len(asked), most, replace=False)))


def _metrics(ours: Array, theirs: Array, config: PipelineConfig) -> dict[str, dict[str, float]]:
    c, result = config.evaluation, {}
    for at, name in enumerate(METRICS):
        sure = difference(ours[:, at], theirs[:, at], samples=c.bootstrap_samples, confidence=c.confidence, seed=c.seed)
        means = {"candidate": float(ours[:, at].mean()), "champion": float(theirs[:, at].mean())}
        result[name] = {n: round(float(v), 6) for n, v in (means | sure._asdict()).items()}
    return result


def _segment(ours: Found, theirs: Found, pairs: Array) -> dict[str, float]:
    """NDCG@10 of both where only the pairs of the segment are wanted, and the standard error of the mean difference."""
    if not pairs.any():
        return {"queries": 0}
    at = list(METRICS).index("ndcg@10")
    a, b = (measure(f.only(pairs)[0])[:, at] for f in (ours, theirs))
    error = float(np.std(a - b, ddof=1) / len(a) ** 0.5) if len(a) > 1 else 0.0
    figures = {"candidate": a.mean(), "champion": b.mean(), "mean": (a - b).mean(), "standard_error": error}
    return {"queries": len(a)} | {n: round(float(v), 6) for n, v in figures.items()}


def _exposure(answers: Array, catalogue: Catalogue) -> dict[str, float]:
    shows = exposure.counts(exposure.shown(answers, PAGE), len(catalogue))[catalogue.alive]
    return {"coverage": round(exposure.coverage(shows), 6), "gini": round(exposure.gini(shows), 6)}
