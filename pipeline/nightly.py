"""The nightly run: a short list of stages, each of which leaves one immutable artifact and is skipped when that is already there.

    forget -> prepare -> data gate -> train-retrieval -> build-index -> train-ranker -> evaluate -> gates -> publish

A stage's artifact is named by the fingerprint of its code, its configuration and its inputs, and appears in one rename; so a killed run leaves
whole artifacts or none, and the next run continues after the last whole one.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from core import artifact, atomic
from core.config import PipelineConfig
from core.errors import ArtifactError, EnvironmentGapError
from core.prepared import Prepared
from core.work import Work
from pipeline import drift, erase, gates
from pipeline.evaluate import REPORT, evaluate_twin
from pipeline.gates import Verdict
from pipeline.publish import Parts, publish
from pipeline.twin import release_settings
from serving.config import ServingConfig

Say = Callable[[str], None]
STAGE: Final = "publish"


@dataclass
class StageRecord:
    """How one stage went."""

    seconds: float
    skipped: bool
    id: str


@dataclass
class Night:
    """How the run went."""

    started: float = field(default_factory=time.perf_counter)
    stages: dict[str, StageRecord] = field(default_factory=dict)
    gates: list[Verdict] = field(default_factory=list)
    release: Path | None = None

    @property
    def refused(self) -> list[str]:
        """One line for each gate that failed."""
        return [g.reason for g in self.gates if not g.passed]

    def stage(self, name: str, done: Callable[[], Path]) -> Path:
        """Run one stage and record it; skipped means that its artifact was there before."""
        start, wall = time.perf_counter(), time.time()
        path = done()
        skipped = (path / artifact.MANIFEST).stat().st_mtime < wall - 1e-3
        self.stages[name] = StageRecord(round(time.perf_counter() - start, 2), skipped, path.name)
        return path

    def judged(self, verdicts: Iterable[Verdict], say: Say) -> None:
        """Add what some gates saw, and say it."""
        for verdict in verdicts:
            self.gates.append(verdict)
            say(f"gate {verdict.gate}: {'passed' if verdict.passed else 'REFUSED'}: {verdict.reason}")

    def result(self) -> dict[str, Any]:
        """The JSON of `nightly`."""
        return {
            "release": None if self.release is None else str(self.release),
            "published": self.release is not None,
            "gates": [asdict(g) for g in self.gates],
            "stages": {name: asdict(r) for name, r in self.stages.items()},
            "seconds": round(time.perf_counter() - self.started, 1),
        }


def run(
    data: Path,
    work: Work,
    config: PipelineConfig,
    serving: ServingConfig,
    *,
    full: bool = False,
    redis_url: str | None = None,
    say: Say,
) -> Night:
    """Run what is not there yet, judge the twin, and publish the refitted release if every gate passes.

    Args:
        data: The shop's tables.
        work: The work directory.
        config: The settings.
        serving: Those of the servers, whose Redis keys and spool hold wishes to be forgotten.
        full: Run every stage again.
        redis_url: Where wishes to be forgotten wait; None: in the server's own Redis under `work`, where there is one.
        say: Prints a line of progress.
    """
    from data_prep.prepare import run as prepare
    from pipeline.index import run as build_index
    from pipeline.ranker import run as train_ranker
    from retrieval.fit import run as train_retrieval

    night = Night()
    with work.locked():
        _sweep(work, full, say)
        _forget(data, work, serving, redis_url, say)
        before = drift.baseline(work)
        catalog = serving.catalog.log_folder(work.root)
        prepared = night.stage("prepare", lambda: prepare(data, work, config, say, full=full, catalog=catalog))
        night.judged([gates.data(drift.drifts(before, prepared, config.drift, say))], say)
        if night.refused:
            return night
        night.stage("train-retrieval", lambda: train_retrieval(work, config, say))
        night.stage("build-index", lambda: build_index(work, config, say))
        night.stage("train-ranker", lambda: train_ranker(work, config, say, data))
        judge_and_publish(night, work, config, say)
    return night


def _forget(data: Path, work: Work, serving: ServingConfig, redis_url: str | None, say: Say) -> None:
    """Fulfil the wishes to be forgotten, so that nothing is learned from who is gone. What cannot be done tonight waits, and is said."""
    try:
        with erase.reached(work, redis_url) as store:
            erase.run(data, work, store, serving, say).check()
    except (EnvironmentGapError, ArtifactError) as e:
        say(f"warning: wishes to be forgotten wait: {e}")


def judge_and_publish(night: Night, work: Work, config: PipelineConfig, say: Say) -> None:
    """Evaluate the twin of what the stages last made, ask the gates, and publish what passes them all."""
    prepared = Prepared(work.latest("prepare"))
    parts = Parts.latest(work)
    settings = release_settings(parts.sources, config)
    report = night.stage("evaluate", lambda: evaluate_twin(work, prepared, parts, settings, config, say))
    metrics = json.loads((report / REPORT).read_bytes())["protocols"]["global"]
    night.judged(gates.judge(metrics, parts.index_facts(), config), say)
    if not night.refused:
        night.release = night.stage(
            STAGE, lambda: publish(work, prepared, parts, settings, config, metrics, [asdict(g) for g in night.gates])
        )
        say(f"published {night.release.name}")


def _sweep(work: Work, full: bool, say: Say) -> None:
    """Remove what killed runs left half-written; with `full`, the stages' artifacts too, so that all of them run again."""
    folders = [work.root, work.releases, work.root / "user_state", *(work.root / "stages").glob("*")]
    left = [name for folder in folders if folder.is_dir() for name in atomic.sweep(folder)]
    if left:
        say(f"removed {len(left)} half-written leftovers of an interrupted run")
    if full:
        # id maps must survive: they only ever grow
        for folder in (work.root / "stages").glob("*"):
            if folder.name != "prepare":
                shutil.rmtree(folder)
