"""Stage `build-index`: the nearest-neighbour index over each release's item vectors, measured on what real people would ask of it.

Where the towers stayed, the last night's index goes on with what changed (`index_builder.grow`); else it is built.

stages/build-index/<id>/
  manifest.json         kind "index"; about: the facts of each fold's index
  twin/ full/           an index folder (docs/index.md): segments.json, and files where the catalogue is too large for exact search
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from core import artifact
from core.columns import Array
from core.config import PipelineConfig
from core.history import Query
from core.prepared import FULL, LAST_TWIN, TWIN, Fold, Prepared
from core.recipe import MADE_FROM, Recipe, fingerprint
from core.work import Work
from index_builder.build import build_index
from index_builder.grow import grow_index
from retrieval.query import QueryTower
from retrieval.sources import TOWERS

KIND: Final = "index"
LAST_KIND: Final = "index-last"
FORMAT_VERSION: Final = 1
STAGE: Final = "build-index"
LAST_STAGE: Final = "build-index-last"

Say = Callable[[str], None]


def run(work: Work, config: PipelineConfig, say: Say) -> Path:
    """Index the item vectors of the twin and of the release; skipped when neither they nor the settings changed. The artifact."""
    return _run(work, config, say, (STAGE, KIND, "train-retrieval"), (TWIN, FULL))


def run_last(work: Work, config: PipelineConfig, say: Say) -> Path:
    """The same for protocol `last`, which only an evaluation asks for."""
    return _run(work, config, say, (LAST_STAGE, LAST_KIND, "train-retrieval-last"), (LAST_TWIN,))


def _run(work: Work, config: PipelineConfig, say: Say, names: tuple[str, str, str], folds: tuple[Fold, ...]) -> Path:
    stage, kind, retrieval = names
    prepared, sources = Prepared(work.latest("prepare")), work.latest(retrieval)
    parts = _recipe(prepared, sources, config)
    recipe = fingerprint(parts)
    last = work.latest(stage) if work.has(stage) else None
    if last is not None and artifact.read_manifest(last).about["recipe"] == recipe:
        return last
    id = artifact.hash_json([recipe, last and last.name])[:32]
    path = work.stage(stage, id)
    if not path.exists():
        with artifact.publish(path, kind=kind, format_version=FORMAT_VERSION, id=id) as draft:
            draft.parents.update(prepared=prepared.manifest.id, sources=sources.name)
            draft.about.update(recipe=recipe, folds={}, **{MADE_FROM: parts})
            for fold in folds:
                tower = QueryTower.open(sources / fold.name / TOWERS)
                vectors, queries = np.asarray(tower.item_vectors), query_vectors(prepared, fold, tower, config)
                rest, facts = (tower.embedding_id, config.index, draft.path / fold.name, say), None
                if last is not None and (before := _vectors_of(work, last, retrieval, fold)) is not None:
                    facts = grow_index(last / fold.name, before, vectors, queries, *rest)
                draft.about["folds"][fold.name] = facts or build_index(vectors, queries, *rest)
    work.set_latest(stage, id)
    return path


def recipe(work: Work, config: PipelineConfig) -> Recipe:
    """What `run` would make the artifact from."""
    return _recipe(Prepared(work.latest("prepare")), work.latest("train-retrieval"), config)


def _recipe(prepared: Prepared, sources: Path, config: PipelineConfig) -> Recipe:
    return {
        "prepared data": prepared.manifest.id,
        "sources": sources.name,
        "settings of the index": config.index.fingerprint(),
        "code": artifact.code_version("core", "index_builder"),
    }


def _vectors_of(work: Work, index: Path, retrieval: str, fold: Fold) -> Array | None:
    """The item vectors that an index artifact's index of `fold` was made for; None where those are gone."""
    towers = work.stage(retrieval, artifact.read_manifest(index).parents["sources"]) / fold.name / TOWERS
    return np.asarray(QueryTower.open(towers).item_vectors) if towers.exists() else None


def query_vectors(prepared: Prepared, fold: Fold, tower: QueryTower, config: PipelineConfig) -> Array:
    """What up to `index.queries` people would ask at the moment of the fold: float32 `[n, d]`, a seeded sample."""
    histories, moment, found = prepared.histories(config.sources.history_events), prepared.until(fold), []
    for user in np.random.default_rng(config.evaluation.seed).permutation(histories.users).tolist():
        vector = tower.vector(Query(moment, user, histories.before(user, moment), attributes=prepared.told.of(user)))
        if vector is not None:
            found.append(vector)
        if len(found) == config.index.queries:
            break
    return np.array(found, np.float32).reshape(len(found), tower.dimensions)
