"""`train-retrieval`: fit the candidate sources on the newest prepared data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.stage import run_stage


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
    from retrieval.fit import STAGE, run

    run_stage(STAGE, run, work, config)
