"""`top`: a server, live."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import console, finish

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(top)


def top(
    server: Annotated[str, typer.Option(help="HOST:PORT of `./aisle serve --metrics ...`")] = "127.0.0.1:50051",
    metrics: Annotated[str, typer.Option(help="URL of its metrics; default: where the server says that they are")] = "",
    every: Annotated[float, typer.Option(min=0.2, max=60, help="seconds between two looks")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="one frame, of so many seconds, and end")] = False,
) -> None:
    """Rates, latencies, rungs of the ladder, sources, what pages do without, arms and releases of a running server; Ctrl-C ends it."""
    from rich.live import Live

    from serving.sight.view import frame, scraped

    url = metrics or _metrics_of(server)
    before = scraped(url)
    if once:
        time.sleep(every)
        seen = frame(scraped(url), before)
        console.print(_drawn(seen, url))
        finish({"metrics": url, **seen})
        return
    seen = frame(before, None)  # until there are two looks: of all time
    try:
        with Live(_drawn(seen, url), console=console, screen=console.is_terminal, auto_refresh=False) as live:
            while True:
                time.sleep(every)
                now = scraped(url)
                seen, before = frame(now, before), now
                live.update(_drawn(seen, url), refresh=True)
    except KeyboardInterrupt:
        finish({"metrics": url, **seen})


def _metrics_of(server: str) -> str:
    """Where a server says that its metrics are."""
    from core.errors import InputError
    from serving.client import Client

    with Client(server) as ask:
        at = ask.metrics_at()
    if not at:
        raise InputError(
            f"--server {server}: it has no metrics; start it with `./aisle serve --metrics 127.0.0.1:9464`"
        )
    host, _, port = at.rpartition(":")
    if host in ("0.0.0.0", "[::]", "::"):  # every address: the one that the server was asked at is one of them
        host = server.rpartition(":")[0]
    return f"http://{host}:{port}/metrics"


def _drawn(seen: dict[str, Any], url: str) -> RenderableType:
    from rich.columns import Columns
    from rich.console import Group
    from rich.table import Table

    calls = Table(title="calls", title_justify="left")
    for column in ("method", "a second", "p50 ms", "p90 ms", "p99 ms"):
        calls.add_column(column, justify="left" if column == "method" else "right")
    for rpc, of in seen["calls"].items():
        calls.add_row(rpc, f"{of['rate']:.1f}", *(_number(of[q]) for q in ("p50_ms", "p90_ms", "p99_ms")))
    tables = [
        _pairs("stages of Recommend, p99 ms", {k: _number(v) for k, v in seen["stages"].items()}),
        _pairs("ladder", _percent(seen["levels"])),
        _pairs("sources", _percent(seen["sources"])),
        _pairs("does without", _percent(seen["degraded"])),
        _pairs("not OK, a second", {k: f"{v:.1f}" for k, v in seen["errors"].items()}),
        _pairs("arms", _percent(seen["arms"])),
        _pairs("releases", _percent(seen["releases"])),
        _pairs("events a second", {k: f"{v:.1f}" for k, v in seen["events"].items()}),
    ]
    redis = "up" if seen["redis_up"] else "[red]DOWN[/red]"
    head = (
        f"[b]{', '.join(seen['answering']) or '?'}[/b]  {seen['workers']} workers  {seen['memory_mb']:.0f} MB  "
        f"Redis {redis}  last {seen['seconds']:.0f} s  [dim]{url}[/dim]"
    )
    return Group(head, calls, Columns([t for t in tables if t is not None]))


def _pairs(title: str, rows: dict[str, str]) -> Table | None:
    from rich.table import Table

    if not rows:
        return None
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for row in rows.items():
        table.add_row(*row)
    return table


def _percent(shares: dict[str, float]) -> dict[str, str]:
    return {name: f"{100 * share:.1f} %" for name, share in shares.items()}


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"
