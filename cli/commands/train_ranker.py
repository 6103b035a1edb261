"""`train-ranker`: the ranker alone, on what the real sources would have proposed at past moments."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train-ranker")(train_ranker)


def train_ranker(
    work: Annotated[Path, typer.Option(help="work directory in which `train-retrieval` has run")],
    config: Annotated[
        Path | None, typer.Option(help="YAML with the keys that differ from configs/pipeline.yaml")
    ] = None,
) -> None:
    """Train the ranker on the candidates of past requests. Skipped when nothing that it depends on changed."""
    from core.config import load_pipeline
    from core.work import Work
    from pipeline.ranker import run

    start, wall = time.perf_counter(), time.time()
    place = Work(work)
    with place.locked():
        path = run(place, load_pipeline(config), step)
    skipped = path.stat().st_mtime < wall - 1e-3
    finish(
        {"stage": "train-ranker", "seconds": round(time.perf_counter() - start, 2), "skipped": skipped, "id": path.name}
    )
