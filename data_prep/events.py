"""Usable events with rows for ids, sorted by (user, time, item, type): from Spark to memory-mapped columns."""

from __future__ import annotations

from collections.abc import Callable
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
from data_prep.reading import FILE
from data_prep.repeats import FILE_CODE, GIVEN_SESSION, KEY, Candidates
from data_prep.validate import PERSON

_ROWS_PER_PART: Final = 500_000
# column -> dtype on disk
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
# beside each event, in carried/events: what tells it from a resend, the code of its file, the hash of the shop's session id
CARRIED: Final = {KEY: "int64", FILE_CODE: "int32", GIVEN_SESSION: "int64"}
# Spark's order: after the contract's come all other columns, so that equal rows are the only ties and the files do not depend on how
# Spark splits its work
ORDER: Final = (
    *(Column.USER.value, Column.TIME.value, Column.ITEM.value, Column.TYPE.value),
    *(Column.PRICE.value, Column.QUANTITY.value, Column.VALUE.value, Column.POSITION.value),
    *(GIVEN_SESSION, KEY, FILE_CODE),
)
_MISSING: Final = {Column.PRICE: float("nan"), Column.QUANTITY: 1.0, Column.VALUE: float("nan")}


def write_sorted(spark: SparkSession, rows: DataFrame, n_rows: int, items: IdMap, people: IdMap, scratch: Path) -> Path:
    """Usable events with rows instead of ids as Parquet parts, sorted by `ORDER` over all parts; every id must be in the maps.

    `rows` also has `KEY`, `GIVEN_SESSION` and `FILE_CODE`.
    """
    item_rows = _id_table(spark, items, Column.ITEM_ID, Column.ITEM, scratch / "item-rows.parquet")
    person_rows = _id_table(spark, people, PERSON, Column.USER, scratch / "person-rows.parquet")
    code = F.create_map(*[F.lit(v) for t in EVENT_TYPES for v in (t.value, t.code)])[F.col(Column.EVENT_TYPE)]
    columns = [
        F.col(Column.USER),
        F.col(Column.ITEM),
        F.col(Column.EVENT_TIME).alias(Column.TIME),
        code.cast("tinyint").alias(Column.TYPE),
        *[F.coalesce(F.col(c).cast("float"), F.lit(v).cast("float")).alias(c) for c, v in _MISSING.items()],
        F.coalesce(F.col(Column.POSITION).cast("int"), F.lit(-1)).alias(Column.POSITION),
        F.col(GIVEN_SESSION),
        F.col(KEY),
        F.col(FILE_CODE),
    ]
    table = rows.join(item_rows, Column.ITEM_ID).join(person_rows, PERSON).select(*columns)
    n_parts = max(spark.sparkContext.defaultParallelism, -(-n_rows // _ROWS_PER_PART))
    # rows of users are dense: equal spans of rows are parts of about equal size, and part order is user order
    part = F.floor(F.col(Column.USER).cast("bigint") * n_parts / len(people)).cast("int")
    out = scratch / "sorted"
    table.repartitionById(n_parts, part).sortWithinPartitions(*ORDER).write.parquet(str(out))
    return out


def to_columns(parts: Path, folder: Path) -> int:
    """Stream the sorted parts into `events/` and `carried/events/` of `folder`; number of events."""
    with (
        ColumnAppender(folder / "events", COLUMNS) as out,
        ColumnAppender(folder / "carried" / "events", CARRIED) as carried,
    ):
        for part in sorted(parts.glob("part-*.parquet")):
            with pq.ParquetFile(part) as f:
                for batch in f.iter_batches(1 << 18):
                    out.append({name: _numbers(batch.column(name)) for name in COLUMNS})
                    carried.append({name: _numbers(batch.column(name)) for name in CARRIED})
        return out.rows


def few_to_columns(
    candidates: Candidates | None, which: Array, ids: tuple[IdMap, IdMap], code_of: Callable[[str], int], folder: Path
) -> None:
    """What `write_sorted` and `to_columns` do, for rows that fit in memory many times: the day that a night adds, or no row at all.

    Args:
        candidates: Usable rows; None: there are none.
        which: Those that become events, bool `[n]`.
        ids: Item and person id maps, which hold all of theirs.
        code_of: The code of a file, by its URI.
        folder: Gets `events/` and `carried/events/`.
    """
    if candidates is None:
        for name, dtypes in (("events", COLUMNS), ("carried/events", CARRIED)):
            ColumnAppender(folder / name, dtypes).close()
        return
    names = [
        Column.ITEM_ID,
        PERSON,
        Column.EVENT_TIME,
        Column.EVENT_TYPE,
        *_MISSING,
        Column.POSITION,
        GIVEN_SESSION,
        FILE,
    ]
    rows = pa.concat_tables(candidates.tables(list(map(str, names)), which), promote_options="permissive")
    types = {t.value: t.code for t in EVENT_TYPES}
    columns = {
        Column.USER: ids[1].rows(rows.column(PERSON).to_pylist()),
        Column.ITEM: ids[0].rows(rows.column(Column.ITEM_ID).to_pylist()),
        Column.TIME: rows.column(Column.EVENT_TIME).to_numpy(),
        Column.TYPE: _coded(rows.column(Column.EVENT_TYPE), types.__getitem__),
        Column.POSITION: rows.column(Column.POSITION).fill_null(-1).to_numpy(),
        GIVEN_SESSION: rows.column(GIVEN_SESSION).to_numpy(),
        KEY: rows.column(KEY).to_numpy(),
        FILE_CODE: _coded(rows.column(FILE), code_of),
    } | {c: rows.column(c).fill_null(v).to_numpy() for c, v in _MISSING.items()}
    typed = {c: columns[c].astype(d) for c, d in (COLUMNS | CARRIED).items()}
    order = np.lexsort([typed[c] for c in reversed(ORDER)])
    for name, dtypes in (("events", COLUMNS), ("carried/events", CARRIED)):
        with ColumnAppender(folder / name, dtypes) as out:
            out.append({c: typed[c][order] for c in dtypes})


def _coded(texts: pa.ChunkedArray, code: Callable[[str], int]) -> Array:
    found = texts.combine_chunks().dictionary_encode()
    codes = np.array([code(t) for t in found.dictionary.to_pylist()], np.int64)
    return np.asarray(codes[found.indices.to_numpy()])


def _numbers(column: pa.Array) -> Array:
    return np.asarray(column.to_numpy(zero_copy_only=False))


def _id_table(spark: SparkSession, ids: IdMap, id_column: str, row_column: str, path: Path) -> DataFrame:
    pq.write_table(
        pa.table({id_column: pa.array(ids.texts), row_column: pa.array(np.arange(len(ids), dtype=np.int32))}), path
    )
    return spark.read.parquet(str(path))
