"""`experiment report NAME`: what an experiment has shown so far, in the terminal and as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.output import console, finish, step

if TYPE_CHECKING:
    from pipeline.experiment_report import Report


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("report")(report_)


def report_(
    name: Annotated[str, typer.Argument(help="of the experiment")],
    data: Annotated[Path, typer.Option(help="DATA with recommendations/ and events/ (`./aisle events sink`)")],
    folder: Annotated[Path, typer.Option("--experiments", help="folder of experiment files")] = Path(
        "configs/experiments"
    ),
    out: Annotated[Path | None, typer.Option(help="HTML page; default: NAME.html")] = None,
    at: Annotated[str, typer.Option(help="as of this time (ISO, UTC); default: now")] = "",
    fixed_horizon: Annotated[
        bool, typer.Option("--fixed-horizon", help="one look after the end, by the usual z-test")
    ] = False,
    people: Annotated[int, typer.Option(min=0, help="people of the plan (`experiment plan`)")] = 0,
) -> None:
    """Allocation, a confidence sequence for each metric, guardrails, segments, sample ratio, and what happens next. May be read every day."""
    import time

    from core.atomic import write_bytes
    from experiments.files import read_experiment
    from pipeline.experiment_page import page
    from pipeline.experiment_report import report
    from pipeline.experiment_words import verdict

    until = moment(at) if at else time.time_ns() // 1_000
    made = report(read_experiment(folder / f"{name}.yaml").experiment, data, until, people, fixed_horizon=fixed_horizon)
    target = out or Path(f"{name}.html")
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, page(made.about, made.result).encode())
    show(made)
    said = verdict(made.about, made.result)
    step(f"the page: {target}")
    metrics = [
        {
            "metric": c.metric,
            "arm": c.arm,
            "role": c.role,
            "control": c.control,
            "value": c.value,
            "lift": float(c.lift[-1]),
            "low": float(c.low[-1]),
            "high": float(c.high[-1]),
            "decision": c.decision,
            "breached": c.breached,
        }
        for c in made.result.curves
    ]
    finish(
        {
            "experiment": name,
            "verdict": said.headline,
            "next": said.next,
            "arms": dict(zip(made.about.arms, made.result.units[-1].tolist(), strict=True)),
            "counted": dict(zip(made.about.arms, made.result.counted.tolist(), strict=True)),
            "metrics": metrics,
            "sample_ratio_p": made.result.ratio_p,
            "page": str(target),
        }
    )


def moment(text: str) -> int:
    """Microseconds of an ISO time, UTC where it does not say."""
    from datetime import UTC, datetime

    from core.errors import InputError

    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"--at {text}: not a time; expected such as 2026-11-27 or 2026-11-27T08:00+01:00") from None
    return round((read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp() * 1e6)


def show(made: Report) -> None:
    """The tables for people, on stderr."""
    from rich.markup import escape
    from rich.table import Table

    from pipeline.experiment_words import between, meaning, percent, verdict

    about, result = made.about, made.result
    said = verdict(about, result)
    if result.fixed:
        console.print("by the fixed-horizon test: this look, and no other")
    color = {"good": "green", "bad": "red", "open": "yellow"}[said.tone]
    console.print(f"[bold]{escape(about.name)}[/bold]: {escape(about.hypothesis)}")
    console.print(f"[{color}]{escape(said.headline)}[/{color}]\n{escape(said.next)}")
    table = Table(title_justify="left")
    for column in ("metric", "arm", "change", "certain to lie", "so"):
        table.add_column(column)
    for c in result.curves:
        cells = (
            f"{c.metric} ({c.role})",
            c.arm,
            percent(float(c.lift[-1])),
            between(float(c.low[-1]), float(c.high[-1])),
            meaning(c),
        )
        table.add_row(*map(escape, cells))
    console.print(table)
    counts = ", ".join(f"{a} {n:,}" for a, n in zip(about.arms, result.units[-1].tolist(), strict=True))
    split = (
        "shares by a bandit"
        if result.ratio_p is None
        else ("the split is as it should be" if result.sound else "THE SPLIT IS NOT AS IT SHOULD BE")
    )
    console.print(f"exposed: {escape(counts)}; {split}")
