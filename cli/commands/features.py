"""`features export|apply|materialize|list`: the feature tables of a work directory, and the Feast store over them."""

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
        table.add_row(s.name, s.meaning, s.unit, f"{s.default:g}", s.prior, f"{s.ttl_days} d")
    console.print(table)
    finish({"statistics": [asdict(s) | {"ttl_days": s.ttl_days} for s in STATISTICS]})
