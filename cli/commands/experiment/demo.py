"""`experiment demo`: from the file of a bandit to its report and its end, on a running server, in a minute or two."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from cli.output import console, finish, step


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command("demo")(demo_)


def demo_(
    work: Annotated[
        Path | None, typer.Option(help="whose release is served, and not changed; default: that of `./aisle demo`")
    ] = None,
    seconds: Annotated[float, typer.Option(min=5, max=600, help="for how long the experiment may run")] = 90,
    seed: Annotated[int, typer.Option(help="another seed is other chance")] = 1,
    keep: Annotated[
        Path | None, typer.Option(help="an empty folder for logs and report; default: none is kept")
    ] = None,
) -> None:
    """Drop an experiment into a running server, watch its shares follow what shoppers click, stop it, and read its report."""
    import contextlib
    import time

    from cli.commands.experiment.report import show
    from core.atomic import write_bytes
    from core.errors import AisleError
    from core.work import Work
    from experiments.files import read_experiment
    from pipeline.experiment_demo import BETTER, NAME, RATES, play
    from pipeline.experiment_page import page
    from pipeline.experiment_report import report

    began = time.monotonic()
    release = _release() if work is None else Work(work).current
    with contextlib.ExitStack() as stack:
        place = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aisle-experiment-")))
        planted = ", ".join(f"{rate:.0%} of the visits with {arm}" for arm, rate in RATES.items())
        step(f"simulated shoppers click in {planted}; the server does not know that")
        story = play(release, place, seconds, seed, step)
        experiment = read_experiment(place / "experiments" / f"{NAME}.yaml").experiment
        made = report(experiment, place / "data", time.time_ns() // 1_000)
        console.print("\n[bold]The report[/bold], as `./aisle experiment report` prints it:\n")
        show(made)
        if keep is not None:
            write_bytes(keep / f"{NAME}.html", page(made.about, made.result).encode())
    last = story.looks[-1]
    console.print(
        f"\n[bold]What happened.[/bold] {story.sessions:,} visits came. Each new one was given an arm by the shares of the moment, and kept it. "
        f"What the shoppers clicked was counted by visit, and every other second the shares were made anew: {BETTER} began with half of the visits "
        f"and ended with {last.shares[BETTER]:.0%}. A little always stays with the other, in case times change.\nTry your own: docs/experiments.md\n",
        highlight=False,
    )
    finish(
        {
            "taken_up_seconds": round(story.taken_up, 2),
            "shares": last.shares,
            "version": last.version,
            "exposed": last.exposed,
            "rewarded": last.rewarded,
            "sample_ratio_p": last.ratio_p,
            "stopped_after_seconds": round(story.stopped_after, 2),
            "visits": story.sessions,
            "seconds": round(time.monotonic() - began, 1),
        }
    )
    if story.problem:
        raise AisleError(f"a shopper was not answered: {story.problem}")
    if last.shares[BETTER] <= 0.5:
        raise AisleError(f"after {last.seconds:.0f} s the shares had not moved to {BETTER}: give it more --seconds")
    if story.stopped_after > 1:
        raise AisleError(f"the kill switch took {story.stopped_after:.1f} s, expected one at most")


def _release() -> Path:
    """That of `./aisle demo`, which is made where it is missing."""
    from core.config import load_pipeline
    from core.errors import GateRefused
    from pipeline.demo import run_night

    night = run_night(Path(tempfile.gettempdir()) / "aisle-demo", load_pipeline(), step)
    if night.release is None:
        raise GateRefused(night.refused)
    return night.release
