"""`./aisle prepare`: a shop's tables become the prepared data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.output import finish, step


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command()
    def prepare(
        data: Annotated[
            Path, typer.Option(help="Data directory with events/, and items/ and users/ where the shop has them.")
        ],
        work: Annotated[Path, typer.Option(help="Work directory; made if it is not there.")],
        config: Annotated[
            Path | None, typer.Option(help="YAML file with the settings that differ from configs/pipeline.yaml.")
        ] = None,
        full: Annotated[
            bool, typer.Option("--full", help="Read every file again, instead of what is new since the last night.")
        ] = False,
    ) -> None:
        """Validate events, items and users, write everything that the later stages read, and say what is unlike the night before."""
        import time

        from core.artifact import read_manifest
        from core.config import load_pipeline
        from core.errors import GateRefused
        from core.work import Work
        from data_prep.prepare import STAGE, run
        from pipeline import drift, gates

        settings, place, start = load_pipeline(config), Work(work), time.monotonic()
        with place.locked(make=True):
            before = place.latest(STAGE) if place.has(STAGE) else None
            held_against = drift.baseline(place)
            path = run(data, place, settings, step, full=full, catalog=place.catalog)
        about = read_manifest(path).about
        seconds = round(time.monotonic() - start, 1)
        step(f"prepared: {path}" + (" (unchanged)" if path == before else ""))
        found = drift.drifts(held_against, path, settings.drift, step)
        facts = {"stage": STAGE, "seconds": seconds, "skipped": path == before, "prepared": path}
        finish(facts | {"drift": [d.line for d in found]} | about["counts"])
        verdict = gates.data(found)
        if not verdict.passed:
            raise GateRefused([verdict.reason])
