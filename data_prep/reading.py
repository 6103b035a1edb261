"""A shop's table as one Spark DataFrame: every file type, every spelling of a value, in the types of the data contract.

The result of `read` has one column for each contract column (null where a file lacks it): text as strings, numbers as doubles,
integers and times (microseconds) as bigints, booleans; for items and users the attributes `attribute.<name>`; and beside them

    _file _block _line   where the row stood: file URI, offset of its block, a number that grows within the block
    _bad                 null, or why a value of the row cannot be what its column must hold
    _raw                 for rows that end as rejects: every contract column as the text that it was
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Final, Literal
from urllib.parse import unquote

from pyspark.errors import PySparkException
from pyspark.sql import Column as Expr
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql import types as T

from core.errors import InputError
from core.schema import EVENTS, Column, TableContract
from data_prep.inputs import Group
from data_prep.times import NANOSECOND_TYPE, Clock, microseconds

FILE: Final = "_file"
BLOCK: Final = "_block"
LINE: Final = "_line"
BAD: Final = "_bad"
RAW: Final = "_raw"
ATTRIBUTE: Final = "attribute."
MALFORMED: Final = "malformed line"
_ENDINGS: Final = r"\.(?:parquet|pq|csv|jsonl|ndjson|json)(?:\.gz|\.bz2)?"
_CORRUPT: Final = "_corrupt"
_TRUE: Final = ("true", "t", "yes", "y", "1", "1.0")
_FALSE: Final = ("false", "f", "no", "n", "0", "0.0")
_TYPES: Final = {"text": "string", "number": "double", "integer": "bigint", "time": "bigint", "boolean": "boolean"}
# A value of these that cannot be read rejects its event; elsewhere it is as good as missing.
_STRICT: Final = (Column.EVENT_TIME, Column.QUANTITY, Column.PRICE, Column.VALUE)
# They become rows of the id maps, keys of Redis and words of every answer.
_IDS: Final = (Column.ITEM_ID, Column.USER_ID, Column.VISITOR_ID)
LONGEST_ID: Final = 256  # bytes of UTF-8

AttributeKind = Literal["number", "text", "csv", "list"]


@dataclass(frozen=True)
class TableRows:
    """A table's rows and the kind of each attribute; `csv` is text of a file that has no types."""

    rows: DataFrame
    attributes: dict[str, AttributeKind] = field(default_factory=dict)


def read(
    spark: SparkSession, groups: Sequence[Group], contract: TableContract, say: Callable[[str], None]
) -> TableRows:
    """All files of a table; `groups` must not be empty."""
    frames = [_load(spark, g) for g in groups]
    attributes = _attributes(groups, frames, contract, say) if contract.attributes else {}
    coerced = [_coerced(f, g, contract, attributes) for f, g in zip(frames, groups, strict=True)]
    rows = reduce(DataFrame.unionByName, coerced)
    return TableRows(rows.withColumn(LINE, F.monotonically_increasing_id()), attributes)


def unreadable(error: PySparkException | Exception, data: Path) -> InputError | None:
    """The one line that a failed Spark job deserves when an input file is the cause, else None."""
    found = re.search(rf"file:/*(/[^/]\S*?{_ENDINGS})(?!\w)", str(error))
    path = unquote(found[1]) if found else ""
    if not path.startswith(str(data.resolve())):
        return None
    return InputError(f"{path}: damaged: its rows cannot be read to the end; write it again, or remove it")


def unread(table: TableRows, contract: TableContract) -> dict[str, int]:
    """Values by column that are there and are not what the column must hold, so that they count as missing: `{column: rows}`, none 0.

    For items and users; of events such rows are rejected.
    """
    doubtful = [c for c, kind in contract.kinds.items() if kind != "text"]
    counts = []
    for c in doubtful:
        text = F.lower(F.trim(F.col(f"{RAW}.{c.value}")))
        counts.append(
            F.count(F.when(F.col(c).isNull() & ~text.isin("", "nan"), 1)).alias(c)
        )  # NaN is how pandas writes nothing
    row = table.rows.agg(*counts).first()
    assert row is not None
    return {c.value: int(row[c]) for c in doubtful if row[c]}


def _load(spark: SparkSession, group: Group) -> DataFrame:
    paths = [re.sub(r"([\\*?\[\]{}])", r"\\\1", str(s.path.resolve())) for s in group.sources]
    reader = spark.read.option("recursiveFileLookup", "true")
    if group.format == "parquet":
        return _without_nanoseconds(reader.parquet(*paths), group)
    reader = reader.option("columnNameOfCorruptRecord", _CORRUPT).option("mode", "PERMISSIVE")
    if group.format == "json":
        schema = reader.json(paths).schema
        if _CORRUPT not in schema.names:
            schema = schema.add(_CORRUPT, T.StringType())
        return reader.schema(schema).json(paths)
    # multiLine keeps a quoted line break inside its value; such a file is read by one task
    schema = T.StructType(
        [T.StructField(c, T.StringType()) for c, _ in group.columns] + [T.StructField(_CORRUPT, T.StringType())]
    )
    options = {"header": True, "multiLine": True, "escape": '"', "enforceSchema": True}
    return reader.options(**options).schema(schema).csv(paths)


def _without_nanoseconds(frame: DataFrame, group: Group) -> DataFrame:
    """Nanoseconds, which Spark hands over as integers, as timestamps; the part below a microsecond is dropped."""
    columns = [c for c, type_ in group.columns if type_.startswith(NANOSECOND_TYPE)]
    whole = {c: _col(c) - F.pmod(_col(c), F.lit(1000)) for c in columns}
    return frame.withColumns({c: F.timestamp_micros(F.call_function("div", whole[c], F.lit(1000))) for c in columns})


