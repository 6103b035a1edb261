"""`evaluate --report`: a sample of the test queries, answered in many ways, so that a page can say what each part brings.

Every answer is the request path's own. What is tried: other quotas, each source's own candidates taken away, each group of features shuffled, and what
served before: the champion, where it knows nothing of the test window, else the same candidates in the order of the unlearned blend.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.columns import Array
from core.config import PipelineConfig
from core.errors import InputError
from core.prepared import Fold, Prepared, Seen
from core.threads import answering
from core.work import Work
from evaluation import study as figures
from evaluation.catalogue import Catalogue
from evaluation.funnel import PLACES, Sightings, joined, look, places
from evaluation.item_groups import by_category, by_country, groupings
from evaluation.judgements import Judgements, judge
from evaluation.metrics import find, padded
from evaluation.segments import Segmentation, segmentations
from evaluation.study import PAGE, Setting, Study
from pipeline.evaluate import DEPTH
from pipeline.study_examples import examples, misses
from ranking.groups import GROUP_OF, Group
from ranking.importance import gain_by_group
from ranking.scorer import MODEL
from ranking.user_facts import UserFacts
from retrieval.sources import TOWERS
from serving.answers import Answer, Removal, Request
from serving.release import Release
from serving.request_path import answer

FACTORS: Final = (0.1, 0.25, 0.5, 1.0, 2.0)
"""The quotas are multiplied by these."""
_SERVED: Final = FACTORS.index(1.0)
_CHUNK: Final = 64

Say = Callable[[str], None]


@dataclass(frozen=True)
class Before:
    """What the pages are compared with."""

    release: Path | None  # None: the unlearned blend of the same candidates
    what: str  # "champion" or "blend"
    why: str


@dataclass(frozen=True)
class Tried:
    """What came of one query, in the order of the study's arrays. Pages are item rows int32, best first."""

    before: Array
    without_source: list[Array]  # S
    shuffled: list[Array]  # G, none without a ranker
    pages: list[Array]  # one a factor
    candidates: list[int]
    retrieved: list[Array]  # bool [w] each
    seconds: list[float]
    deep: Array  # the first DEPTH
    sightings: Sightings  # of the wanted items, of the deep answer
    proposed: Array  # bool [w, S], of the page's answer
    exact: Array  # bool [w]: what an exact search of the towers' vectors would have proposed
    level: str


