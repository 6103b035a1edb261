"""The live catalog's log laid over the shop's items table, so that a night takes in what changed since the last one (docs/catalog.md).

Of all that is said of an item the newest counts. A row of the table is as new as its file (the time of the file's last modification), an entry of
the log as new as the server's clock said. So an upsert stands until a newer file has the item, and what was said of its availability until a
newer row says something of that (a row without `available` and `stock` does not). A deletion stands until a later upsert, whatever any file says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from core.artifact import hash_json
from core.catalog_entry import ATTRIBUTES, Listing, Listings, Row
from core.catalog_users import everything
from core.columns import Array
from core.errors import InputError
from core.release import CATALOG_LOG, CATALOG_SEQUENCE
from core.schema import ITEMS, Column, Table
from data_prep import currency
from data_prep.currency import Rates
from data_prep.inventory import InputFile
from data_prep.reading import ATTRIBUTE, AttributeKind
from data_prep.tables import SOURCE, Entities, csv_numbers

_TYPES: Final = {
    "text": pa.string(),
    "number": pa.float64(),
    "integer": pa.int64(),
    "time": pa.int64(),
    "boolean": pa.bool_(),
}
_NEVER: Final = -1  # before every time
_ATTRIBUTE_TYPES: Final[dict[AttributeKind, Any]] = {
    "list": pa.list_(pa.string()),
    "text": pa.string(),
    "csv": pa.string(),
    "number": pa.float64(),
}


@dataclass(frozen=True)
class CatalogLog:
    """The log as a night found it; `written` is when each file of the items table was, microseconds, by its name."""

    id: str = ""
    sequence: int = 0
    listings: Mapping[str, Listing] = field(default_factory=dict)
    written: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path | None, data: Path, files: Iterable[InputFile]) -> CatalogLog:
        """What the log in `folder` says; nothing where there is none.

        Raises:
            ArtifactError: It is damaged.
            InputError: It may not be read.
        """
        if folder is None:
            return cls()
        try:
            id, entries = everything(folder)
        except OSError as e:
            raise InputError(
                f"{e.filename or folder}: cannot be read and written ({e.strerror}); run this as the user that runs the servers"
            ) from None
        listings = Listings()
        for entry in entries:
            listings.apply(entry)
        names = [f.name for f in files if Path(f.name).parts[0] == Table.ITEMS]
        written = {name: (data / name).stat().st_mtime_ns // 1000 for name in names} if entries else {}
        return cls(id, max((e.sequence for e in entries), default=0), listings.of, written)

    @property
    def facts(self) -> dict[str, Any]:
        """For the manifest."""
        return {CATALOG_SEQUENCE: self.sequence, CATALOG_LOG: self.id}

    def fingerprint(self) -> str:
        """Hex sha256 that changes when another catalog may come out of the same files."""
        return hash_json([self.facts, dict(self.written)])


@dataclass(frozen=True)
class Listed:
    """An items table with the log over it.

    `items` has a row for every item that either has; `deleted` are those that are gone, which have none; `shelf` is the availability of items
    without a row.
    """

    items: Entities
    deleted: frozenset[str] = frozenset()
    shelf: Mapping[str, bool] = field(default_factory=dict)


def listed(items: Entities, log: CatalogLog, rates: Rates, say: Callable[[str], None]) -> Listed:
    """`items`, whose prices are normalised, with what `log` says over it."""
    if not log.listings:
        return Listed(items)
    places, written, silent = _places(items, list(log.listings)), _written(items, log.written), _silent(items.rows)
    out, flags, shelf = list[int](), dict[int, bool](), dict[str, bool]()
    upserted: list[tuple[Row, bool]] = []
    for (item_id, said), place in zip(log.listings.items(), places, strict=True):
        since = _NEVER if place is None else int(written[place])
        is_row = said.row is not None and said.row_time >= since and not said.deleted
        if place is not None and (said.deleted or is_row):
            out.append(place)
        if said.row is not None and is_row:
            upserted.append((said.row, bool(said.available)))
        elif said.available is not None and not said.deleted:
            if place is None:
                shelf[item_id] = said.available
            elif silent[place] or said.available_time >= since:
                flags[place] = said.available
    stay = np.ones(items.rows.num_rows, bool)
    stay[out] = False
    kinds = _kinds(items, [row for row, _ in upserted])
    kept = _in_kinds(_flagged(items.rows, flags).filter(pa.array(stay)), items.attributes, kinds)
    new = currency.normalised(_table(upserted, kinds, kept.schema), rates, say, table="catalog")
    deleted = frozenset(item_id for item_id, said in log.listings.items() if said.deleted)
    say(
        f"catalog: entries up to {log.sequence}: {len(new):,} items as upserted, {len(deleted):,} deleted, "
        f"{len(flags) + len(shelf):,} on or off the shelf"
    )
    rows = pa.concat_tables([kept, new], promote_options="default")
    return Listed(Entities(items.id_column, rows, items.rejected, kinds), deleted, shelf)


def _places(items: Entities, ids: list[str]) -> list[int | None]:
    """The row of each id in the table."""
    known = items.rows.column(items.id_column).combine_chunks().cast(pa.string())
    return list(pc.index_in(pa.array(ids, pa.string()), value_set=known).to_pylist())


def _written(items: Entities, written: Mapping[str, int]) -> Array:
    """When the file of each row was written, int64 `[rows]`."""
    if SOURCE not in items.rows.column_names:
        return np.zeros(items.rows.num_rows, np.int64)
    names = items.rows.column(SOURCE).combine_chunks().dictionary_encode()
    times = np.array([written[name] for name in names.dictionary.to_pylist()], np.int64)
    return np.asarray(times[names.indices.to_numpy()]) if len(times) else np.empty(0, np.int64)


def _silent(rows: pa.Table) -> Array:
    """Whether a row says nothing of its availability, bool `[rows]`."""
    columns = [rows.column(c) for c in (Column.AVAILABLE, Column.STOCK) if c in rows.column_names]
    silent = np.ones(rows.num_rows, bool)
    for column in columns:
        silent &= pc.is_null(column).to_numpy()
    return silent


def _flagged(rows: pa.Table, flags: Mapping[int, bool]) -> pa.Table:
    """The rows with another `available` at some places."""
    if not flags:
        return rows
    values = rows.column(Column.AVAILABLE).to_pylist()
    for place, flag in flags.items():
        values[place] = flag
    at = rows.column_names.index(Column.AVAILABLE)
    return rows.set_column(at, Column.AVAILABLE.value, pa.array(values, pa.bool_()))


def _kinds(items: Entities, upserted: list[Row]) -> dict[str, AttributeKind]:
    """The kind of every attribute. The table's stay: one upsert must not make text of a column of numbers."""
    kinds: dict[str, AttributeKind] = {}
    for name, kind in items.attributes.items():
        if kind == "csv":
            kind = "text" if csv_numbers(items.rows.column(ATTRIBUTE + name)) is None else "number"
        kinds[name] = kind
    order: tuple[AttributeKind, ...] = ("list", "text", "number")
    found: dict[str, set[AttributeKind]] = {}
    for row in upserted:
        for name, value in row.get(ATTRIBUTES, {}).items():
            found.setdefault(name, set()).add(
                "list" if isinstance(value, list) else "text" if isinstance(value, str) else "number"
            )
    return kinds | {name: next(k for k in order if k in found[name]) for name in sorted(found.keys() - kinds.keys())}


