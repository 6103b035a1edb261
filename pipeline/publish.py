"""Puts a release directory together from the artifacts of the stages, and makes one the champion."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from core import artifact, atomic
from core.config import PipelineConfig
from core.prepared import FULL, Fold, Prepared
from core.release import (
    CATALOG_LOG,
    CATALOG_SEQUENCE,
    CONFIGURATION,
    FORMAT_VERSION,
    GATES,
    INDEX,
    KIND,
    RANKER,
    SOURCES,
    STATE_FORMAT_VERSION,
    STATE_KIND,
    STATISTICS,
    ReleaseSettings,
)
from core.work import Work
from pipeline.registry import history
from ranking.user_statistics import write_activity
from retrieval.query import QueryTower
from retrieval.sources import TOWERS
from serving.release import Release
from serving.user_state import ATTRIBUTES, EVENT_COLUMNS, state_id, write_attributes

CANDIDATE: Final = "candidate"  # the stage folder where a release waits for its gates


@dataclass(frozen=True)
class Parts:
    """The artifacts of the stages that a release is made of; each holds a folder for every fold that it serves."""

    sources: Path  # of `train-retrieval`
    index: Path | None = None  # of `build-index`; None where there are no towers
    ranker: Path | None = None  # of `train-ranker`; None, or without a model of the fold: the blend ranks

    @classmethod
    def latest(cls, work: Work) -> Parts:
        """What the stages last made."""
        return cls(work.latest("train-retrieval"), work.latest("build-index"), work.latest("train-ranker"))

    def index_facts(self) -> dict[str, Any]:
        """Of each fold's index: what was measured when it was built."""
        return {} if self.index is None else dict(artifact.read_manifest(self.index).about["folds"])

    @property
    def ids(self) -> list[str | None]:
        """What the release descends from."""
        return [part.name if part else None for part in (self.sources, self.index, self.ranker)]


def assemble(
    path: Path,
    prepared: Prepared,
    parts: Parts,
    fold: Fold,
    settings: ReleaseSettings,
    about: Mapping[str, Any],
    twin: Path | None = None,
) -> None:
    """Write the release of `fold` at `path`: the items, what the stages made of the fold, the settings."""
    if path.exists():
        return
    with artifact.publish(path, kind=KIND, format_version=FORMAT_VERSION, id=path.name) as draft:
        draft.parents.update(prepared=prepared.manifest.id, sources=parts.sources.name)
        if twin is not None:
            draft.parents["twin"] = twin.name
        draft.about.update(about, fold=fold.name, window=[prepared.cuts.start, prepared.until(fold)])
        atomic.link_tree(prepared.path / "ids" / "items", draft.path / "ids" / "items")
        atomic.link_tree(prepared.path / "items", draft.path / "items")
        atomic.link_tree(parts.sources / fold.name, draft.path / SOURCES)
        if parts.index is not None:
            draft.parents["index"] = parts.index.name
            atomic.link_tree(parts.index / fold.name, draft.path / INDEX)
        if parts.ranker is not None:
            draft.parents["ranker"] = parts.ranker.name
            atomic.link_tree(parts.ranker / STATISTICS / fold.name, draft.path / STATISTICS)
            atomic.link_tree(parts.ranker / RANKER / fold.name, draft.path / RANKER)
        settings.write(draft.path)


