"""Items and users as column folders, row-aligned with their id maps.

The last row of an id, in the order of file names and lines, wins: a later export replaces an earlier one. An item that no event names
is kept; an item that only events name has a row without attributes (`known` False), and one that neither names any more (its id came
from an earlier night) is not `available`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyspark.sql import Column as Expr
from pyspark.sql import functions as F

from core.columns import AnyColumn, Array, Coded, Columns, Tags, Texts
from core.ids import NO_ROW, IdMap
from core.schema import REASON, Column, TableContract
from data_prep.reading import ATTRIBUTE, BAD, BLOCK, FILE, LINE, RAW, AttributeKind, TableRows

SOURCE: Final = "_source"  # in `Entities.rows`: the name of the row's file, relative to the data directory
_FILE_NAME: Final = "_file_name"
NO_TIME: Final = -1  # in time columns: unknown


@dataclass(frozen=True)
class Entities:
    """The rows of a table that are kept, one for each id, and those that are not. `rows` may hold `SOURCE` beside the columns of the contract."""

    id_column: str
    rows: pa.Table
    rejected: pa.Table  # reason, file and the contract columns as text
    attributes: dict[str, AttributeKind]

    def save(self, folder: Path) -> None:
        """Write what `open` reads."""
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(self.rows, folder / "rows.parquet")
        pq.write_table(self.rejected, folder / "rejected.parquet")
        (folder / "table.json").write_text(json.dumps([self.id_column, self.attributes]) + "\n")

    @classmethod
    def open(cls, folder: Path) -> Entities:
        """What an earlier night saved."""
        id_column, attributes = json.loads((folder / "table.json").read_bytes())
        rows, rejected = (pq.read_table(folder / f"{part}.parquet") for part in ("rows", "rejected"))
        return cls(id_column, rows, rejected, attributes)

    @property
    def ids(self) -> list[str]:
        """The distinct ids."""
        return list(self.rows.column(self.id_column).to_pylist())

    @property
    def rows_read(self) -> int:
        """Rows kept and rejected."""
        return int(self.rows.num_rows + self.rejected.num_rows)


def empty(contract: TableContract) -> Entities:
    """A table that the shop does not have."""
    id_column = contract.required[0].value
    return Entities(
        id_column, pa.table({id_column: pa.array([], pa.string())}), pa.table({REASON: pa.array([], pa.string())}), {}
    )


def entities(table: TableRows, contract: TableContract, file_name: Expr, scratch: Path) -> Entities:
    """Validate a table of items or users, and bring it here by way of files in `scratch`: Java's heap does not hold ten million items."""
    id_column = contract.required[0].value
    bad = F.coalesce(F.col(BAD), F.when(F.col(id_column).isNull(), F.lit(f"missing {id_column}")))
    judged = table.rows.withColumns({REASON: bad, _FILE_NAME: file_name}).withColumn(
        RAW, F.when(F.col(REASON).isNotNull(), F.col(RAW))
    )
    folder = scratch / f"judged-{contract.table.value}"
    judged.drop(BAD).write.parquet(str(folder))
    rows = pq.read_table(folder).sort_by([(c, "ascending") for c in (FILE, BLOCK, LINE)])
    good = pc.is_null(rows.column(REASON))
    usable, faulty = rows.filter(good), rows.filter(pc.invert(good))
    newest = _last_of_each(usable.column(id_column))
    kept, replaced = usable.filter(newest), usable.filter(pc.invert(newest))
    sent = [c.value for c in contract.kinds]
    duplicate = pa.array([f"duplicate {id_column}: a later row wins"] * len(replaced), pa.string())
    rejected = [
        _as_they_came(faulty, faulty.column(REASON), sent, raw=True),
        _as_they_came(replaced, duplicate, sent, raw=False),
    ]
    return Entities(
        id_column,
        _with_source(kept.drop([FILE, BLOCK, LINE, RAW, REASON])),
        pa.concat_tables(rejected),
        table.attributes,
    )


def _with_source(rows: pa.Table) -> pa.Table:
    """The names of files, which Spark has as parts of a URI, as they are."""
    encoded = rows.column(_FILE_NAME).combine_chunks().dictionary_encode()
    names = pa.array([unquote(name) for name in encoded.dictionary.to_pylist()], pa.string())
    return rows.drop([_FILE_NAME]).append_column(SOURCE, names.take(encoded.indices))


