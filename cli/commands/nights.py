"""`nights`: the story of the nights of a work directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import console, finish

if TYPE_CHECKING:
    from rich.table import Table

    from pipeline.nights import NightStory


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(nights)


def nights(
    work: Annotated[Path, typer.Option(help="the work directory of `nightly`")],
    last: Annotated[int, typer.Option(min=1, help="so many nights, the newest")] = 30,
) -> None:
    """Show what every night did: its outcome, why it was refused, how good its release is, and where the time went."""
    from core.errors import NotFoundError
    from core.work import Work
    from pipeline.nights import FILE, read

    story = read(Work(work))[-last:]
    if not story:
        raise NotFoundError(f"{work / FILE}: no night yet; run `./aisle nightly --data DATA --work {work}`")
    console.print(table(story))
    finish({"nights": [n.row for n in story]})


def table(story: list[NightStory]) -> Table:
    """One row a night, oldest first."""
    from rich.table import Table

    shown = Table("night", "outcome", "refused by", "release", "NDCG@10", "seconds", "stages that ran (seconds)")
    for night in story:
        row = night.row
        stages = ", ".join(f"{name} {seconds:.0f}" for name, seconds in row["stages"].items() if seconds >= 0.5)
        ndcg = "" if row["ndcg@10"] is None else f"{row['ndcg@10']:.4f}"
        refused = ", ".join(row["refused_by"]) or str(row["error"] or "")
        shown.add_row(
            row["night"], row["outcome"], refused, row["release"] or "", ndcg, f"{row['seconds']:.0f}", stages or "none"
        )
    return shown
