"""`evaluate`: the twin, and its baselines, on the test window; through the same request path that serves.

Everything is measured in one run on the same queries, so that systems can be compared in pairs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from core import artifact
from core.columns import Array
from core.config import PipelineConfig
from core.errors import ArtifactError, InputError
from core.prepared import LAST_TWIN, TRAIN, TWIN, Fold, Prepared, Seen
from core.recipe import MADE_FROM, Recipe, fingerprint
from core.release import ReleaseSettings
from core.threads import answering
from core.work import Work
from evaluation.catalogue import Catalogue
from evaluation.funnel import Sightings, joined, look
from evaluation.judgements import Judgements, judge
from evaluation.metrics import padded
from evaluation.report import summary
from pipeline.calibrate import judged as calibration_judged
from pipeline.publish import Parts
from pipeline.twin import release_settings, twin, twin_id
from ranking.user_facts import UserFacts
from serving.answers import Removal, Request
from serving.release import Release
from serving.request_path import answer

KIND: Final = "evaluation"
FORMAT_VERSION: Final = 1
REPORT: Final = "report.json"
DEPTH: Final = 500  # items of an answer that are judged
BASELINES: Final = ("popularity", "recent_popularity", "own_frequency", "item_knn", "transitions")
"""Sources that answer alone; every release has them (design 6)."""
_LEARNED: Final = ("linear", "towers")  # and these do where there are any
BLEND: Final = (
    "blend"  # the release's candidates in the order of the unlearned blend: what the ranker adds is beyond it
)
_CHUNK: Final = 256

Say = Callable[[str], None]


@dataclass(frozen=True)
class Judged:
    """What one system answered to the queries of a chunk."""

    answers: Array  # int32 [q, DEPTH], padded with NO_ROW
    levels: list[str]  # [q]
    sightings: Sightings | None  # of the wanted items, where the funnel was asked for


def evaluate_twin(
    work: Work, prepared: Prepared, parts: Parts, settings: ReleaseSettings, config: PipelineConfig, say: Say
) -> Path:
    """The nightly stage: protocol `global` on the twin. Skipped when this twin was judged before with these settings."""
    release = twin(work, prepared, parts, settings)
    seen = prepared.seen(config.evaluation.seen)
    parts_of_it = recipe(prepared, parts, settings, config)
    id = fingerprint(parts_of_it)[:32]
    path = work.stage("evaluate", id)
    if not path.exists():
        protocols = {"global": measure(release, prepared, TWIN, seen, config, say)}
        with artifact.publish(path, kind=KIND, format_version=FORMAT_VERSION, id=id) as draft:
            draft.parents["twin"] = release.name
            draft.about[MADE_FROM] = parts_of_it
            (draft.path / REPORT).write_text(json.dumps({"protocols": protocols}, indent=1, sort_keys=True) + "\n")
    work.set_latest("evaluate", id)
    return path


def recipe(prepared: Prepared, parts: Parts, settings: ReleaseSettings, config: PipelineConfig) -> Recipe:
    """What `evaluate_twin` would make the artifact from."""
    return {
        "twin": twin_id(prepared, parts, settings),
        "settings of the evaluation": config.evaluation.fingerprint(),
        "code": artifact.code_version("evaluation", "pipeline", "serving", "core", "ranking"),
    }


def evaluate_last(work: Work, prepared: Prepared, seen: Seen, config: PipelineConfig, say: Say) -> dict[str, Any]:
    """Protocol `last` on the twin that `last_twin` makes."""
    return measure(last_twin(work, prepared, config, say), prepared, LAST_TWIN, seen, config, say)


def last_twin(work: Work, prepared: Prepared, config: PipelineConfig, say: Say) -> Path:
    """Sources fitted on all but each user's last event, blend weights and ranker learned from the second-last."""
    from pipeline.index import run_last as build_index
    from pipeline.ranker import run_last as train_ranker
    from retrieval.fit import run_last as train_retrieval

    sources = train_retrieval(work, config, say)
    parts = Parts(sources, build_index(work, config, say), train_ranker(work, config, say))
    return twin(work, prepared, parts, release_settings(sources, config), LAST_TWIN)


