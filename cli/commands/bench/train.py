"""`bench train`: the towers against the TFRS tutorial's loop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step
from core.errors import InputError


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command()(train)


def train(
    work: Annotated[Path | None, typer.Option(help="prepared data at hand, instead of a simulated shop")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="times to run both; the median ratio counts")] = 1,
    tutorial: Annotated[
        list[str] | None,
        typer.Option(
            help="BATCH:RATE of the plain loop, Adagrad's rate; may be repeated. Default: 8192:0.1 and 4096:0.1"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the shop")] = 1,
) -> None:
    """Train the towers and the plain TFRS loop on the same events: seconds to the best validation recall@100 that the plain loop reaches."""
    from benchmarks.train import TUTORIALS, bench

    finish(bench(work, seed, repeats, [_variant(t) for t in tutorial] if tutorial else TUTORIALS, step))


def _variant(text: str) -> tuple[int, float]:
    batch, _, rate = text.partition(":")
    try:
        return int(batch), float(rate)
    except ValueError:
        raise InputError(f"--tutorial {text}: expected BATCH:RATE, such as 4096:0.1") from None
