"""`evaluate`: how good the pages are, offline, and where the right items were lost."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from cli.figures import show_figures
from cli.output import finish, step
from core.errors import InputError, nearest


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(evaluate)


def evaluate(
    work: Annotated[Path, typer.Option(help="the work directory of `nightly`")],
    protocol: Annotated[str, typer.Option(help="global, last, or both with a comma")] = "global",
    seen: Annotated[
        str, typer.Option(help="keep or remove what the user already has; auto: as the shop's repeat purchases say")
    ] = "auto",
    release: Annotated[
        Path | None, typer.Option(help="a published release, judged only on events after its window")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML with the keys that differ from configs/pipeline.yaml")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="write one self-contained page of HTML here; answers a sample in many ways")
    ] = None,
    champion: Annotated[
        Path | None, typer.Option(help="a release to compare with in the report; by default the current one")
    ] = None,
    sample: Annotated[int, typer.Option(help="queries that the report answers in many ways", min=20)] = 1000,
) -> None:
    """Judge the twin (what would have been published at T2) on the test window, with its baselines, in one run."""
    from core.config import load_pipeline
    from core.prepared import TWIN, Prepared, Protocol
    from core.work import Work
    from pipeline.evaluate import evaluate_last, evaluate_release, measure
    from pipeline.page import write_page
    from pipeline.publish import Parts
    from pipeline.twin import release_settings, twin

    start, settings_of, place = time.perf_counter(), load_pipeline(config), Work(work)
    prepared = Prepared(place.latest("prepare"))
    protocols = [_one_of(p.strip(), get_args(Protocol), "--protocol") for p in protocol.split(",")]
    which = prepared.seen(_one_of(seen, ("auto", "keep", "remove"), "--seen"))  # type: ignore[arg-type]
    result: dict[str, Any] = {}
    if release is not None:
        result["global"] = evaluate_release(release.resolve(), prepared, which, settings_of, step)
    else:
        for name in protocols:
            if name == "global":
                parts = Parts.latest(place)
                path = twin(place, prepared, parts, release_settings(parts.sources, settings_of))
                result[name] = measure(path, prepared, TWIN, which, settings_of, step)
            else:
                result[name] = evaluate_last(place, prepared, which, settings_of, step)
    for name, figures in result.items():
        show_figures(name, figures)
    if report is not None:
        write_page(
            report, place, prepared, which, settings_of, result, step, release=release, champion=champion, sample=sample
        )
        step(f"report: {report}")
    finish({"protocols": result, "seconds": round(time.perf_counter() - start, 1)})


def _one_of(value: str, known: tuple[str, ...], option: str) -> str:
    if value not in known:
        raise InputError(f"{option} {value!r}: {nearest(value, known)}")
    return value
