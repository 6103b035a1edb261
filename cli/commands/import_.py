"""`./aisle import LAYOUT PATH --out DATA`: common data layouts into the data contract."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cli import output


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("import")(import_)


def import_(
    layout: Annotated[
        str, typer.Argument(help="online-retail, amazon-sequences, movielens, xwines, alibaba-2014 or retailrocket")
    ],
    path: Annotated[Path, typer.Argument(help="The folder as it was downloaded, or its main file")],
    out: Annotated[Path, typer.Option("--out", help="Where the data directory goes: absent or empty")],
) -> None:
    """Read a common data layout into the data contract (docs/data-contract.md)."""
    from data_prep.importers.registry import import_data

    start = time.monotonic()
    done = import_data(layout, path, out)
    for note in done.notes:
        output.step(note)
    for reason, rows in done.reasons.items():
        output.step(f"rejected {rows:,}: {reason}")
    output.step(
        f"{out}: {done.events:,} events, {done.items:,} items, {done.users:,} users from {done.rows_read:,} rows"
    )
    output.finish(
        {
            "rows_read": done.rows_read,
            "events": done.events,
            "items": done.items,
            "users": done.users,
            "rejected": done.rejected,
            "reasons": done.reasons,
            "seconds": round(time.monotonic() - start, 2),
            "out": str(out),
        }
    )
