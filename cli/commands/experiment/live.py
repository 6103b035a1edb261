"""`experiment validate, status, stop, resume`: the files of experiments, and what servers make of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.output import console, finish, step

if TYPE_CHECKING:
    from rich.table import Table

    from aisle.v1.admin_pb2 import ExperimentStatus

_Folder = Annotated[Path, typer.Option("--folder", help="of the experiment files")]


def register(group: typer.Typer) -> None:
    """Add the commands."""
    group.command("validate")(validate)
    group.command("status")(status)
    group.command("stop")(stop)
    group.command("resume")(resume)


def validate(
    where: Annotated[Path, typer.Argument(help="a folder of experiments, or one file")] = Path("configs/experiments"),
    work: Annotated[Path | None, typer.Option(help="whose releases the arms may name")] = None,
) -> None:
    """Check experiment files as a server would; the first mistake is told with its file and line."""
    from core.work import Work
    from experiments.files import load_experiments, read_experiment
    from experiments.releases import finder

    find = finder(None if work is None else Work(work).releases)
    found = load_experiments(where, find) if where.is_dir() else (read_experiment(where, find),)
    for written in found:
        experiment = written.experiment
        first, last = experiment.part
        step(f"{experiment.name}: {first:g} to {last:g} of layer {experiment.layer}, arms {', '.join(experiment.arms)}")
    finish({"experiments": [w.experiment.name for w in found], "ids": {w.experiment.name: w.id for w in found}})


def status(
    server: Annotated[str, typer.Option(help="HOST:PORT")],
    name: Annotated[str | None, typer.Argument(help="of one experiment; none: all")] = None,
) -> None:
    """What runs on a server: requests by arm since one of its workers began, and of bandits shares and sessions; `report` counts people of all."""
    from rich.table import Table

    from core.errors import NotFoundError, nearest
    from serving.client import Client

    with Client(server) as client:
        found = client.status().experiments
    names = [e.name for e in found.experiments]
    if name is not None and name not in names:
        raise NotFoundError(f"{server} has no experiment {name!r}; {nearest(name, names)}")
    table = Table("experiment", "state", "of its layer", "requests")
    bandits = Table("bandit", "version", "arm", "share of new sessions", "exposed", "rewarded", "split")
    rows: list[dict[str, Any]] = []
    for e in found.experiments:
        if name is None or e.name == name:
            requests = dict(e.requests)
            said = ", ".join(f"{arm} {n}" for arm, n in requests.items() if n)
            table.add_row(e.name, e.state, f"{e.share:.0%}", said or "none")
            row = {"name": e.name, "id": e.id, "state": e.state, "share": e.share, "requests": requests}
            row |= {"why": e.why, "releases": dict(e.releases), "copies": dict(e.copies)}
            if e.version:
                row |= _bandit(bandits, e)
            rows.append(row)
    console.print(table)
    if bandits.row_count:
        console.print(bandits)
    for row in rows:
        if row["why"]:
            step(f"{row['name']}: {row['why']}")
    if found.problem:
        step(f"the newest files are not in use: {found.problem}")
    finish({"folder": found.folder, "problem": found.problem, "experiments": rows})


def _bandit(table: Table, e: ExperimentStatus) -> dict[str, Any]:
    """Adds its arms to the table; the same for programs."""
    from experiments.inference.sample_ratio import ALARM

    shares, exposed, rewarded = dict(e.shares), dict(e.exposed), dict(e.rewarded)
    split = "as it should be" if e.sample_ratio_p >= ALARM else f"NOT AS IT SHOULD BE (p = {e.sample_ratio_p:.2g})"
    for at, arm in enumerate(exposed or shares):
        head = (e.name, str(e.version)) if not at else ("", "")
        share = f"{shares[arm]:.1%}" if arm in shares else "held out"
        table.add_row(*head, arm, share, str(exposed.get(arm, 0)), str(rewarded.get(arm, 0)), split if not at else "")
    found = {"policy": e.policy, "version": e.version, "decided": e.decided, "shares": shares}
    return found | {"exposed": exposed, "rewarded": rewarded, "sample_ratio_p": e.sample_ratio_p}


def stop(name: Annotated[str, typer.Argument(help="of the experiment")], folder: _Folder) -> None:
    """The kill switch: within a second every server that reads the folder answers as without the experiment."""
    from core import atomic
    from experiments.files import switch_of

    switch = switch_of(folder, name)
    if not switch.exists():  # one that a server pulled says why
        with atomic.new_file(switch) as beside:
            beside.touch()
    finish({"experiment": name, "stopped": True})


def resume(name: Annotated[str, typer.Argument(help="of the experiment")], folder: _Folder) -> None:
    """Take the kill switch back."""
    from experiments.files import switch_of

    switch_of(folder, name).unlink(missing_ok=True)
    finish({"experiment": name, "stopped": False})