def _attributes(
    groups: Sequence[Group], frames: Sequence[DataFrame], contract: TableContract, say: Callable[[str], None]
) -> dict[str, AttributeKind]:
    """The kind of each unknown column over all files: a list anywhere makes it a list, text anywhere else makes it text."""
    kinds: dict[str, set[str]] = {}
    for group, frame in zip(groups, frames, strict=True):
        for f in frame.schema.fields:
            if (
                f.name not in contract.kinds
                and f.name != _CORRUPT
                and (group.format == "json" or f.name in dict(group.columns))
            ):
                kinds.setdefault(f.name, set()).add("csv" if group.format == "csv" else _attribute_kind(f.dataType))
    chosen: dict[str, AttributeKind] = {}
    order: tuple[AttributeKind, ...] = ("list", "text", "csv", "number")
    for name in sorted(kinds):
        if "other" in kinds[name]:
            say(f"{contract.table}: ignored attribute {name!r}: neither a value nor a list of values")
        else:
            chosen[name] = next(k for k in order if k in kinds[name])
    return chosen


def _attribute_kind(kind: T.DataType) -> str:
    if isinstance(kind, T.ArrayType):
        return "list" if isinstance(kind.elementType, T.StringType | T.NumericType | T.BooleanType) else "other"
    if isinstance(kind, T.StringType):
        return "text"
    numbers = (T.NumericType, T.BooleanType, T.DateType, T.TimestampType, T.TimestampNTZType)
    return "number" if isinstance(kind, numbers) else "other"


def _coerced(
    frame: DataFrame, group: Group, contract: TableContract, attributes: dict[str, AttributeKind]
) -> DataFrame:
    has = dict(frame.dtypes)
    types = {f.name: f.dataType for f in frame.schema.fields}
    columns: list[Expr] = []
    complaints: list[Expr] = []
    if _CORRUPT in has:
        complaints.append(F.when(_col(_CORRUPT).isNotNull(), F.lit(MALFORMED)))
    for c, kind in contract.kinds.items():
        if c not in has:
            columns.append(F.lit(None).cast(_TYPES[kind]).alias(c))
            continue
        value = _value(_col(c), types[c], kind, group.clocks.get(c, Clock.ISO))
        columns.append(value.alias(c))
        if contract is EVENTS and c in _STRICT:
            given = _col(c).isNotNull() & (F.trim(_col(c).cast("string")) != "")
            complaints.append(F.when(given & value.isNull(), F.lit(f"unreadable {c.value}")))
        if c in _IDS:
            complaints.append(
                F.when(F.octet_length(value) > LONGEST_ID, F.lit(f"{c.value} longer than {LONGEST_ID} bytes"))
            )
            complaints.append(F.when(value.rlike(r"\p{Cc}"), F.lit(f"control characters in {c.value}")))
    for name, attribute in attributes.items():
        columns.append(_attribute(name, types.get(name), attribute).alias(ATTRIBUTE + name))
    raw = F.struct(
        *[(_col(c).cast("string") if c in has else F.lit(None).cast("string")).alias(c) for c in contract.kinds]
    )
    where = [F.col("_metadata.file_path").alias(FILE), F.col("_metadata.file_block_start").alias(BLOCK)]
    bad = F.coalesce(*complaints) if complaints else F.lit(None).cast("string")
    return frame.select(*columns, *where, bad.alias(BAD), raw.alias(RAW))


def _col(name: str) -> Expr:
    return F.col(f"`{name.replace('`', '``')}`")


def _value(column: Expr, type_: T.DataType, kind: str, clock: Clock) -> Expr:
    """A column in the type that the contract says, null where a value is not of it."""
    if kind == "text":
        return _text(column, type_)
    if kind == "time":
        return microseconds(column, clock)
    if kind == "boolean":
        text = F.lower(F.trim(column.cast("string")))
        return F.when(text.isin(*_TRUE), True).when(text.isin(*_FALSE), False)
    number = column.cast("double") if not isinstance(type_, T.StringType) else F.trim(column).try_cast("double")
    return number if kind == "number" else F.when(~F.isnan(number), F.round(number)).cast("bigint")


def _text(column: Expr, type_: T.DataType) -> Expr:
    """Text; blank is null. Whole floats lose their fraction: pandas makes 17850.0 of an id column with gaps."""
    if isinstance(type_, T.FloatType | T.DoubleType):
        number = column.cast("double")
        whole = (number == F.floor(number)) & (F.abs(number) < 2**53)
        text = (
            F.when(F.isnan(number), None)
            .when(whole, number.cast("bigint").cast("string"))
            .otherwise(column.cast("string"))
        )
    elif isinstance(type_, T.ArrayType | T.StructType | T.MapType):
        text = F.to_json(column)
    else:
        text = column.cast("string")
    return F.when(F.trim(text) != "", text)


def _attribute(name: str, type_: T.DataType | None, kind: AttributeKind) -> Expr:
    if type_ is None:
        return F.lit(None).cast({"list": "array<string>", "number": "double"}.get(kind, "string"))
    column = _col(name)
    if kind == "list":
        return (
            column.cast("array<string>")
            if isinstance(type_, T.ArrayType)
            else F.array_compact(F.array(_text(column, type_)))
        )
    if kind != "number":
        return _text(column, type_)
    if isinstance(type_, T.DateType | T.TimestampType | T.TimestampNTZType):  # days since the epoch
        return F.unix_micros(column.cast("timestamp")) / F.lit(86_400e6)
    return column.cast("double")
