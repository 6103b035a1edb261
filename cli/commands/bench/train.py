"""`bench train`: the towers against the TFRS tutorial's loop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command()(train)


def train(
    work: Annotated[Path | None, typer.Option(help="prepared data at hand, instead of a simulated shop")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="times to run both; the median ratio counts")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="of the shop")] = 1,
) -> None:
    """Train the towers and the plain TFRS loop on the same events: seconds to the best validation recall@100 that the plain loop reaches."""
    from benchmarks.train import TUTORIALS, bench

    finish(bench(work, seed, repeats, TUTORIALS, step))
