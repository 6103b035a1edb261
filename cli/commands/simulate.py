"""`./aisle simulate --users N --items N --events N --out DATA`: a shop with known preferences."""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from cli import output


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("simulate")(simulate_)


def simulate_(
    users: Annotated[int, typer.Option("--users", help="Registered users")],
    items: Annotated[int, typer.Option("--items", help="Items")],
    events: Annotated[int, typer.Option("--events", help="Events, exactly")],
    out: Annotated[Path, typer.Option("--out", help="Where the data directory goes: absent or empty")],
    days: Annotated[int, typer.Option("--days", help="Days that the events span")] = 365,
    seed: Annotated[int, typer.Option("--seed", help="Another seed is another shop")] = 1,
    start: Annotated[datetime, typer.Option("--start", formats=["%Y-%m-%d"], help="First day, UTC")] = datetime(
        2024, 1, 1
    ),
    impressions: Annotated[
        float, typer.Option("--impressions", help="Share of the pages whose impressions are logged")
    ] = 0.25,
    guests: Annotated[float, typer.Option("--guests", help="Share of the sessions without a user id")] = 0.2,
) -> None:
    """Make a shop with known preferences: tastes, seasons, prices, position bias, sessions, stock, arrivals. Seeded and streaming."""
    from data_prep.simulate.options import ShopOptions
    from data_prep.simulate.run import simulate

    begin = time.monotonic()
    options = ShopOptions(users, items, events, days, seed, start.date(), impressions, guests)
    done = simulate(options, out)
    seconds = time.monotonic() - begin
    mix = ", ".join(f"{kind} {count / done.events:.1%}" for kind, count in done.mix.items())
    output.step(f"{out}: {done.events:,} events ({mix}), {done.items:,} items, {done.users:,} users")
    output.finish(
        {
            "rows_read": done.events,
            "events": done.events,
            "items": done.items,
            "users": done.users,
            "rejected": 0,
            "mix": done.mix,
            "seconds": round(seconds, 2),
            "events_per_second": round(done.events / max(seconds, 1e-9)),
            "out": str(out),
        }
    )
