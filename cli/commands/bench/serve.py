"""`bench serve`: what a request costs, and how many there can be."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command()(serve)


def serve(
    items: Annotated[int, typer.Option(min=1000, help="of the catalogue")] = 1_000_000,
    work: Annotated[Path | None, typer.Option(help="keep the release here, and use it again")] = None,
) -> None:
    """Serve a made-up shop with one worker, and load it: unloaded, saturated, and on a schedule at 60 % of that. Floor: search and trees alone."""
    from benchmarks.serve import bench_serve

    finish(bench_serve(items, work, step))
