"""What becomes of bad events: counted by reason, kept as they came, and too many of them stop the run."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import Column as Expr
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from core.errors import InputError, nearest
from core.schema import EVENT_TYPES, EVENTS, REASON, Column
from data_prep.reading import BLOCK, FILE, LINE, RAW
from data_prep.validate import NO_ITEM_SEARCH, UNKNOWN_TYPE

FILE_NAME: Final = "file"
_SHOWN_REASONS: Final = 3
_UNESCAPED: Final = "/!$&'()*+,;=:@~"  # in a URI as Java writes it, beside letters of every alphabet
_SHOWN_TEXT: Final = 60  # characters of a value at fault: it may be a page


@dataclass(frozen=True)
class Reject:
    """One reason: how many rows, and a file that holds one with the value at fault."""

    reason: str
    rows: int
    example: str


def file_name(data: Path) -> Expr:
    """The `_file` column relative to the data directory."""
    return F.replace(F.col(FILE), F.lit(prefix(data)), F.lit(""))


def prefix(data: Path) -> str:
    """What the `_file` column has before the name relative to the data directory."""
    path = re.sub(r"[\x00-\x7f]+", lambda ascii_: quote(ascii_[0], safe=_UNESCAPED), str(data.resolve()))
    return f"file:{path}/"


def counted(rows: DataFrame, data: Path) -> list[Reject]:
    """Reasons of rejected rows, most frequent first."""
    first = F.min(F.struct(FILE, BLOCK, LINE, RAW)).alias("first")
    found = rows.groupBy(REASON).agg(F.count(F.lit(1)).alias("n"), first)
    named = found.select(REASON, "n", F.col(f"first.{FILE}").alias(FILE), f"first.{RAW}.*").withColumn(
        FILE_NAME, file_name(data)
    )
    rejects = []
    for row in named.collect():
        values = row.asDict()
        column = next((c for c in EVENTS.kinds if c in values[REASON]), None)
        value = f"{_short(values[column])!r} " if column and values[column] is not None else ""
        if values[REASON] == UNKNOWN_TYPE:
            value += f"({nearest(str(values[column]), EVENT_TYPES)}) "
        rejects.append(Reject(values[REASON], int(values["n"]), f"{value}in {values[FILE_NAME]}"))
    return sorted(rejects, key=lambda r: (-r.rows, r.reason))


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_TEXT else text[:_SHOWN_TEXT] + "..."


def check_share(rejects: list[Reject], rows_read: int, limit: float) -> None:
    """Stop a run that would lose too much.

    Raises:
        InputError: No usable row, or more than `limit` of them rejected.
    """
    lost = sum(r.rows for r in rejects)
    at_fault = sum(r.rows for r in rejects if r.reason != NO_ITEM_SEARCH)
    top = "; ".join(f"{r.reason}: {r.rows:,} (e.g. {r.example})" for r in rejects[:_SHOWN_REASONS])
    if rows_read == 0:
        raise InputError("events: the files hold no rows; expected at least a few days of events")
    if lost == rows_read:
        raise InputError(f"events: none of {rows_read:,} rows can be used: {top}")
    if at_fault > limit * rows_read:
        raise InputError(
            f"events: {at_fault / rows_read:.1%} of {rows_read:,} rows cannot be used, more than the {limit:.0%} of data.max_rejected_share: "
            f"{top}; repair the export, or raise the limit"
        )


def report(rejects: list[Reject], say: Callable[[str], None]) -> None:
    """One line for each reason."""
    for r in rejects:
        say(f"events: {r.rows:,} rejected: {r.reason} (e.g. {r.example})")


def write(rows: DataFrame | None, data: Path, scratch: Path, out: Path) -> None:
    """Rejected rows (None: there are none) as one Parquet file: reason, file, and every contract column as the text that it was."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if rows is None:
        pq.write_table(pa.schema([(c, pa.string()) for c in (REASON, FILE_NAME, *EVENTS.kinds)]).empty_table(), out)
        return
    folder = scratch / "rejected"
    ordered = rows.repartition(1).sortWithinPartitions(FILE, BLOCK, LINE)
    ordered.select(REASON, file_name(data).alias(FILE_NAME), f"{RAW}.*").write.parquet(str(folder))
    next(folder.glob("part-*.parquet")).rename(out)


def as_text() -> Expr:
    """`_raw` again, for rows that were usable one by one: typed values as text."""
    texts = []
    for c in EVENTS.kinds:
        value = F.timestamp_micros(F.col(c)) if c is Column.EVENT_TIME else F.col(c)
        texts.append(value.cast("string").alias(c))
    return F.struct(*texts)
