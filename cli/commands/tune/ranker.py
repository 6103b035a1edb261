"""`tune ranker`: how its trees grow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command()(ranker)


def ranker(
    work: Annotated[Path, typer.Option(help="work directory in which `train-retrieval` has run")],
    config: Annotated[
        Path | None,
        typer.Option(help="YAML with the keys that differ from configs/pipeline.yaml: where the search begins"),
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=1, help="that the search may take; a trial under way is finished")
    ] = 1800,
    requests: Annotated[
        int, typer.Option(min=100, help="to learn from in each trial; a quarter as many validate")
    ] = 4000,
    out: Annotated[
        Path | None, typer.Option(help="where the settings found go; default: WORK/tuned-ranker.yaml")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="of the search")] = 7,
    trials: Annotated[int | None, typer.Option(min=1, help="at most; default: as many as the time allows")] = None,
) -> None:
    """Search settings of the ranker by NDCG@10 of the validation window, in grades of `ranker.objective`; write those that beat the present ones."""
    from core.work import Work
    from pipeline.tune_ranker import tune_ranker

    finish(tune_ranker(Work(work), config, seconds, requests, out or work / "tuned-ranker.yaml", seed, step, trials))