def before_of(work: Work, prepared: Prepared, fold: Fold, given: Path | None) -> Before:
    """What to compare with: the release `given`, else the champion, if it knows nothing of the window that is judged; else the blend.

    Raises:
        InputError: if the release that was given knows of events of that window.
    """
    if fold.protocol == "last":
        if given is not None:
            raise InputError(
                "--champion: protocol last cuts each person's own events, which no release does; use --protocol global"
            )
        return Before(None, "blend", "protocol last cuts each person's own events, which no release does")
    path = given or (work.current if work.current.exists() else None)
    if path is None:
        return Before(None, "blend", "there is no champion")
    release, moment = Release.open(path), prepared.until(fold)
    ends, begins = (np.datetime64(t // 1_000_000, "s") for t in (release.window_end, moment))
    if release.window_end <= moment:
        return Before(release.path, "champion", f"release {release.name}, which ends at {ends} UTC, before the window")
    reason = f"{release.name} knows of events up to {ends} UTC, and the window begins at {begins} UTC"
    if given is not None:
        raise InputError(f"--champion: {reason}; name a release of a night before")
    return Before(None, "blend", f"the champion cannot be judged here: {reason}")


def study(
    release: Path,
    prepared: Prepared,
    fold: Fold,
    seen: Seen,
    config: PipelineConfig,
    before: Before,
    most: int,
    say: Say,
) -> dict[str, Any]:
    """The whole study of one protocol, as JSON: at most `most` main queries, a seeded sample. Empty without any."""
    judgements = judge(prepared, fold, seen)
    main = np.flatnonzero(judgements.main)
    if not len(main):
        return {}
    rng = np.random.default_rng(config.evaluation.seed)
    sample = np.sort(rng.choice(main, most, replace=False)) if len(main) > most else main
    judgements = judgements.only(sample)
    say(f"{fold.name}: the report's study answers {len(sample)} of {len(main)} queries in many ways")
    start = (release, before.release, prepared.path, judgements)
    chunks = np.array_split(np.arange(len(sample)), max(1, len(sample) // _CHUNK))
    with answering(_open, start) as pool:
        tried = [t for chunk in pool.map(_try, chunks) for t in chunk]
    opened = Release.open(release)
    done = _study(judgements, tried, opened, config)
    catalogue, category = Catalogue.of(prepared, fold), by_category(prepared)
    gains = {} if opened.scorer is None else gain_by_group(release / "ranker" / MODEL)
    deep = find(padded([t.deep for t in tried], DEPTH), judgements.relevance)
    ended = places(joined([t.sightings for t in tried]), deep.positions)
    return {
        **figures.headline(done),
        "sampled_from": len(main),
        "before": {"what": before.what, "why": before.why},
        "sources": figures.sources(done),
        "index": _index(done, np.concatenate([t.exact for t in tried])),
        "feature_groups": figures.feature_groups(done, gains),
        "costs": figures.costs(done),
        "segments": figures.segments(done, _kinds(judgements, catalogue, prepared, [t.level for t in tried])),
        "exposure": figures.exposures(done, groupings(prepared, catalogue, prepared.until(fold)), catalogue),
        "variety": figures.variety(done, catalogue, category),
        "examples": examples(done, opened, prepared, ended),
        "misses": misses(done, prepared, catalogue, ended),
        "places": [str(p) for p in PLACES],
    }


def _index(done: Study, exact: Array) -> dict[str, int]:
    """What the index loses of an exact search: of the wanted pairs those that exact search proposes, and those of them that the index did not."""
    proposed = done.proposed.get(TOWERS, np.zeros(len(exact), bool))
    return {"exact": int(exact.sum()), "lost": int((exact & ~proposed).sum()), "pairs": len(exact)}


def _kinds(judgements: Judgements, catalogue: Catalogue, prepared: Prepared, levels: list[str]) -> list[Segmentation]:
    kinds = segmentations(judgements, catalogue)
    if (category := by_category(prepared)) is not None:
        codes = category.codes[judgements.relevance.items]
        kinds.append(Segmentation("category", category.labels, codes, of_pairs=True))
    if (country := by_country(prepared)) is not None:
        kinds.append(Segmentation("country", country.labels, country.codes[judgements.users], of_pairs=False))
    labels, codes = np.unique(np.array(levels), return_inverse=True)
    return [*kinds, Segmentation("level", tuple(labels.tolist()), codes, of_pairs=False)]


def _study(judgements: Judgements, tried: list[Tried], release: Release, config: PipelineConfig) -> Study:
    names = [s.name for s in release.sources]
    groups = [str(g) for g in Group if g in GROUP_OF] if release.scorer is not None else []
    proposed = np.concatenate([t.proposed for t in tried])
    settings = [
        Setting(
            factor,
            padded([t.pages[f] for t in tried], PAGE),
            np.array([t.candidates[f] for t in tried]),
            np.concatenate([t.retrieved[f] for t in tried]),
            np.array([t.seconds[f] for t in tried]),
        )
        for f, factor in enumerate(FACTORS)
    ]
    return Study(
        judgements=judgements,
        pages=settings[_SERVED].pages,
        before=padded([t.before for t in tried], PAGE),
        without_source={name: padded([t.without_source[s] for t in tried], PAGE) for s, name in enumerate(names)},
        proposed={name: proposed[:, s] for s, name in enumerate(names)},
        shuffled={group: padded([t.shuffled[g] for t in tried], PAGE) for g, group in enumerate(groups)},
        settings=settings,
        config=config.evaluation,
    )


_worker: tuple[Release, Release, Prepared, dict[int, UserFacts], Judgements]


def _open(release: Path, before: Path | None, prepared: Path, judgements: Judgements) -> None:
    global _worker
    opened, shop = Release.open(release), Prepared(prepared)
    then = replace(opened, scorer=None) if before is None else Release.open(before)
    facts = {r.window_end: UserFacts.of(shop, r.window_end) for r in (opened, then)}
    _worker = opened, then, shop, facts, judgements


def _try(queries: Array) -> list[Tried]:
    return [_try_one(int(q)) for q in queries]


def _try_one(q: int) -> Tried:
    release, before, prepared, facts, judgements = _worker
    relevance = judgements.relevance
    wanted = relevance.items[relevance.starts[q] : relevance.starts[q + 1]]
    excluded = judgements.excluded(q, prepared.events)

    def asked(of: Release, k: int) -> Request:
        query = judgements.query(q, prepared, of.settings.history_events)
        return Request(replace(query, facts=facts[of.window_end].at(query.user, query.time)), k, excluded=excluded)

    deep = answer(release, asked(release, DEPTH))  # first, so that what it leaves in caches serves every setting alike
    request = asked(release, PAGE)
    answers, seconds = _at_settings(release, request, q)
    served = answers[_SERVED]
    return Tried(
        before=answer(before, asked(before, PAGE)).rows,
        without_source=_without_sources(release, served),
        shuffled=_shuffled(release, served, q),
        pages=[a.rows for a in answers],
        candidates=[len(a.candidates) for a in answers],
        retrieved=[np.isin(wanted, a.candidates.rows) for a in answers],
        seconds=seconds,
        deep=deep.rows,
        sightings=look(wanted, deep.candidates, deep.removed[Removal.UNAVAILABLE]),
        proposed=look(wanted, served.candidates, np.empty(0, np.int32)).retrieved,
        exact=_exact(release, request, wanted),
        level=str(served.level),
    )


def _exact(release: Release, request: Request, wanted: Array) -> Array:
    """Which of the wanted items, int32 `[w]`, are among the best of all by the towers' own scores, as many as these may propose: bool `[w]`."""
    towers = next((s for s in release.sources if s.name == TOWERS), None)
    quota = release.settings.quotas.get(TOWERS, 0)
    if towers is None or not quota:
        return np.zeros(len(wanted), bool)
    scores = towers.scoring(request.query).of(np.arange(release.items.rows, dtype=np.int32)).astype(np.float32)
    scores[scores == 0] = -np.inf  # the towers know nothing of it
    scores[request.never] = -np.inf
    better = np.array([np.count_nonzero(scores > scores[row]) for row in wanted])
    return np.asarray((better < quota) & np.isfinite(scores[wanted]))


def _at_settings(release: Release, request: Request, first: int) -> tuple[list[Answer], list[float]]:
    """The answer at each of FACTORS and its CPU seconds; which comes first goes round with `first`, so that none is always the warmest."""
    found: dict[int, tuple[Answer, float]] = {}
    for i in range(len(FACTORS)):
        f = (first + i) % len(FACTORS)
        quotas = {name: max(1, round(quota * FACTORS[f])) for name, quota in release.settings.quotas.items()}
        scaled = replace(release, settings=release.settings.model_copy(update={"quotas": quotas}))
        begin = time.process_time()
        found[f] = answer(scaled, request), time.process_time() - begin
    return [found[f][0] for f in range(len(FACTORS))], [found[f][1] for f in range(len(FACTORS))]


def _without_sources(release: Release, served: Answer) -> list[Array]:
    """The page without what one source alone proposed, for each source: the others' candidates keep their scores."""
    proposed = served.candidates.ranks >= 0
    able = release.available[served.candidates.rows]
    pages = []
    for s in range(proposed.shape[1]):
        left = np.flatnonzero(np.delete(proposed, s, 1).any(1) & able)
        pages.append(_page(served, served.every, left))
    return pages


def _shuffled(release: Release, served: Answer, q: int) -> list[Array]:
    """The page where the values of one group of features are dealt anew among the candidates, for each group; none without a ranker."""
    if release.scorer is None or served.features is None:
        return [served.rows] * sum(g in GROUP_OF for g in Group) if release.scorer is not None else []
    rng, able = np.random.default_rng(q), np.flatnonzero(release.available[served.candidates.rows])
    pages = []
    for group in Group:
        if group in GROUP_OF:
            columns = [f for f, of in enumerate(GROUP_OF) if of == group]
            features = served.features.copy()
            features[:, columns] = features[rng.permutation(len(features))][:, columns]
            pages.append(_page(served, release.scorer.score(features), able))
    return pages


def _page(served: Answer, scores: Array, positions: Array) -> Array:
    """The best ten of these candidates; ties by row."""
    return served.candidates.rows[positions[np.argsort(-scores[positions], kind="stable")][:PAGE]]