def _last_of_each(ids: pa.ChunkedArray) -> pa.Array:
    """Bool `[n]`: whether the id occurs in no later row."""
    places = pa.table({"id": ids, "place": np.arange(len(ids))}).group_by("id").aggregate([("place", "max")])
    last = np.zeros(len(ids), bool)
    last[places.column("place_max").to_numpy()] = True
    return pa.array(last)


def _as_they_came(rows: pa.Table, reason: pa.Array, columns: list[str], *, raw: bool) -> pa.Table:
    """Reject rows as text: from the values as they were sent, or, for rows that were read in full, from the values read."""
    texts = [pc.struct_field(rows.column(RAW), c) if raw else rows.column(c).cast(pa.string()) for c in columns]
    return pa.table([reason, rows.column(_FILE_NAME), *texts], names=[REASON, "file", *columns])


def item_columns(
    items: Entities, ids: IdMap, seen: Array, event_prices: Array, deleted: Collection[str], shelf: Mapping[str, bool]
) -> Columns:
    """The `items/` folder.

    Args:
        items: The items table.
        ids: Item id map, n rows.
        seen: Whether an event names the item, bool `[n]`.
        event_prices: Median price of the item's events, NaN where unknown, float32 `[n]`.
        deleted: Items that are gone, whatever events and table say; a row that one has stays.
        shelf: Availability of items that the table lacks, where it is known.
    """
    rows, n = ids.rows(items.ids), len(ids)
    given = {c: items.rows.column(c) for c in items.rows.column_names}
    known = np.zeros(n, bool)
    known[rows] = True
    price = _numbers(given.get(Column.PRICE), rows, n)
    price = np.where(price >= 0, price, event_prices)
    stock = _numbers(given.get(Column.STOCK), rows, n)
    available = _numbers(given.get(Column.AVAILABLE), rows, n)
    available = np.where(np.isnan(available), ~(stock <= 0), available > 0) & (known | seen)
    _set(available, ids, shelf)
    gone = np.zeros(n, bool)
    _set(gone, ids, dict.fromkeys(deleted, True))
    columns: dict[str, AnyColumn] = {
        Column.TITLE: Texts.of(_scattered(given.get(Column.TITLE), rows, n)),
        Column.PRICE: price.astype(np.float32),
        Column.AVAILABLE: available & ~gone,
        Column.DELETED: gone,
        Column.STOCK: stock.astype(np.float32),
        "known": known,
    }
    for c in (Column.CATEGORY, Column.BRAND, Column.CURRENCY, Column.ITEM_GROUP_ID):
        columns[c] = Coded.of(_scattered(given.get(c), rows, n))
    for c in (Column.CREATED_AT, Column.AVAILABLE_FROM, Column.AVAILABLE_UNTIL):
        columns[c] = _times(given.get(c), rows, n)
    return Columns(columns | _attribute_columns(items, rows, n), n)


def _set(flags: Array, ids: IdMap, values: Mapping[str, bool]) -> None:
    """Write values into the rows of their ids, as far as these have any."""
    rows = ids.rows(values)
    there = rows != NO_ROW
    flags[rows[there]] = np.fromiter(values.values(), bool, len(values))[there]


