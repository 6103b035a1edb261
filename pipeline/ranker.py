"""Stage `train-ranker`: trains the ranker on what the real sources would have proposed, and leaves item statistics beside it.

stages/train-ranker/<id>/
  manifest.json             kind "ranker"; about: requests, validation figures, whether logged pages taught too and why (pipeline/page_choice.py)
  statistics/<fold>/        ranking.item_table, for each fold that a release is made of
  ranker/<fold>/            model.txt, ranker.json, calibration.json (ranking.scorer); absent where the blend orders better or too little can be learned from

The ranker learns from `[T1, Tv)` and, once `[Tv, T2)` has said how many trees to grow, from that too: nothing after T2, which judges it. The twin is
judged with it and the release published with it, unchanged (design 5): only sources, towers and statistics are refitted up to the end.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from core import artifact
from core.config import PipelineConfig
from core.prepared import CHOOSE, FULL, LAST_TRAIN, LAST_TWIN, TRAIN, TWIN, Fold, Prepared
from core.recipe import MADE_FROM, Recipe, fingerprint
from core.release import RANKER, STATISTICS
from core.schema import MINUTE, Column
from core.work import Work
from pipeline import shown_pages
from pipeline.calibrate import calibrate
from pipeline.candidates import Fitted, Past, answered, build
from pipeline.page_choice import OFF, Remembered, choose, placed, remembered
from pipeline.pages import Pages, impressions, until
from pipeline.pages import rows as page_rows
from pipeline.requests import Requests, requests_after
from pipeline.twin import blend_weights
from pipeline.worths import item_worths
from ranking import item_statistics
from ranking.objective import rewarded, worth_at_10
from ranking.scorer import MODEL
from ranking.train import Probed, TrainingSet, blend_ndcg, grow
from ranking.train import ndcg as gain_ndcg
from retrieval.sources import open_sources

KIND: Final = "ranker"
LAST_KIND: Final = "ranker-last"
FORMAT_VERSION: Final = 1
STAGE: Final = "train-ranker"
LAST_STAGE: Final = "train-ranker-last"
_SAME_PAGE: Final = (
    5 * MINUTE
)  # impressions that reach the shop's log so long after the service answered are of that answer
_LEAST: Final = 50  # requests with a relevant candidate; fewer cannot tell a habit from chance

Say = Callable[[str], None]


def run(work: Work, config: PipelineConfig, say: Say, data: Path | None = None, *, probe: bool = True) -> Path:
    """Train on the timeline's windows; skipped when prepared data, sources, configuration and code did not change. The artifact.

    Args:
        work: With prepared data and fitted sources.
        config: `ranker` and what its features depend on.
        say: Prints a line of progress.
        data: The shop's tables, for the service's log of pages beside them; None: it is not read.
        probe: Whether there is time to find out if logged pages teach; without it and without a memory of it, they do not.
    """
    return _run(work, config, say, (STAGE, KIND, "train-retrieval"), (TRAIN, CHOOSE), (TWIN, FULL), data, probe)


def run_last(work: Work, config: PipelineConfig, say: Say) -> Path:
    """The same for protocol `last`, which only an evaluation asks for: trained on each person's second-last event, and on no logged pages."""
    return _run(work, config, say, (LAST_STAGE, LAST_KIND, "train-retrieval-last"), (LAST_TRAIN,), (LAST_TWIN,), None)


def _run(
    work: Work,
    config: PipelineConfig,
    say: Say,
    names: tuple[str, str, str],
    windows: tuple[Fold, ...],
    releases: tuple[Fold, ...],
    data: Path | None,
    probe: bool = True,
) -> Path:
    stage, kind, retrieval = names
    prepared, sources = Prepared(work.latest("prepare")), work.latest(retrieval)
    parts = _recipe(prepared, sources, config, data)
    wanted = fingerprint(parts)
    last = work.latest(stage) if work.has(stage) else None
    if last is not None and artifact.read_manifest(last).about.get("recipe") == wanted:
        return last
    known = remembered(last, prepared.cuts.end, config.ranker, probe=probe)
    config = config.model_copy(update={"ranker": known.settings})
    id = artifact.hash_json([wanted, known.way])[:32]
    path = work.stage(stage, id)
    if not path.exists():
        with artifact.publish(path, kind=kind, format_version=FORMAT_VERSION, id=id) as draft:
            draft.parents.update(prepared=prepared.manifest.id, sources=sources.name)
            cuts = Cutting(prepared, sources, draft.path / STATISTICS, config, say, data)
            for fold in releases:
                cuts.statistics(fold)
            draft.about.update(_train(cuts, windows, [draft.path / RANKER / fold.name for fold in releases], known))
            draft.about.update(recipe=wanted, **{MADE_FROM: parts})
    work.set_latest(stage, id)
    return path


