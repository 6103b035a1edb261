"""Usable events with rows for ids, sorted by (user, time, item, type): from Spark to memory-mapped columns."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from core.columns import Array
from core.ids import IdMap
from core.schema import EVENT_TYPES, Column
from data_prep.appender import ColumnAppender
from data_prep.derive import GIVEN_SESSION
from data_prep.sessions import NO_SESSION
from data_prep.validate import PERSON

_ROWS_PER_PART: Final = 500_000
# column -> dtype on disk; value where it is missing
COLUMNS: Final = {
    Column.USER.value: "int32",
    Column.ITEM.value: "int32",
    Column.TIME.value: "int64",
    Column.TYPE.value: "int8",
    Column.PRICE.value: "float32",
    Column.QUANTITY.value: "float32",
    Column.VALUE.value: "float32",
    Column.POSITION.value: "int32",
}
_MISSING: Final = {
    Column.PRICE.value: np.nan,
    Column.QUANTITY.value: 1.0,
    Column.VALUE.value: np.nan,
    Column.POSITION.value: -1,
}


def write_sorted(spark: SparkSession, rows: DataFrame, n_rows: int, items: IdMap, people: IdMap, scratch: Path) -> Path:
    """Usable events with rows instead of ids as Parquet parts, sorted over all parts; every id must be in the maps."""
    item_rows = _id_table(spark, items, Column.ITEM_ID, Column.ITEM, scratch / "item-rows.parquet")
    person_rows = _id_table(spark, people, PERSON, Column.USER, scratch / "person-rows.parquet")
    code = F.create_map(*[F.lit(v) for t in EVENT_TYPES for v in (t.value, t.code)])[F.col(Column.EVENT_TYPE)]
    columns = [
        F.col(Column.USER),
        F.col(Column.ITEM),
        F.col(Column.EVENT_TIME).alias(Column.TIME),
        code.cast("tinyint").alias(Column.TYPE),
        *[F.col(c).cast("float") for c in (Column.PRICE, Column.QUANTITY, Column.VALUE)],
        F.col(Column.POSITION).cast("int"),
        F.xxhash64(Column.SESSION_ID).alias(GIVEN_SESSION),
    ]
    given = F.when(F.col(Column.SESSION_ID).isNotNull(), columns[-1]).otherwise(NO_SESSION).alias(GIVEN_SESSION)
    table = rows.join(item_rows, Column.ITEM_ID).join(person_rows, PERSON).select(*columns[:-1], given)
    parts = max(spark.sparkContext.defaultParallelism, -(-n_rows // _ROWS_PER_PART))
    # rows of users are dense: equal spans of rows are parts of about equal size, and part order is user order
    part = F.floor(F.col(Column.USER).cast("bigint") * parts / len(people)).cast("int")
    out = scratch / "sorted"
    # after the contract's order come all other columns, so that equal rows are the only ties and the files do not depend on how
    # Spark splits its work
    first = [Column.USER.value, Column.TIME.value, Column.ITEM.value, Column.TYPE.value]
    order = [*first, *(c for c in table.columns if c not in first)]
    table.repartitionById(parts, part).sortWithinPartitions(*order).write.parquet(str(out))
    return out


def to_columns(parts: Path, folder: Path, scratch: Path) -> int:
    """Stream the sorted parts into `folder` (the `COLUMNS`) and `scratch/events` (the given session); number of events."""
    with ColumnAppender(folder, COLUMNS) as out, ColumnAppender(scratch / "events", {GIVEN_SESSION: "int64"}) as given:
        for part in sorted(parts.glob("part-*.parquet")):
            with pq.ParquetFile(part) as f:
                for batch in f.iter_batches(1 << 18):
                    out.append({name: _numbers(batch.column(name), _MISSING.get(name)) for name in COLUMNS})
                    given.append({GIVEN_SESSION: _numbers(batch.column(GIVEN_SESSION), None)})
        return out.rows


def _numbers(column: pa.Array, missing: float | None) -> Array:
    if missing is not None:
        column = column.fill_null(pa.scalar(missing, column.type))
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _id_table(spark: SparkSession, ids: IdMap, id_column: str, row_column: str, path: Path) -> DataFrame:
    pq.write_table(
        pa.table({id_column: pa.array(ids.texts), row_column: pa.array(np.arange(len(ids), dtype=np.int32))}), path
    )
    return spark.read.parquet(str(path))
