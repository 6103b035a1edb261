"""`nightly`: from a shop's tables to a published release, in one resumable run."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import finish, step

if TYPE_CHECKING:
    from pipeline.graph import Planned
    from pipeline.nightly import Mode

_CLOCKS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(nightly)


def nightly(
    data: Annotated[Path, typer.Option(help="the shop's tables: events/, items/, users/ (docs/data-contract.md)")],
    work: Annotated[Path, typer.Option(help="work directory; made if it is not there")],
    config: Annotated[
        Path | None, typer.Option(help="YAML with the keys that differ from configs/pipeline.yaml")
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            help="full: every stage again. incremental: what changed; towers learn when the rule says so. ranker: the same, towers kept. index: new items only"
        ),
    ] = "incremental",
    full: Annotated[bool, typer.Option("--full", help="the same as --mode full")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done and why, and do nothing")] = False,
    time_budget: Annotated[
        float | None,
        typer.Option(min=0, help="minutes: optional work is left out, and no stage begun that would not end in time"),
    ] = None,
    as_of: Annotated[
        datetime | None,
        typer.Option(formats=_CLOCKS, help="the clock that freshness is judged by, UTC; default: the machine's"),
    ] = None,
    redis: Annotated[
        str | None, typer.Option(help="URL of the Redis that the servers use; default: their own under WORK/redis")
    ] = None,
    serving: Annotated[Path | None, typer.Option(help="what the servers got by `serve --config`, if anything")] = None,
) -> None:
    """Forget who asked for it, prepare, train, evaluate, gate and publish. Resumes after a kill: stages whose inputs did not change are not run again."""
    from core.config import load_pipeline
    from core.errors import GateRefused
    from core.work import Work
    from pipeline import nightly as nights
    from pipeline.night_metrics import recorded
    from serving.config import load_serving

    chosen = _mode("full" if full else mode)
    place, settings, servers = Work(work), load_pipeline(config), load_serving(serving)
    if dry_run:
        finish(_planned(nights.dry_run(data, place, settings, servers, chosen, step)))
        return
    with recorded(work) as metrics:
        night = nights.run(
            data,
            place,
            settings,
            servers,
            mode=chosen,
            redis_url=redis,
            budget=None if time_budget is None else 60 * time_budget,
            now=None if as_of is None else as_of.replace(tzinfo=UTC).timestamp(),
            say=step,
        )
        metrics |= night.result()
        finish(metrics)
        if night.refused:
            raise GateRefused(night.refused)


def _mode(text: str) -> Mode:
    from typing import cast

    from core.errors import InputError, nearest
    from pipeline.nightly import MODES

    if text not in MODES:
        raise InputError(f"--mode {text!r}: expected one of {', '.join(MODES)}; {nearest(text, MODES)}")
    return cast("Mode", text)


def _planned(found: list[Planned]) -> dict[str, object]:
    """The JSON of a dry run. `seconds` is null while a stage that would run never ran."""
    known = [p.seconds for p in found if p.seconds is not None]
    return {
        "dry_run": True,
        "stages": {p.stage: {"runs": p.runs, "why": p.why, "seconds": p.seconds} for p in found},
        "seconds": round(sum(known), 1) if len(known) == len(found) else None,
    }
