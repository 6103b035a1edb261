"""`tune retrieval`: the towers' settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command()(retrieval)


def retrieval(
    work: Annotated[Path, typer.Option(help="work directory, with prepared data")],
    config: Annotated[
        Path | None,
        typer.Option(help="YAML with the keys that differ from configs/pipeline.yaml: where the search begins"),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, help="that the search may take; a fit under way is ended with its epoch")
    ] = 1800,
    trials: Annotated[int | None, typer.Option(min=1, help="to stop after, if the time allows as many")] = None,
    out: Annotated[
        Path | None, typer.Option(help="where the settings found go; default: WORK/tuned-retrieval.yaml")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the search")] = 7,
) -> None:
    """Search settings of the towers by recall@100 of the validation window; write those that beat the present ones, for `--config`."""
    from core.prepared import Prepared
    from core.work import Work
    from pipeline.tune import tune_retrieval

    prepared = Prepared(Work(work).latest("prepare"))
    finish(tune_retrieval(prepared, config, seconds, trials, out or work / "tuned-retrieval.yaml", seed, step))
