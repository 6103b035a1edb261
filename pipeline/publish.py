"""Puts a release directory together from the artifacts of the stages, and makes one the champion."""

from __future__ import annotations

import datetime as dt
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from core import artifact, atomic
from core.config import PipelineConfig
from core.prepared import FULL, Fold, Prepared
from core.release import (
    FORMAT_VERSION,
    KIND,
    RANKER,
    STATE_FORMAT_VERSION,
    STATE_KIND,
    STATISTICS,
    ReleaseSettings,
)
from core.work import Work
from serving.release import Release
from serving.user_state import EVENT_COLUMNS, state_id


def assemble(
    path: Path,
    prepared: Prepared,
    sources: Path,
    fold: Fold,
    settings: ReleaseSettings,
    about: Mapping[str, Any],
    ranker: Path | None = None,
) -> None:
    """Write the release of `fold` at `path`: the items, the sources fitted at it (a folder of `train-retrieval`), the settings.

    `ranker` is the artifact of `train-ranker`; without it, or where it holds no model of `fold`, the blend ranks.
    """
    if path.exists():
        return
    with artifact.publish(path, kind=KIND, format_version=FORMAT_VERSION, id=path.name) as draft:
        draft.parents.update(prepared=prepared.manifest.id, sources=sources.parent.name)
        draft.about.update(
            about, fold=fold.name, window=[prepared.cuts.start, prepared.until(fold)], seen=seen(prepared)
        )
        link_tree(prepared.path / "ids" / "items", draft.path / "ids" / "items")
        link_tree(prepared.path / "items", draft.path / "items")
        link_tree(sources, draft.path / "sources")
        if ranker is not None:
            draft.parents["ranker"] = ranker.name
            link_tree(ranker / "statistics" / fold.name, draft.path / STATISTICS)
            link_tree(ranker / fold.name, draft.path / RANKER)
        settings.write(draft.path)


def publish(
    work: Work,
    prepared: Prepared,
    sources: Path,
    settings: ReleaseSettings,
    config: PipelineConfig,
    metrics: Mapping[str, Any],
    ranker: Path | None = None,
) -> Path:
    """Write the user state and the release refitted up to the end of the data, verify it in full, make it `current`."""
    state = work.user_state(prepared.cuts.end)
    write_user_state(state, prepared)
    parts = [prepared.manifest.id, sources.name, ranker.name if ranker else None]
    id = artifact.hash_json([*parts, settings.fingerprint(), config.fingerprint()])
    end = dt.datetime.fromtimestamp(prepared.cuts.end / 1e6, dt.UTC)
    path = work.releases / f"{end:%Y%m%dT%H%M%S}-{id[:8]}"
    about = {
        "config": config.fingerprint(),
        "user_state": state_id(state),
        "metrics": dict(metrics),
        "metrics_of": f"the twin: sources as of {prepared.cuts.test} us (T2), judged on what came after",
    }
    assemble(path, prepared, sources / FULL.name, FULL, settings, about, ranker)
    artifact.verify(path)
    Release.open(path, stamped=True)
    atomic.symlink(work.current, path.name)
    return path


def write_user_state(path: Path, prepared: Prepared) -> None:
    """Histories and person ids of the whole window, for `batch` and `materialize`."""
    if path.exists():
        if artifact.read_manifest(path).parents["prepared"] == prepared.manifest.id:
            return
        # another data set that ends at the same moment: the state goes with the newest
        shutil.rmtree(path)
    with artifact.publish(
        path, kind=STATE_KIND, format_version=STATE_FORMAT_VERSION, id=str(prepared.cuts.end)
    ) as draft:
        draft.parents["prepared"] = prepared.manifest.id
        draft.about["window_end"] = prepared.cuts.end
        link_tree(prepared.path / "ids" / "users", draft.path / "ids" / "users")
        events = prepared.events
        type(events)({c: events[c] for c in EVENT_COLUMNS}).write(draft.path / "events")


def seen(prepared: Prepared) -> str:
    """Whether pages of this shop keep items that the person already has: where at least one in fifty successes is a repeat."""
    return "keep" if float(prepared.manifest.about["repeat_share"]) >= 0.02 else "remove"


def link_tree(source: Path, target: Path) -> None:
    """Hard-link every file of an immutable folder (copy where the file system cannot)."""
    for folder, _, names in os.walk(source):
        there = target / Path(folder).relative_to(source)
        there.mkdir(parents=True, exist_ok=True)
        for name in names:
            try:
                os.link(Path(folder) / name, there / name)
            except OSError:
                shutil.copyfile(Path(folder) / name, there / name)