def recipe(work: Work, config: PipelineConfig, data: Path | None = None) -> Recipe:
    """What `run` would make the artifact from."""
    return _recipe(Prepared(work.latest("prepare")), work.latest("train-retrieval"), config, data)


def _recipe(prepared: Prepared, sources: Path, config: PipelineConfig, data: Path | None) -> Recipe:
    return {
        "prepared data": prepared.manifest.id,
        "sources": sources.name,
        "settings of the ranker": config.ranker.fingerprint(),
        "settings of the sources": config.sources.fingerprint(),
        "settings of the data": config.data.fingerprint(),
        "code": artifact.code_version("core", "ranking", "retrieval", "pipeline"),
        "log of pages": artifact.hash_json([] if data is None else shown_pages.files(data)),
    }


class Cutting:
    """The sources of every cut, as `train-retrieval` left them, and the item statistics, made when they are asked for."""

    def __init__(
        self,
        prepared: Prepared,
        sources: Path,
        statistics: Path,
        config: PipelineConfig,
        say: Say,
        data: Path | None = None,
    ) -> None:
        self.prepared, self.config, self.say = prepared, config, say
        self._sources, self._statistics, self._data = sources, statistics, data

    @property
    def weights(self) -> dict[str, float]:
        """Of the unlearned blend."""
        return blend_weights(self._sources)

    def statistics(self, fold: Fold) -> Path:
        """Item statistics as of `fold`."""
        folder = self._statistics / fold.name
        if not folder.exists():
            item_statistics.write(self.prepared, fold, self.config.sources.recent_days, folder)
        return folder

    def sources(self, fold: Fold) -> Path:
        """Sources as of `fold`."""
        return self._sources / fold.name

    def fitted(self, fold: Fold) -> Fitted:
        """All that answers requests after `fold`."""
        return Fitted(self.prepared.path, fold, self.sources(fold), self.statistics(fold))

    def training_set(self, fold: Fold, requests: Requests, negatives: int | None, most: int) -> TrainingSet:
        """What the sources of `fold` answer to requests after it, until `most` of them have a relevant candidate."""
        rows = build(self.fitted(fold), requests, self.config, negatives, most)
        self.say(
            f"{fold.name}: of {len(requests)} requests {len(rows)} with a relevant candidate in {len(rows.grades):,} rows, "
            f"{rows.dropped} without any that retrieval found"
        )
        return rows

    def pages_shown(self, fold: Fold) -> Pages:
        """Pages that people were shown after `fold` and that something came of: those of the service's log, and impressions of others."""
        gains, hours = self.config.data.gains, self.config.ranker.attribution_hours
        seen = impressions(self.prepared, fold, gains, hours, self.config.ranker.seed)
        if self._data is None:
            return seen
        window = self.prepared.until(fold), until(self.prepared, fold)
        return shown_pages.read(self._data, self.prepared, gains, *window, hours).and_those(seen, _SAME_PAGE)

    def pages(self, fold: Fold) -> TrainingSet:
        """Rows of such pages, `ranker.requests` of them at most (a seeded sample)."""
        seen = self.pages_shown(fold)
        rows = answered(self.fitted(fold), seen, self.config, page_rows, self.config.ranker.requests)
        self.say(
            f"{fold.name}: of {len(seen)} logged pages that something came of {len(rows)} in {len(rows.grades):,} rows"
        )
        return rows


