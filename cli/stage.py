"""What the commands of single stages have in common."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from cli.output import finish, step
from core.artifact import MANIFEST
from core.config import PipelineConfig, load_pipeline
from core.work import Work

Run = Callable[[Work, PipelineConfig, Callable[[str], None]], Path]


def run_stage(stage: str, run: Run, work: Path, config: Path | None) -> None:
    """Run one stage in `work`, alone, and say how it went; skipped means that its artifact was there before."""
    start, wall, place = time.perf_counter(), time.time(), Work(work)
    with place.locked():
        path = run(place, load_pipeline(config), step)
    skipped = (path / MANIFEST).stat().st_mtime < wall - 1e-3
    finish(
        {"stage": stage, "seconds": round(time.perf_counter() - start, 2), "skipped": skipped, "artifact": str(path)}
    )
