"""`evaluate --report`: studies each protocol and writes the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from core import atomic
from core.config import PipelineConfig
from core.prepared import LAST_TWIN, TRAIN, TWIN, Fold, Prepared, Seen
from core.work import Work
from evaluation.page import page
from pipeline.evaluate import last_twin
from pipeline.publish import Parts
from pipeline.study import before_of, study
from pipeline.twin import release_settings, twin
from serving.release import Release


def write_page(
    out: Path,
    work: Work,
    prepared: Prepared,
    seen: Seen,
    config: PipelineConfig,
    protocols: Mapping[str, Mapping[str, Any]],
    say: Callable[[str], None],
    *,
    release: Path | None = None,
    champion: Path | None = None,
    sample: int,
) -> None:
    """Study what `protocols` (the results of `measure`) judged, at most `sample` queries each, and write the page to `out`, beside and then in place.

    Args:
        out: The HTML file.
        work: Where the parts are.
        prepared: What was judged on.
        seen: What the judgements did with items that people had.
        config: As the measurement's.
        protocols: By name, as `evaluate` reports them.
        say: Takes progress.
        release: A published one that was judged instead of the twin.
        champion: What to compare with; None: the current release where that is fair, else the blend.
        sample: Queries that are answered in many ways.
    """
    whole: dict[str, Any] = {}
    about: dict[str, str] = {}
    for name, figures in protocols.items():
        path, data, fold = _judged(name, work, prepared, config, release, say)
        before = before_of(work, data, fold, champion)
        whole[name] = {**figures, "study": study(path, data, fold, seen, config, before, sample, say)}
        about[name] = _about(path, data, fold)
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic.write_bytes(out, page(whole, about, config.evaluation).encode())


def _judged(
    name: str, work: Work, prepared: Prepared, config: PipelineConfig, release: Path | None, say: Callable[[str], None]
) -> tuple[Path, Prepared, Fold]:
    """The release that answered, the data and the fold that it was judged on."""
    if release is not None:
        path = release.resolve()
        return path, prepared.split_at(Release.open(path).window_end), TRAIN
    if name == "last":
        return last_twin(work, prepared, config, say), prepared, LAST_TWIN
    parts = Parts.latest(work)
    return twin(work, prepared, parts, release_settings(parts.sources, config)), prepared, TWIN


def _about(path: Path, prepared: Prepared, fold: Fold) -> str:
    """What was judged on what, in a line."""
    if fold.protocol == "last":
        return f"Each person's last choice, on twin {path.name[:12]}, which knows everything before it."
    begin, end = (
        np.datetime64(moment, "m") for moment in (prepared.until(fold) // 60_000_000, prepared.cuts.end // 60_000_000)
    )
    kind = "release" if fold is TRAIN else "twin"
    return f"What known people chose from {begin} to {end} UTC, on {kind} {path.name[:24]}, which knows nothing after the first of these moments."
