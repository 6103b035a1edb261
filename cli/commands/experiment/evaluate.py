"""`experiment evaluate --log L --policy P`: what another policy would have earned, from pages that were left to chance."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from cli.output import console, finish, step

_NAMES: Final = {
    "ips": "inverse propensity",
    "snips": "self-normalised",
    "dm": "direct method",
    "dr": "doubly robust",
}
_ROUGH: Final = 200  # effective rows below which a normal interval of rare rewards is not to be trusted


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("evaluate")(evaluate_)


def evaluate_(
    log: Annotated[
        Path,
        typer.Option("--log", help="DATA with recommendations/ and events/, or a file of places with propensities"),
    ],
    policy: Annotated[
        str,
        typer.Option(
            "--policy",
            help="`usual`, `plackett-luce:STEEPNESS` or a file (request_id, position, item_id, probability); "
            "for a file of places `log:FILE` or a table (position, item_id, probability)",
        ),
    ],
    success: Annotated[list[str] | None, typer.Option(help="event type that makes a place a success")] = None,
    hours: Annotated[float, typer.Option(min=0.01, help="attribution window")] = 24.0,
    clip: Annotated[float, typer.Option(min=1, help="largest weight")] = 1e9,
    floor: Annotated[float, typer.Option(min=0.5, max=1, help="least coverage; below it the log is refused")] = 0.9,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.999, help="of the intervals")] = 0.95,
    seed: Annotated[int, typer.Option(help="of the reward model's folds")] = 1,
) -> None:
    """Value per place by IPS, self-normalised IPS, direct method and doubly robust, with intervals and what they rest on."""
    from experiments.off_policy import evaluate

    if log.is_dir():
        from core.errors import nearest
        from core.schema import EventType
        from pipeline.explored_log import policy_of, read_pages, rows_of

        kinds = success or [str(EventType.CLICK)]
        for kind in kinds:
            if kind not in list(EventType):
                from core.errors import InputError

                raise InputError(f"--success {kind}: no event type; {nearest(kind, EventType)}")
        chosen = policy_of(policy)
        pages = read_pages(log, kinds, hours)
        step(f"{log}: {len(pages):,} explored pages")
        rows, target = rows_of(pages, chosen)
    else:
        from pipeline.propensity_log import read_log, target_of

        rows, items, _ = read_log(log)
        target = target_of(rows, items, policy)
    found = evaluate(rows, target, clip=clip, floor=floor, confidence=confidence, seed=seed)
    show(found, policy, confidence)
    finish({"policy": policy, "confidence": confidence, "places": {k: as_json(e) for k, e in found.items()}})


def as_json(evaluation: Any) -> dict[str, Any]:
    """Of one place."""
    from dataclasses import asdict

    estimates = {name: asdict(e) for name, e in evaluation.estimates.items()}
    return {"logged": evaluation.logged, "estimates": estimates, "diagnostics": asdict(evaluation.diagnostics)}


def show(found: dict[str, Any], policy: str, confidence: float) -> None:
    """Two tables for people: all places by each estimator, and each place by two of them."""
    from rich.markup import escape
    from rich.table import Table

    whole = found["all"]
    title = f"reward per place: {escape(policy)} ({confidence:.0%} intervals; logged pages earned {whole.logged:.5f})"
    shown = Table(title=title, title_justify="left")
    for column in ("estimator", "value", "interval"):
        shown.add_column(column)
    for name, x in whole.estimates.items():
        shown.add_row(_NAMES[name], f"{x.value:.5f}", f"{x.low:.5f} to {x.high:.5f}")
    console.print(shown)
    d = whole.diagnostics
    step(
        f"{d.rows:,} places of {d.clusters:,} people or pages, worth {d.effective:,.0f} of the policy's own; it is covered to {d.coverage:.1%}; "
        f"mean weight {d.mean_weight:.3f}, largest {d.largest:.1f}, {d.clipped:,} cut"
    )
    by_place = Table(title="each place, given the others as they were", title_justify="left")
    for column in ("place", "rows", "effective", "covered", "logged", "self-normalised", "doubly robust"):
        by_place.add_column(column, justify="right")
    for place, e in found.items():
        if place != "all":
            cells = [f"{x.value:.4f} ± {(x.high - x.low) / 2:.4f}" for x in (e.estimates["snips"], e.estimates["dr"])]
            d = e.diagnostics
            by_place.add_row(
                place, f"{d.rows:,}", f"{d.effective:,.0f}", f"{d.coverage:.0%}", f"{e.logged:.4f}", *cells
            )
    console.print(by_place)
    least = min(e.diagnostics.effective for e in found.values())
    if least < _ROUGH:
        step(f"some place has an effective sample of {least:.0f}: its intervals are rough; read the first table")