def _in_kinds(rows: pa.Table, had: Mapping[str, AttributeKind], kinds: Mapping[str, AttributeKind]) -> pa.Table:
    """CSV columns of which `_kinds` made numbers, as such."""
    for name, kind in had.items():
        if kind == "csv" and kinds[name] == "number":
            at = rows.column_names.index(ATTRIBUTE + name)
            rows = rows.set_column(at, ATTRIBUTE + name, rows.column(at).cast(pa.float64()))
    return rows


def _table(upserted: list[tuple[Row, bool]], kinds: Mapping[str, AttributeKind], like: pa.Schema) -> pa.Table:
    """Upserted rows, each with its availability, as rows of a table whose columns have the types of `like` where it has them."""
    types: dict[str, Any] = {c.value: _TYPES[kind] for c, kind in ITEMS.kinds.items()}
    types |= {ATTRIBUTE + name: _ATTRIBUTE_TYPES[kind] for name, kind in kinds.items()}
    columns = {c.value: [row.get(c) for row, _ in upserted] for c in ITEMS.kinds}
    columns[Column.AVAILABLE] = [flag for _, flag in upserted]
    for name, kind in kinds.items():
        columns[ATTRIBUTE + name] = [_value(row.get(ATTRIBUTES, {}).get(name), kind) for row, _ in upserted]
    types |= {f.name: f.type for f in like if f.name in types and not pa.types.is_null(f.type)}
    return pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})


def _value(value: str | float | list[str] | None, kind: AttributeKind) -> Any:
    """An upserted value as one of `kind`, None where it cannot be: the first of a list where one is wanted, a list of one where a list is."""
    if value is None:
        return None
    if kind == "list":
        return value if isinstance(value, list) else [_text(value)]
    one = value[0] if isinstance(value, list) else value
    if kind == "text":
        return _text(one)
    return float(one) if isinstance(one, int | float) else None


def _text(value: str | float) -> str:
    """As `reading` writes numbers: whole ones without a fraction."""
    return value if isinstance(value, str) else str(int(value)) if float(value).is_integer() else str(value)
