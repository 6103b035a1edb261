"""`train-ranker`: the ranker alone, on what the real sources would have proposed at past moments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.stage import run_stage


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("train-ranker")(train_ranker)


def train_ranker(
    work: Annotated[Path, typer.Option(help="work directory in which `train-retrieval` has run")],
    config: Annotated[
        Path | None, typer.Option(help="YAML with the keys that differ from configs/pipeline.yaml")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="the shop's tables, for the pages that the service logged beside them")
    ] = None,
) -> None:
    """Train the ranker on the candidates of past requests. Skipped when nothing that it depends on changed."""
    from functools import partial

    from pipeline.ranker import STAGE, run

    run_stage(STAGE, partial(run, data=data), work, config)
