"""`publish`: the last stage alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(publish)


def publish(
    work: Annotated[Path, typer.Option(help="the work directory of `nightly`")],
    config: Annotated[
        Path | None, typer.Option(help="YAML with the keys that differ from configs/pipeline.yaml")
    ] = None,
) -> None:
    """Judge the twin of what the stages last made, and publish the release if every gate passes (else exit 3)."""
    from core.config import load_pipeline
    from core.errors import GateRefused
    from core.work import Work
    from pipeline.nightly import STAGE, judge_and_publish, written

    start, place, settings = time.perf_counter(), Work(work), load_pipeline(config)
    with place.locked(), written(place, STAGE, place.root, settings, step) as night:
        judge_and_publish(night, place, settings)
    skipped = night.release is not None and night.stages[STAGE].skipped
    finish({"stage": STAGE, "seconds": round(time.perf_counter() - start, 2), "skipped": skipped} | night.result())
    if night.refused:
        raise GateRefused(night.refused)