def _train(cuts: Cutting, windows: tuple[Fold, ...], out: list[Path], known: Remembered) -> dict[str, object]:
    """Train the ranker into each of `out` on the requests that follow `windows`; what the manifest says about it.

    The first window teaches, the second validates; of a single one, a fifth of the people do.
    """
    config = cuts.config.ranker
    item_worths(cuts.prepared, windows[0], config.objective)  # refused here, and not in a worker
    learn, validate, judging = _sets(cuts, windows)
    if min(len(learn), len(validate)) < _LEAST:
        reason = f"{len(learn)} and {len(validate)} requests to learn from and to validate on, wanted {_LEAST} each"
        cuts.say(f"no ranker: {reason}; the blend ranks")
        return {"ranker": False, "reason": reason}
    aim = rewarded(validate, config.objective)
    wanted = config.logged_pages != OFF and len(windows) > 1
    pages = rewarded(cuts.pages(windows[0]), config.objective) if wanted else None
    choice = choose(rewarded(learn, config.objective), pages, aim, cuts.config)
    cuts.say(f"logged pages: {choice.about}")
    found = choice.found
    about = _reported(cuts, validate, found) | {"logged_pages": known.over(choice.about, cuts.prepared.cuts.end)}
    if found.ndcg <= blend_ndcg(aim, cuts.weights):
        return about | {"ranker": False, "reason": "the blend orders the validation window better"}
    names = [s.name for s in open_sources(cuts.sources(windows[0]))]
    built = [learn, validate.thinned(config.negatives, config.seed)]
    rows = [rewarded(r, config.objective) for r in built]
    if pages is not None and choice.way != OFF:
        later = rewarded(cuts.pages(windows[1]), config.objective)
        rows += [placed(r, choice.way) for r in (pages, later)]
    ranker = grow(rows, found.rounds, config)
    past = Past.open(cuts.fitted(windows[-1]), cuts.config)
    calibration = calibrate(past, windows[-1], judging, found.score, cuts.config)
    for folder in out:
        ranker.write(folder, names, about)
        if calibration is not None:
            calibration.write(folder, folder / MODEL)
    about["calibration"] = None if calibration is None else dict(calibration.about)
    return about | {"ranker": True, "requests": sum(len(r) for r in built)}


def _sets(cuts: Cutting, windows: tuple[Fold, ...]) -> tuple[TrainingSet, TrainingSet, Requests]:
    """What to learn from, what to validate on, and the requests that the latter was made of."""
    config = cuts.config.ranker
    first = requests_after(cuts.prepared, windows[0], config)
    if len(windows) == 1:
        learning, judging = _by_person(first, config.seed)
        learn = cuts.training_set(windows[0], learning, config.negatives, config.requests)
    else:
        learn = cuts.training_set(windows[0], first, config.negatives, config.requests)
        judging = requests_after(cuts.prepared, windows[1], config)
    return learn, cuts.training_set(windows[-1], judging, None, config.requests // 4), judging


def _reported(cuts: Cutting, validate: TrainingSet, found: Probed) -> dict[str, object]:
    """How the ranker orders the validation window, in gains whatever the objective, and in worth where it is known."""
    scores, objective = found.scores, cuts.config.ranker.objective
    ndcg, blend = gain_ndcg(validate, scores), blend_ndcg(validate, cuts.weights)
    cuts.say(f"ranker: {found.rounds} trees, validation NDCG@10 {ndcg:.4f}; the blend {blend:.4f}")
    about: dict[str, object] = {"trees": found.rounds, "validation_ndcg@10": round(ndcg, 4)}
    about["blend_ndcg@10"] = round(blend, 4)
    if (worth := worth_at_10(validate, scores)) is not None:
        about["revenue@10" if objective.worth == Column.PRICE else "worth@10"] = round(worth, 4)
    return about


def _by_person(requests: Requests, seed: int) -> tuple[Requests, Requests]:
    """Four fifths and one fifth of the requests, nobody in both."""
    people = np.unique(requests.user)
    chosen = np.random.default_rng(seed).random(len(people)) < 0.2
    judging = chosen[np.searchsorted(people, requests.user)]
    return requests.only(np.flatnonzero(~judging)), requests.only(np.flatnonzero(judging))
