"""What each event file holds: counts, ranges and distinct values by file, so that files can come, change and go one by one."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column as Expr
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from core.schema import EVENTS, MINUTE, REASON, Column
from data_prep.reading import FILE
from data_prep.rejects import file_name

Facts = dict[str, Any]  # "rows", ..., "columns": {column: {"n", "min", "max"} or {"n", "sketch"}}
_SKETCH_BITS: Final = 10  # 3 % error of the number of distinct values
_COUNTS: Final = ("rows", "events", "with_ids", "off_minute")


def by_file(judged: DataFrame, data: Path) -> dict[str, Facts]:
    """One look over judged rows, file by file (name relative to the data directory).

    Each has `rows`, and of the usable ones `events`, `with_ids` and `off_minute` (without an id, at a time that is no whole minute); and for each column
    that usable rows hold: how many, the range of numbers and times, a sketch of the distinct values of text.
    """
    usable = F.col(REASON).isNull()
    wanted = {
        "rows": F.count(F.lit(1)),
        "events": F.count(F.when(usable, 1)),
        "with_ids": F.count(F.when(usable, F.col(Column.EVENT_ID))),
        # of those alone that it decides about: live events with ids join an old log of whole minutes every night
        "off_minute": F.count(
            F.when(usable & F.col(Column.EVENT_ID).isNull() & (F.col(Column.EVENT_TIME) % MINUTE != 0), 1)
        ),
    }
    for c, kind in EVENTS.kinds.items():
        value = F.when(usable, F.col(c))
        wanted[f"{c}/n"] = F.count(value)
        wanted |= (
            {f"{c}/sketch": F.hll_sketch_agg(value, _SKETCH_BITS)}
            if kind == "text"
            else {f"{c}/min": F.min(value), f"{c}/max": F.max(value)}
        )
    rows = judged.groupBy(FILE).agg(*[e.alias(name) for name, e in wanted.items()])
    return {row["name"]: _facts(row.asDict()) for row in rows.withColumn("name", source_name(data)).collect()}


def source_name(data: Path) -> Expr:
    """The `_file` column as data_prep.inputs names files: relative to the data directory, without escapes."""
    # the function is made for forms, where + is a space
    return F.url_decode(F.replace(file_name(data), F.lit("+"), F.lit("%2B")))


def _facts(found: dict[str, Any]) -> Facts:
    columns: dict[str, Any] = {}
    for c, kind in EVENTS.kinds.items():
        if n := found[f"{c}/n"]:
            rest = (
                {"sketch": base64.b64encode(found[f"{c}/sketch"]).decode()}
                if kind == "text"
                else {k: found[f"{c}/{k}"] for k in ("min", "max")}
            )
            columns[c.value] = {"n": n} | rest
    return {k: int(found[k]) for k in _COUNTS} | {"columns": columns}


def total(facts: Iterable[Facts]) -> dict[str, int]:
    """`rows`, `events`, `with_ids`, `off_minute` over all files."""
    files = list(facts)
    return {k: sum(f[k] for f in files) for k in _COUNTS}


def profile(spark: SparkSession, facts: Iterable[Facts], scratch: Path) -> dict[str, dict[str, Any]]:
    """Of each column that usable rows hold: nulls, the range of numbers and times, about how many distinct values text has.

    The estimate depends a little on the order of `facts`.
    """
    files = list(facts)
    n = sum(f["events"] for f in files)
    found: dict[str, dict[str, Any]] = {}
    sketches: list[tuple[str, bytes]] = []
    for c in EVENTS.kinds:
        parts = [f["columns"][c.value] for f in files if c.value in f["columns"]]
        if not parts:
            continue
        found[c.value] = {"nulls": n - sum(p["n"] for p in parts)}
        if "sketch" in parts[0]:
            sketches += [(c.value, base64.b64decode(p["sketch"])) for p in parts]
        else:
            found[c.value] |= {"min": min(p["min"] for p in parts), "max": max(p["max"] for p in parts)}
    if sketches:
        path = scratch / "sketches.parquet"
        names, blobs = zip(*sketches, strict=True)
        pq.write_table(pa.table({"column": pa.array(names), "sketch": pa.array(blobs, pa.binary())}), path)
        united = F.hll_sketch_estimate(F.hll_union_agg("sketch")).alias("distinct")
        for row in spark.read.parquet(str(path)).groupBy("column").agg(united).collect():
            found[row["column"]]["distinct"] = int(row["distinct"])
    return found
