"""`build-index`: the stage alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.stage import run_stage


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("build-index")(build_index)


def build_index(
    work: Annotated[Path, typer.Option(help="the work directory of `nightly`")],
    config: Annotated[
        Path | None, typer.Option(help="YAML with the keys that differ from configs/pipeline.yaml")
    ] = None,
) -> None:
    """Index the item vectors of the towers, and measure its recall on what real people would ask."""
    from pipeline.index import STAGE, run

    run_stage(STAGE, run, work, config)
