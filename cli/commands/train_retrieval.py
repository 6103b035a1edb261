"""`train-retrieval`: fit the candidate sources on the newest prepared data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train-retrieval")(train_retrieval)


def train_retrieval(
    work: Annotated[Path, typer.Option(help="work directory, with prepared data")],
    config: Annotated[
        Path | None, typer.Option(help="YAML with the keys that differ from configs/pipeline.yaml")
    ] = None,
) -> None:
    """Fit every candidate source before each cut. Skipped when nothing it reads has changed."""
    from core.config import load_pipeline
    from core.work import Work
    from retrieval.fit import STAGE, run

    start, wall = time.perf_counter(), time.time()
    place = Work(work)
    with place.locked():
        path = run(place, load_pipeline(config), step)
    skipped = path.stat().st_mtime < wall - 1e-3
    finish(
        {"stage": STAGE, "seconds": round(time.perf_counter() - start, 2), "skipped": skipped, "artifact": str(path)}
    )
