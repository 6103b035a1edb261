"""A shop from real data through the real `prepare` to a published release with a ranker, in seconds: sources without towers, and a ranker of a few trees that
were grown on noise, since what is tested is what the ranker reads and not how well it ranks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from core.config import PipelineConfig
from core.prepared import FULL, Prepared
from core.release import RANKER, STATISTICS
from core.work import Work
from data_prep.prepare import run as prepare
from pipeline.publish import Parts, publish
from pipeline.twin import release_settings
from ranking import item_statistics
from ranking.feature_list import NAMES
from ranking.train import TrainingSet, grow
from retrieval import quotas
from retrieval.fit import fit_sources
from retrieval.sources import open_sources


def small_release(data: Path, work: Work, config: PipelineConfig) -> Path:
    """Prepare `data`, fit, and publish into `work`; the release."""
    prepared = Prepared(prepare(data, work, config, lambda _: None))
    sources, ranker = work.root / "parts" / "sources", work.root / "parts" / "ranker"
    fit_sources(prepared, FULL, config, sources / FULL.name, lambda _: None)
    names = [s.name for s in open_sources(sources / FULL.name)]
    (sources / "weights.json").write_text(json.dumps(dict.fromkeys(names, 1.0)))
    (sources / quotas.FILE).write_text(json.dumps(dict.fromkeys(names, 100)))
    item_statistics.write(prepared, FULL, config.sources.recent_days, ranker / STATISTICS / FULL.name)
    grow([noise()], 3, config.ranker).write(ranker / RANKER / FULL.name, names, {})
    return publish(work, prepared, Parts(sources, ranker=ranker), release_settings(sources, config), config, {})


def noise() -> TrainingSet:
    """Forty requests of fifty rows."""
    rng = np.random.default_rng(1)
    rows = rng.standard_normal((2_000, len(NAMES))).astype(np.float32)
    grades = (rng.random(2_000) < 0.1).astype(np.int8)
    return TrainingSet(rows, grades, np.full(40, 50, np.int32), np.ones(40), 0)
