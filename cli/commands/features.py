"""`features export|apply|materialize|list|skew`: the feature tables of a work directory, the Feast store over them, and whether serving saw the same."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from cli.output import console, finish, step

_Work = Annotated[Path, typer.Option(help="work directory")]
_Redis = Annotated[
    str | None, typer.Option(help="URL of a Redis, e.g. unix:///run/redis.sock; default: SQLite under WORK")
]


def register(app: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(no_args_is_help=True, help="Feature tables and the Feast store over them (docs/features.md).")
    group.command()(export)
    group.command()(apply)
    group.command()(materialize)
    group.command("list")(list_statistics)
    group.command()(skew)
    app.add_typer(group, name="features")


def export(
    work: _Work,
    config: Annotated[
        Path | None, typer.Option(help="YAML with the keys that differ from configs/features.yaml")
    ] = None,
) -> None:
    """Write the statistics of the newest prepared data as Parquet tables; only days on which something is new or different."""
    import time

    from core.prepared import Prepared
    from core.work import Work
    from pipeline.feature_files import export as write
    from pipeline.feature_tables import load_features

    start, place, settings = time.perf_counter(), Work(work), load_features(config)
    with place.locked():
        done = write(Prepared(place.latest("prepare")), place.root / "features", settings, step)
    tables = {name: asdict(t) for name, t in done.items()}
    finish({"tables": tables, "features": work / "features", "seconds": round(time.perf_counter() - start, 2)})


def apply(work: _Work, redis: _Redis = None) -> None:
    """Register the tables with Feast: entities, feature views, services. As `feast apply` in feature_repo/ does."""
    from core.work import Work
    from feature_repo.store import apply as register_views
    from feature_repo.store import features_of, open_store

    features_of(work)
    with Work(work).locked():
        views = register_views(open_store(work, redis), work)
    finish({"views": views})


def materialize(
    work: _Work,
    redis: _Redis = None,
    full: Annotated[
        bool, typer.Option("--full", help="every day again, as for an online store that lost its content")
    ] = False,
) -> None:
    """Bring the online store up to the tables: days that are new or re-opened since the last time."""
    from core.work import Work
    from feature_repo.store import apply as register_views
    from feature_repo.store import features_of, open_store
    from feature_repo.store import materialize as load

    features_of(work)
    with Work(work).locked():
        store = open_store(work, redis)
        register_views(store, work)
        done = load(store, work, full=full)
    finish({"views": done.views, "seconds": done.seconds})


def list_statistics() -> None:
    """Every declared statistic: what it is, its unit, window, smoothing and default."""
    from rich.table import Table

    from ranking.statistics import STATISTICS

    table = Table()
    for column in ("statistic", "meaning", "unit", "default", "smoothed towards", "ttl"):
        table.add_column(column)
    for s in STATISTICS:
        table.add_row(s.name, s.meaning, s.unit, f"{s.default:g}", s.prior, f"{s.ttl_days} d" if s.ttl_days else "live")
    console.print(table)
    finish({"statistics": [asdict(s) | {"ttl_days": s.ttl_days} for s in STATISTICS]})


def skew(
    log: Annotated[Path, typer.Option(help="DATA/recommendations, as `events sink` writes it")],
    release: Annotated[
        Path, typer.Option(help="the release whose pages are compared: its directory, or WORK/releases/current")
    ],
    work: Annotated[
        Path | None, typer.Option(help="where its user state is; default: the folder above `releases`")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="where the event log is; default: the folder that --log is in")
    ] = None,
    most: Annotated[int, typer.Option(min=1, help="pages to compare, a sample of those with features")] = 1_000,
) -> None:
    """Compute the features of logged requests again, from the release, the user state and the event log, and name those that drifted."""
    from core.work import Work
    from pipeline.skew import skew as compare

    place = Work(work or release.absolute().parent.parent)
    found = compare(log, release, place, data or log.absolute().parent, most)
    step(f"{found['requests']} requests, {found['different_requests']} of them different")
    for name, drift in found["features"].items():
        step(
            f"{name}: {drift['share']:.2%} of values, mean {drift['mean_absolute']:.4g}, largest {drift['largest']:.4g}"
        )
    finish(found)