def evaluate_release(path: Path, prepared: Prepared, seen: Seen, config: PipelineConfig, say: Say) -> dict[str, Any]:
    """A published release on the events after its window, and on nothing else."""
    release = Release.open(path)
    since = prepared.split_at(release.window_end)
    n = min(len(release.item_ids), len(prepared.item_ids))
    if n < len(release.item_ids) or any(
        release.item_ids[r] != prepared.item_ids[r] for r in range(0, n, max(1, n // 97))
    ):
        raise ArtifactError(
            f"{path}: its item rows are not those of {prepared.path}: a release of another work directory"
        )
    if prepared.cuts.end <= release.window_end or not len(judge(since, TRAIN, seen)):
        raise InputError(
            f"{path}: no event of a known user after its window, which ends at {np.datetime64(release.window_end, 'us')} UTC; "
            f"prepare newer events first (the data end at {np.datetime64(prepared.cuts.end, 'us')}), or leave out --release"
        )
    return measure(path, since, TRAIN, seen, config, say)


def measure(
    release: Path, prepared: Prepared, fold: Fold, seen: Seen, config: PipelineConfig, say: Say
) -> dict[str, Any]:
    """Answer every test query of `fold` with the release and with each baseline, and judge them all."""
    judgements = judge(prepared, fold, seen)
    sample = _sampled(len(judgements), config)
    say(f"{fold.name}: {len(sample)} of {len(judgements)} test queries, seen items {seen}")
    opened = Release.open(release)
    systems = [
        None,
        *(s.name for s in opened.sources if s.name in (*BASELINES, *_LEARNED)),
        *([BLEND] if opened.scorer else []),
    ]
    answers: dict[str | None, list[Judged]] = {s: [] for s in systems}
    tasks = [(system, chunk) for system in systems for chunk in np.array_split(sample, max(1, len(sample) // _CHUNK))]
    with answering(_open, (release, prepared.path, judgements)) as pool:
        for (system, _), judged in zip(tasks, pool.map(_judge, tasks), strict=True):
            answers[system].append(judged)
    ours = answers.pop(None)
    result = summary(
        judgements.only(sample),
        np.concatenate([j.answers for j in ours]),
        {str(name): np.concatenate([j.answers for j in parts]) for name, parts in answers.items()},
        Catalogue.of(prepared, fold),
        config.evaluation,
        sightings=joined([j.sightings for j in ours if j.sightings is not None]) if len(sample) else None,
        by_query={"level": np.array([level for j in ours for level in j.levels])},
    )
    calibration = calibration_judged(Release.open(release), prepared, fold, config)
    return {"sampled_from": len(judgements)} | result | ({} if calibration is None else {"calibration": calibration})


def pages(release: Path, prepared: Prepared, judgements: Judgements) -> Array:
    """What a release answers to every query: int32 `[q, DEPTH]`, padded with NO_ROW."""
    chunks = np.array_split(np.arange(len(judgements)), max(1, len(judgements) // _CHUNK))
    with answering(_open, (release, prepared.path, judgements)) as pool:
        return np.concatenate([judged.answers for judged in pool.map(_judge, [(None, chunk) for chunk in chunks])])


def _sampled(n: int, config: PipelineConfig) -> Array:
    limit = config.evaluation.max_queries
    if n <= limit:
        return np.arange(n)
    return np.sort(np.random.default_rng(config.evaluation.seed).choice(n, limit, replace=False))


_worker: tuple[Release, Prepared, UserFacts, Judgements]


def _open(release: Path, prepared: Path, judgements: Judgements) -> None:
    global _worker
    opened, shop = Release.open(release), Prepared(prepared)
    _worker = opened, shop, UserFacts.of(shop, opened.window_end), judgements


def _judge(task: tuple[str | None, Sequence[int]]) -> Judged:
    """The answers of the release (system None), of one of its sources alone, or of all without the ranker (BLEND)."""
    system, queries = task
    release, prepared, facts, judgements = _worker
    if system == BLEND:
        release = replace(release, scorer=None)
    sources = None if system in (None, BLEND) else tuple(s for s in release.sources if s.name == system)
    rows, levels, sightings = [], [], []
    for q in map(int, queries):
        asked = judgements.query(q, prepared, release.settings.history_events)
        asked = replace(asked, facts=facts.at(asked.user, asked.time))
        page = answer(release, Request(asked, DEPTH, excluded=judgements.excluded(q, prepared.events)), sources)
        rows.append(page.rows)
        levels.append(str(page.level))
        if system is None:
            wanted = judgements.relevance.items[judgements.relevance.starts[q] : judgements.relevance.starts[q + 1]]
            sightings.append(look(wanted, page.candidates, page.removed[Removal.UNAVAILABLE]))
    return Judged(padded(rows, DEPTH), levels, joined(sightings) if sightings else None)
