"""`demo`: everything once, on a simulated shop, shown to a person."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import console, finish, step

if TYPE_CHECKING:
    from pipeline.demo import Walk
    from serving.release import Release

_SHOWN = 6  # of the ten items of a page


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(demo)


def demo(
    out: Annotated[
        Path | None, typer.Option(help="where the shop and its work go; default: aisle-demo in the temporary folder")
    ] = None,
) -> None:
    """Simulate a shop, run a night, serve it, and make the calls a storefront makes. A second run reuses what the first left."""
    import numpy as np

    from core.config import load_pipeline
    from core.errors import GateRefused
    from core.work import Work
    from pipeline import demo as steps
    from pipeline.served import Served
    from serving.release import Release
    from serving.user_state import UserState

    start = time.perf_counter()
    out = out or Path(tempfile.gettempdir()) / "aisle-demo"
    night = steps.run_night(out, load_pipeline(), step)
    if night.release is None:
        raise GateRefused(night.refused)
    release = Release.open(night.release)
    state = UserState.open(Work(out / "work").user_state(release.window_end))
    with Served(night.release) as server:
        step(f"serving {server.release} on {server.address}, ready in {server.ready_seconds} s")
        walk = steps.walk(server.address, release, state)
    metrics = release.manifest.about["metrics"]
    _show_metrics(metrics)
    _show_walk(release, walk)
    p50, p99 = np.percentile(walk.latencies, [50, 99])
    console.print(f"\n{len(walk.latencies)} calls one after another: p50 {p50:.2f} ms, p99 {p99:.2f} ms\n")
    _show_next(out, walk)
    finish(
        {
            "release": str(night.release),
            "ndcg@10": metrics["ndcg@10"],
            "popularity_ndcg@10": metrics["baselines"]["popularity"]["ndcg@10"],
            "recall@500": metrics["recall@500"],
            "p50_ms": round(float(p50), 3),
            "p99_ms": round(float(p99), 3),
            "seconds": round(time.perf_counter() - start, 1),
        }
    )


def _show_metrics(metrics: dict[str, Any]) -> None:
    from cli.figures import show_figures

    console.print(
        "\n[bold]How good is it?[/bold] What people chose in the last tenth of the year, foreseen by a twin that knew nothing of it:"
    )
    show_figures("global", metrics)


def _show_walk(release: Release, walk: Walk) -> None:
    from rich.markup import escape

    from cli.pages import page_table
    from pipeline.demo import department, title

    bought = "\n".join(
        f"- {escape(title(release, r))} [dim]({escape(department(release, r))})[/dim]" for r in walk.shopper.rows[:10]
    )
    console.print(f"\n[bold]Shopper {walk.shopper.user_id}[/bold] bought, newest first:\n{bought}")
    console.print(page_table(walk.before.results[:_SHOWN], f"so the page shows ({walk.before.level}):"))
    clicks = ", ".join(title(release, r) for r in walk.clicked)
    console.print(f"\n[bold]Three clicks in {department(release, walk.clicked[0])}[/bold]: {escape(clicks)}")
    console.print(page_table(walk.after.results[:_SHOWN], "the very next page:"))
    console.print(page_table(walk.stranger.results[:_SHOWN], f"A stranger is answered too ({walk.stranger.level}):"))


def _show_next(out: Path, walk: Walk) -> None:
    current = out / "work" / "releases" / "current"
    console.print(
        "[bold]Try next[/bold]\n"
        f"  ./aisle serve --release {current} --listen 127.0.0.1:50051\n"
        f"  ./aisle recommend --server 127.0.0.1:50051 --user {walk.shopper.user_id}\n"
        f"  ./aisle evaluate --work {out / 'work'} --protocol global,last\n"
        "  your own shop: docs/data-contract.md, then ./aisle nightly --data DATA --work WORK",
        highlight=False,
        soft_wrap=True,
    )