def publish(
    work: Work,
    prepared: Prepared,
    parts: Parts,
    settings: ReleaseSettings,
    config: PipelineConfig,
    metrics: Mapping[str, Any],
    gates: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write the release refitted up to the end of the data, and make it `current` without asking a gate; `gates` are verdicts of others."""
    made = candidate(work, prepared, parts, settings, config, metrics)
    record(made, gates)
    return promote(work, made)


def release_name(prepared: Prepared, parts: Parts, settings: ReleaseSettings, config: PipelineConfig) -> str:
    """The end of its data and what it is made of."""
    id = artifact.hash_json([prepared.manifest.id, *parts.ids, settings.fingerprint(), config.fingerprint()])
    return f"{dt.datetime.fromtimestamp(prepared.cuts.end / 1e6, dt.UTC):%Y%m%dT%H%M%S}-{id[:8]}"


def candidate(
    work: Work,
    prepared: Prepared,
    parts: Parts,
    settings: ReleaseSettings,
    config: PipelineConfig,
    metrics: Mapping[str, Any],
    more: Mapping[str, Any] = {},
    twin: Path | None = None,
) -> Path:
    """Write the user state and the release refitted up to the end of the data, beside the published ones, and verify it in full.

    Args:
        work: The work directory.
        prepared: Its data.
        parts: What it is made of.
        settings: Of the request path.
        config: The pipeline's.
        metrics: Of its twin.
        more: For the manifest.
        twin: That was judged for it, among its parents from then on.

    Returns:
        Its folder: among the published ones where it was published before.
    """
    state = work.user_state(prepared.cuts.end)
    write_user_state(state, prepared, parts.sources / FULL.name / TOWERS)
    name = release_name(prepared, parts, settings, config)
    if (published := work.releases / name).exists():
        return published
    path = work.stage(CANDIDATE, name)
    about: dict[str, Any] = {
        "config": config.fingerprint(),
        CONFIGURATION: config.model_dump(mode="json"),
        "user_state": state_id(state),
        "seen": prepared.seen(config.evaluation.seen),
        CATALOG_SEQUENCE: int(prepared.manifest.about.get(CATALOG_SEQUENCE, 0)),
        CATALOG_LOG: str(prepared.manifest.about.get(CATALOG_LOG, "")),
        "metrics": dict(metrics),
        "metrics_of": f"the twin: sources as of {prepared.cuts.test} us (T2), judged on what came after",
    } | dict(more)
    assemble(path, prepared, parts, FULL, settings, about, twin=twin)
    artifact.verify(path)
    Release.open(path, stamped=True)
    return path


def record(candidate: Path, gates: Sequence[Mapping[str, Any]]) -> None:
    """Write what the gates said of a candidate into its manifest, where it depends on the moment, and verify it in full again."""
    if not gates:
        return
    manifest = artifact.read_manifest(candidate)
    said = manifest.model_copy(update={"build": manifest.build | {GATES: json.dumps(gates)}})
    atomic.write_bytes(candidate / artifact.MANIFEST, artifact.written(said))
    artifact.verify(candidate)


def promote(work: Work, candidate: Path, why: str = "") -> Path:
    """Move a candidate among the published releases, in one rename, and make it `current`, in another. Its path there; `why` is for the history."""
    path = work.releases / candidate.name
    if candidate.parent != work.releases:
        work.releases.mkdir(parents=True, exist_ok=True)
        os.rename(candidate, path)
        atomic.fsync_path(work.releases)
    Release.open(path, stamped=True)
    with history.locked(work):
        history.point(work, path.name, history.PUBLISH, why)
    return path


def write_user_state(path: Path, prepared: Prepared, towers: Path | None = None) -> None:
    """Histories, active days and person ids of the whole window, and of their attributes what the `towers` know, for `batch` and `materialize`."""
    tower = QueryTower.open(towers) if towers and towers.exists() else None
    people, parents = tower and tower.people, {"prepared": prepared.manifest.id}
    if tower and people:
        parents["towers"] = tower.embedding_id
    if path.exists():
        if artifact.read_manifest(path).parents == parents:
            return
        # another data set that ends at the same moment, or other attributes that are read: the state goes with the newest
        shutil.rmtree(path)
    with artifact.publish(
        path, kind=STATE_KIND, format_version=STATE_FORMAT_VERSION, id=str(prepared.cuts.end)
    ) as draft:
        draft.parents.update(parents)
        draft.about["window_end"] = prepared.cuts.end
        atomic.link_tree(prepared.path / "ids" / "users", draft.path / "ids" / "users")
        events = prepared.events
        type(events)({c: events[c] for c in EVENT_COLUMNS}).write(draft.path / "events")
        write_activity(prepared, draft.path)
        if people:
            write_attributes(prepared.told, people.knows(prepared.told.tokens), draft.path / ATTRIBUTES)
