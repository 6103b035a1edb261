"""The twin: the release as it would have been at T2, which the test window judges."""

from __future__ import annotations

import json
from pathlib import Path

from core import artifact
from core.config import PipelineConfig
from core.prepared import TWIN, Fold, Prepared
from core.release import ReleaseSettings
from core.work import Work
from pipeline.publish import Parts, assemble
from retrieval.quotas import read_quotas


def release_settings(sources: Path, config: PipelineConfig) -> ReleaseSettings:
    """What the request path runs with: the configuration, and the quotas and blend weights that `train-retrieval` chose on the validation window."""
    s = config.sources
    return ReleaseSettings(
        quotas=read_quotas(sources),
        weights=blend_weights(sources),
        history_events=s.history_events,
        warm_events=s.warm_events,
        candidates=s.candidates,
        candidates_per_place=s.candidates_per_place,
        gains=config.data.gains,
    )


def twin_id(prepared: Prepared, parts: Parts, settings: ReleaseSettings, fold: Fold = TWIN) -> str:
    """Name of the twin, by what it is assembled from."""
    return artifact.hash_json([prepared.manifest.id, *parts.ids, settings.fingerprint(), fold.name])[:32]


def blend_weights(sources: Path) -> dict[str, float]:
    """Source -> weight, as `train-retrieval` left them."""
    return dict(json.loads((sources / "weights.json").read_bytes()))


def twin(work: Work, prepared: Prepared, parts: Parts, settings: ReleaseSettings, fold: Fold = TWIN) -> Path:
    """The release of `fold`, assembled where the stages keep their artifacts."""
    path = work.stage("twin", twin_id(prepared, parts, settings, fold))
    assemble(path, prepared, parts, fold, settings, {})
    return path
