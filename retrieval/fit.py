"""Stage `train-retrieval`: fits every source at every cut that a later stage needs, and chooses the weights that blend them.

stages/train-retrieval/<id>/
  manifest.json                   kind "retrieval"; about: facts of each fold, the validation figure
  weights.json                    source -> weight of the unlearned blend
  quotas.json                     source -> how many candidates it may propose
  train/ choose/ twin/ full/      open_sources() each: before T1, before Tv, before T2, everything; `towers/` in them

Where the towers learn, those of the first cut begin from nothing and those of each later cut go on from the ones before, whose window ends earlier
(design 5). On most nights they stay as they are and only embed what is new (`retrieval.renewal`).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol, Self, cast

from core import artifact
from core.candidates import Source
from core.config import PipelineConfig
from core.prepared import CHOOSE, FULL, LAST_TRAIN, LAST_TWIN, TRAIN, TWIN, Fold, Prepared
from core.recipe import MADE_FROM, Recipe, fingerprint
from core.threads import one_thread
from core.work import Work
from retrieval import renewal
from retrieval.defaults import adapted, decide, fitted_sources, recorded
from retrieval.known import Known
from retrieval.quotas import Chosen, choose_quotas
from retrieval.requests import choosing_requests
from retrieval.sources import HEADER, SOURCES, TOWERS, open_sources
from retrieval.towers.files import carry
from retrieval.weights import Cases, choose_weights

KIND: Final = "retrieval"
LAST_KIND: Final = "retrieval-last"
FORMAT_VERSION: Final = 1
STAGE: Final = "train-retrieval"
LAST_STAGE: Final = "train-retrieval-last"
WEIGHTS: Final = "weights.json"
_QUERIES: Final = 2000  # past requests that the weights are chosen on

Say = Callable[[str], None]


class Fittable(Source, Protocol):
    """A source that is fitted from the prepared data alone."""

    @classmethod
    def fit(cls, known: Known) -> Self:
        """Learn from what is known at a cut."""

    def write(self, folder: Path) -> None:
        """Leave the fitted files in a new folder."""

    @property
    def facts(self) -> dict[str, float]:
        """Sizes, for the manifest."""


def fit_sources(prepared: Prepared, fold: Fold, config: PipelineConfig, out: Path, say: Say) -> None:
    """Fit every source as of `fold` into `out`, a folder each, and `sources.json`."""
    known = Known(prepared, fold, config.sources)
    out.mkdir(parents=True, exist_ok=True)
    facts: list[dict[str, Any]] = []
    for name in fitted_sources(config.sources):
        source = cast(type[Fittable], SOURCES[name]).fit(known)
        source.write(out / name)
        facts.append({"name": name, **source.facts})
    header = {"sources": facts, "prepared": prepared.manifest.id, "fold": fold.name}
    (out / HEADER).write_text(json.dumps(header, indent=1, sort_keys=True) + "\n")
    say(
        f"{fold.name}: {len(facts)} sources fitted on {len(known.interactions.user):,} events of {known.n_items:,} items"
    )


def run(work: Work, config: PipelineConfig, say: Say, *, frozen: bool = False) -> Path:
    """Fit the folds of the timeline; skipped when prepared data, configuration and code did not change. The artifact.

    Args:
        work: With prepared data.
        config: The settings.
        say: Prints a line of progress.
        frozen: Towers that could stay do, whatever the rule says.
    """
    return _run(work, config, say, STAGE, KIND, (TRAIN, CHOOSE, TWIN, FULL), CHOOSE, frozen)


def run_last(work: Work, config: PipelineConfig, say: Say) -> Path:
    """The same for protocol `last`, which only an evaluation asks for."""
    return _run(work, config, say, LAST_STAGE, LAST_KIND, (LAST_TRAIN, LAST_TWIN), LAST_TRAIN)


def _run(
    work: Work,
    config: PipelineConfig,
    say: Say,
    stage: str,
    kind: str,
    folds: tuple[Fold, ...],
    choose: Fold,
    frozen: bool = False,
) -> Path:
    prepared = Prepared(work.latest("prepare"))
    learned_by = renewal.settings_of(prepared, config)  # not what the data decide: that may change a little every night
    decisions = decide(prepared, config)
    config = adapted(config, decisions)
    last = work.latest(stage) if work.has(stage) else None
    parts = _recipe(prepared, config, learned_by)
    recipe = fingerprint(parts)
    if last is not None and artifact.read_manifest(last).about.get("recipe") == recipe:
        return last
    tonight = renewal.plan(prepared, folds, config, learned_by, last, frozen=frozen)
    for decision in decisions:
        say(str(decision))
    say(f"towers {'stay' if tonight.keep else 'learn'}: {tonight.reason}")
    id = artifact.hash_json([recipe, tonight.keep and tonight.keep.name])[:32]
    path = work.stage(stage, id)
    if not path.exists():
        with artifact.publish(path, kind=kind, format_version=FORMAT_VERSION, id=id) as draft:
            draft.parents["prepared"] = prepared.manifest.id
            for fold in folds:
                fit_sources(prepared, fold, config, draft.path / fold.name, say)
            if tonight.keep:
                for fold in folds:
                    carry(tonight.keep / fold.name / TOWERS, prepared, fold, draft.path / fold.name / TOWERS)
            else:
                _learn(prepared, folds, config, draft.path, work.root / "checkpoints" / stage, say)
                tonight = renewal.learned(tonight, prepared, folds, config, draft.path)
            quotas, weights, ndcg = fit_weights(prepared, choose, config, draft.path / choose.name, say)
            quotas.write(draft.path)
            draft.about.update(
                **recorded(decisions),
                **quotas.about,
                recipe=recipe,
                **{MADE_FROM: parts},
                settings=learned_by,
                towers=tonight.about,
                weights=weights,
                **{"validation_ndcg@10": None if ndcg != ndcg else round(ndcg, 4)},
            )
            (draft.path / WEIGHTS).write_text(json.dumps(weights, indent=1, sort_keys=True) + "\n")
    work.set_latest(stage, id)
    shutil.rmtree(work.root / "checkpoints" / stage, ignore_errors=True)
    return path


def recipe(work: Work, config: PipelineConfig) -> Recipe:
    """What `run` would make the artifact from."""
    prepared = Prepared(work.latest("prepare"))
    return _recipe(prepared, adapted(config, decide(prepared, config)), renewal.settings_of(prepared, config))


def _recipe(prepared: Prepared, config: PipelineConfig, learned_by: str) -> Recipe:
    return {
        "prepared data": prepared.manifest.id,
        "settings or code of the towers": learned_by,
        "settings of the sources": config.sources.fingerprint(),
        "retraining": config.retraining.fingerprint(),
        "evaluation.seed": str(config.evaluation.seed),
    }


def _learn(
    prepared: Prepared, folds: tuple[Fold, ...], config: PipelineConfig, out: Path, checkpoints: Path, say: Say
) -> None:
    # TensorFlow takes seconds to import: only a run that trains needs it
    from retrieval.towers.train import fit_towers

    earlier: Path | None = None
    for fold in folds:
        fit_towers(prepared, fold, config, out / fold.name / TOWERS, say, earlier, checkpoints / fold.name)
        earlier = out / fold.name / TOWERS


@one_thread()
def fit_weights(
    prepared: Prepared, fold: Fold, config: PipelineConfig, fitted: Path, say: Say
) -> tuple[Chosen, dict[str, float], float]:
    """Quotas, blend weights and their NDCG@10, chosen on what came right after `fold`, with sources `fitted` there."""
    sources = open_sources(fitted)
    requests = choosing_requests(
        prepared,
        fold,
        remove_seen=prepared.seen(config.evaluation.seen) == "remove",
        history_events=config.sources.history_events,
        most=_QUERIES,
        seed=config.evaluation.seed,
    )
    quotas = choose_quotas(sources, requests, len(prepared.item_ids), config.sources)
    say(f"{fold.name}: quotas {quotas}")
    weights, ndcg = choose_weights(Cases.of(sources, quotas.quotas, requests), [s.name for s in sources])
    say(
        f"{fold.name}: blend weights from {len(requests)} past requests, NDCG@10 {ndcg:.4f}: "
        + ", ".join(f"{n} {w:g}" for n, w in weights.items())
    )
    return quotas, weights, ndcg