def event_prices(items: Entities, ids: IdMap, events: Columns) -> Array:
    """Median price above 0 of the events of each item, float32 `[items]`, NaN where none has one; all NaN where the table has every price."""
    prices = np.full(len(ids), np.nan, np.float32)
    if items.rows.num_rows == len(ids) and items.rows.column(Column.PRICE).null_count == 0:
        return prices
    price = np.asarray(events.numbers(Column.PRICE))
    sold = price > 0
    # item and price as one number: the bits of positive floats grow with them
    both = events.numbers(Column.ITEM)[sold].astype(np.int64) << 32 | price[sold].view(np.int32)
    both.sort()
    item, price = both >> 32, (both & 0xFFFFFFFF).astype(np.int32).view(np.float32).astype(np.float64)
    first = np.flatnonzero(np.concatenate([[True], item[1:] != item[:-1]])) if len(item) else np.empty(0, np.int64)
    n = np.diff(first, append=len(item))
    prices[item[first]] = (price[first + (n - 1) // 2] + price[first + n // 2]) / 2
    return prices


def user_columns(users: Entities, ids: IdMap, known: Array) -> Columns:
    """The `users/` folder; `known` is whether the row has a user_id, bool `[n]`."""
    rows, n = ids.rows([f"u:{u}" for u in users.ids]), len(ids)
    given = {c: users.rows.column(c) for c in users.rows.column_names}
    columns: dict[str, AnyColumn] = {"known": known, Column.CREATED_AT: _times(given.get(Column.CREATED_AT), rows, n)}
    return Columns(columns | _attribute_columns(users, rows, n), n)


def profile(entities: Entities, contract: TableContract) -> dict[str, Any]:
    """Nulls, range and distinct values of each column of the kept rows."""
    found = {}
    for name in entities.rows.column_names:
        if name == SOURCE:
            continue
        column = entities.rows.column(name)
        if column.null_count == len(column) and name in contract.kinds:
            continue  # not sent
        facts: dict[str, Any] = {"nulls": column.null_count}
        if pa.types.is_list(column.type):
            facts |= {
                "distinct": len(column.combine_chunks().flatten().unique()),
                "longest": pc.max(pc.list_value_length(column)).as_py(),
            }
        else:
            low, high = pc.min_max(column).values() if len(column) else (None, None)
            facts |= {"min": _plain(low), "max": _plain(high), "distinct": pc.count_distinct(column).as_py()}
        found[name] = facts
    return found


def _plain(value: Any) -> Any:
    value = value.as_py() if value is not None else None
    return (
        value[:80] if isinstance(value, str) else value if not isinstance(value, float) or np.isfinite(value) else None
    )


def _attribute_columns(table: Entities, rows: Array, n: int) -> dict[str, AnyColumn]:
    columns: dict[str, AnyColumn] = {}
    for name, kind in table.attributes.items():
        column = table.rows.column(ATTRIBUTE + name)
        columns[ATTRIBUTE + name] = _attribute(column, kind, rows, n)
    return columns


def _attribute(column: pa.ChunkedArray, kind: AttributeKind, rows: Array, n: int) -> AnyColumn:
    if kind == "list":
        return Tags.of(
            [[v for v in row if v is not None] if row is not None else None for row in _scattered(column, rows, n)]
        )
    if kind == "csv" and (numbers := csv_numbers(column)) is not None:
        return _numbers(numbers, rows, n).astype(np.float32)
    if kind == "number":
        return _numbers(column, rows, n).astype(np.float32)
    return Coded.of(_scattered(column, rows, n))


def csv_numbers(column: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """A CSV column whose every value is a number, as one; leading zeros make a code of it ("007")."""
    present = column.drop_null()
    if len(present) == 0 or pc.any(pc.match_substring_regex(present, r"^-?0\d")).as_py():
        return None
    try:
        return column.cast(pa.float64())
    except pa.ArrowInvalid:
        return None


def _scattered(column: pa.ChunkedArray | None, rows: Array, n: int) -> Sequence[Any]:
    """Values by row of the id map, None where there is none."""
    values: list[Any] = [None] * n
    if column is not None:
        for row, value in zip(rows.tolist(), column.to_pylist(), strict=True):
            values[row] = value
    return values


def _numbers(column: pa.ChunkedArray | None, rows: Array, n: int) -> Array:
    """float64 `[n]`, NaN where there is none."""
    values = np.full(n, np.nan)
    if column is not None:
        values[rows] = (
            column.cast(pa.float64()).to_numpy() if not pa.types.is_boolean(column.type) else _booleans(column)
        )
    return values


def _booleans(column: pa.ChunkedArray) -> Array:
    return np.asarray(column.cast(pa.int8()).cast(pa.float64()).to_numpy())


def _times(column: pa.ChunkedArray | None, rows: Array, n: int) -> Array:
    """int64 microseconds `[n]`, NO_TIME where there is none."""
    values = np.full(n, NO_TIME, np.int64)
    if column is not None:
        values[rows] = pc.fill_null(column, NO_TIME).to_numpy()
    return values
