"""`experiment plan`: how many people it takes, and how many days."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from cli.output import finish, step

_LEAST_LIFT: Final = 1e-4


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("plan")(plan_)


def plan_(
    lift: Annotated[float, typer.Option(help="smallest change worth finding: .03 for +3 %")],
    metric: Annotated[str, typer.Option(help="conversion | purchases | clicks")] = "conversion",
    work: Annotated[Path | None, typer.Option(help="measure rate, habits and traffic in its prepared events")] = None,
    baseline: Annotated[float | None, typer.Option(help="or: the rate or mean per person, such as .04")] = None,
    deviation: Annotated[float | None, typer.Option(help="with --baseline of a mean: standard deviation")] = None,
    traffic: Annotated[float | None, typer.Option(help="with --baseline: new people a day")] = None,
    share: Annotated[float, typer.Option(min=0.001, max=1, help="share of people in the experiment")] = 1.0,
    arms: Annotated[int, typer.Option(min=2, max=20, help="with the control, of equal shares")] = 2,
    window_days: Annotated[float, typer.Option(min=0.04, max=28, help="attribution window")] = 7.0,
    alpha: Annotated[float, typer.Option(min=0.0001, max=0.5, help="how often nothing is taken for something")] = 0.05,
    power: Annotated[float, typer.Option(min=0.5, max=0.999, help="how often the lift is found")] = 0.8,
) -> None:
    """People and days that it takes to find a lift: by a test looked at daily, and by one look at the end."""
    import math

    import numpy as np

    from core.errors import InputError, nearest
    from experiments.plan import conversion_spread, plan
    from pipeline.experiment_plan import PLANNED, days_for, past

    if not -1 < lift < math.inf or abs(lift) < _LEAST_LIFT:
        raise InputError(
            f"--lift {lift:g}: expected a change such as .03, above -1 and at least {_LEAST_LIFT:g} either way"
        )
    if metric not in PLANNED:
        raise InputError(f"--metric {metric}: not one that can be planned; {nearest(metric, PLANNED)}")
    if (work is None) == (baseline is None):
        raise InputError("experiment plan needs either --work WORK or --baseline (with --traffic, to know the days)")
    for option, value in (("--baseline", baseline), ("--deviation", deviation), ("--traffic", traffic)):
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{option} {value:g}: expected a number above 0")
    kept = 1.0
    if work is not None:
        from core.prepared import Prepared
        from core.work import Work

        seen = past(Prepared(Work(work).latest("prepare")), metric, window_days)
        baseline, spread, kept, arrived = seen.value, seen.spread, seen.kept, seen.arrived
    else:
        assert baseline is not None
        if metric == "conversion" and not baseline < 1:
            raise InputError(f"--baseline {baseline:g}: expected a rate between 0 and 1")
        if metric != "conversion" and deviation is None:
            raise InputError(f"--metric {metric} is a mean: expected --deviation beside --baseline")
        spread = conversion_spread(baseline) if metric == "conversion" else (float(deviation or 0) / baseline) ** 2
        arrived = np.arange(1, 29) * (traffic if traffic is not None else math.nan)
    found = plan(math.log1p(lift), spread, (1.0, 1.0), alpha / (arms - 1), power)
    people = {"sequential": found.sequential, "stopping": found.stopping, "fixed": found.fixed}
    people = {name: math.ceil(n * arms / 2) for name, n in people.items()}
    whole = {name: days_for(n, arrived, share) + window_days for name, n in people.items()}
    days = {name: math.ceil(n) if math.isfinite(n) else None for name, n in whole.items()}
    step(f"{metric} is {baseline:.4g}; {lift:+.1%} of it is looked for; habits explain {1 - kept:.0%} of the variance")
    for name, text in (
        ("stopping", "looked at every day, it ends on average after"),
        ("sequential", f"and by then it has found the lift {power:.0%} of the time:"),
        ("fixed", "with a single look at the end it would take"),
    ):
        step(f"{text} {people[name]:,} people" + (f", {days[name]:,} days" if days[name] is not None else ""))
    finish(
        {
            "metric": metric,
            "baseline": baseline,
            "lift": lift,
            "arms": arms,
            "share": share,
            "people": people,
            "days": days,
            "variance_kept": kept,
        }
    )
