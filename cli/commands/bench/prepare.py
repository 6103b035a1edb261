"""`bench prepare`: preparation of a simulated shop, at full size and at a tenth, beside DuckDB."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.output import finish, step


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command()(prepare)


def prepare(
    events: Annotated[
        int, typer.Option(min=1000, help="events of the shop; a tenth of it is measured too")
    ] = 1_000_000,
    items: Annotated[int | None, typer.Option(min=10, help="items; default: one to 50 events")] = None,
    users: Annotated[int | None, typer.Option(min=10, help="registered users; default: one to 20 events")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the shop")] = 1,
) -> None:
    """Simulate a shop over 60 days and prepare it: seconds, memory of the process tree, growth from a tenth, DuckDB for the same statistics."""
    from benchmarks.prepare import bench

    finish(bench(events, items or max(events // 50, 10), users or max(events // 20, 10), seed, step))
