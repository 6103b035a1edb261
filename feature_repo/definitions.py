"""What Feast reads: entities, feature views and feature services, made from what the tables on disk say they are (WORK/features/views.json).

    cd feature_repo && AISLE_WORK=/path/to/work feast plan

Imports Feast and the standard library alone, so that the `feast` program needs nothing but this folder.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path
from typing import Any, Final

AS_OF_DAY: Final = "as_of_day"
VIEWS: Final = "views.json"

# A model's features: a new set is a new service, so that an old model keeps reading its own.
SERVICES: Final[dict[str, tuple[str, ...]]] = {
    "ranker_v1": ("item", "user", "user_category", "user_brand"),
    "cold_start_v1": ("cohort", "cohort_item"),
    "neighbours_v1": ("pair",),
}


def read_tables(features: Path) -> list[dict[str, Any]]:
    """The declared tables of `WORK/features`."""
    return list(json.loads((features / VIEWS).read_text())["tables"])


def build(features: Path, *, spark: bool = False) -> dict[str, Any]:
    """Name -> Feast object: one view for each table, one entity for each key column, and the services whose views are there.

    Args:
        features: `WORK/features`.
        spark: Whether Spark reads the tables instead of DuckDB.
    """
    from feast import Entity, FeatureService
    from feast.value_type import ValueType

    tables = read_tables(features)
    keys = sorted({key for table in tables for key in table["keys"]})
    entities = {k: Entity(name=k, join_keys=[k], value_type=ValueType.STRING) for k in keys}
    views = {t["name"]: _view(t, features, entities, spark) for t in tables}
    services = {
        name: FeatureService(name=name, features=[views[v] for v in wanted if v in views])
        for name, wanted in SERVICES.items()
        if any(v in views for v in wanted)
    }
    return {f"entity_{k}": e for k, e in entities.items()} | views | services


def _view(table: dict[str, Any], features: Path, entities: dict[str, Any], spark: bool) -> Any:
    from feast import FeatureView, Field
    from feast.types import Float32, Int32, String

    described = [
        Field(name=f["name"], dtype=Float32, description=f"{f['meaning']} [{f['unit']}]") for f in table["fields"]
    ]
    return FeatureView(
        name=table["name"],
        description=table["meaning"],
        entities=[entities[key] for key in table["keys"]],
        schema=[
            *(Field(name=key, dtype=String) for key in table["keys"]),
            *described,
            Field(name=AS_OF_DAY, dtype=Int32, description="the day the row is as of, days since the epoch"),
        ],
        source=_source(table["name"], features, spark),
        ttl=dt.timedelta(days=table["ttl_days"]),
        online=table["online"],
    )


def _source(name: str, features: Path, spark: bool) -> Any:
    columns = {"timestamp_field": "event_timestamp", "created_timestamp_column": "created"}
    folder = features.resolve() / name
    if spark:
        from feast.infra.offline_stores.contrib.spark_offline_store.spark_source import SparkSource

        return SparkSource(name=name, path=str(folder), file_format="parquet", **columns)
    from feast import FileSource
    from feast.data_format import ParquetFormat

    return FileSource(name=name, path=str(folder / "*" / "*.parquet"), file_format=ParquetFormat(), **columns)


def _of_the_environment() -> dict[str, Any]:
    """The objects for the `feast` program, which imports this file as a plain module."""
    work = os.environ.get("AISLE_WORK")
    if not work:
        raise SystemExit(
            "AISLE_WORK is not set: export AISLE_WORK=/path/to/work, the directory of `./aisle nightly --work`"
        )
    features = Path(work) / "features"
    if not (features / VIEWS).exists():
        raise SystemExit(f"{features}: no {VIEWS}: run `./aisle features export --work {work}` first")
    return build(features, spark=os.environ.get("AISLE_FEAST_OFFLINE") == "spark")


if __name__ == "definitions":
    globals().update(_of_the_environment())
