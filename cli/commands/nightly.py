"""`nightly`: from a shop's tables to a published release, in one resumable run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(nightly)


def nightly(
    data: Annotated[Path, typer.Option(help="the shop's tables: events/, items/, users/ (docs/data-contract.md)")],
    work: Annotated[Path, typer.Option(help="work directory; made if it is not there")],
    config: Annotated[
        Path | None, typer.Option(help="YAML with the keys that differ from configs/pipeline.yaml")
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="run every stage again, whatever is already there")] = False,
    redis: Annotated[
        str | None, typer.Option(help="URL of the Redis that the servers use; default: their own under WORK/redis")
    ] = None,
    serving: Annotated[Path | None, typer.Option(help="what the servers got by `serve --config`, if anything")] = None,
) -> None:
    """Forget who asked for it, prepare, train, evaluate, gate and publish. Resumes after a kill: stages whose inputs did not change are not run again."""
    from core.config import load_pipeline
    from core.errors import GateRefused
    from core.work import Work
    from pipeline.night_metrics import recorded
    from pipeline.nightly import run
    from serving.config import load_serving

    with recorded(work) as metrics:
        night = run(
            data, Work(work), load_pipeline(config), load_serving(serving), full=full, redis_url=redis, say=step
        )
        metrics |= night.result()
        finish(metrics)
        if night.refused:
            raise GateRefused(night.refused)
