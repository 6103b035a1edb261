"""Retailrocket as it is published: events.csv, item_properties_part1.csv and part2.csv (weekly snapshots), category_tree.csv.

Properties and their values are hashed except `categoryid` and `available`; a value is a list of hashed words and of numbers `n277.200`. The newest
value of each item counts. Of the more than a thousand properties the PROPERTIES most frequent become attributes: a number where every item
has exactly one number, else the list of the first TOKENS words.

The file of properties (20 million rows) is read twice in blocks: once to see which properties are frequent, once for their newest values, so
that memory grows with items x PROPERTIES and not with the rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from core.schema import CATEGORY_SEPARATOR, Column, EventType, Table
from data_prep.data_directory import table_schema
from data_prep.importers.source import Source, numbers, text_rows
from data_prep.importers.target import MALFORMED, Target

EXPECTS: Final = (
    "events.csv (timestamp, visitorid, event, itemid, transactionid) with item_properties_part1.csv, item_properties_part2.csv and "
    "category_tree.csv beside it, plain or gzip"
)
PROPERTIES: Final = 20  # attributes
TOKENS: Final = 16  # words of a list
ASSUMES: Final = (
    f"every visitor is a guest; of each item the newest properties count, of all properties the {PROPERTIES} most frequent, of a list its first "
    f"{TOKENS} words"
)
TYPES: Final = {
    "view": EventType.DETAIL_PAGE_VIEW,
    "addtocart": EventType.ADD_TO_CART,
    "transaction": EventType.PURCHASE_COMPLETE,
}
CATEGORY, AVAILABLE = "categoryid", "available"

_PARTS: Final = ("item_properties_part1.csv", "item_properties_part2.csv")
_PROPERTY_COLUMNS: Final = ("timestamp", "itemid", "property", "value")
_NUMBER: Final = r"^n-?\d+(?:\.\d+)?$"
_WRITE_ROWS: Final = 10_000  # items whose lists are there at one time
_LATEST: Final = 2**42  # milliseconds, the year 2109; later is another unit or junk
_EVENTS: Final = table_schema(
    Table.EVENTS, (Column.EVENT_ID, Column.EVENT_TYPE, Column.EVENT_TIME, Column.ITEM_ID, Column.VISITOR_ID)
)


def read(source: Source, target: Target) -> None:
    """Events of three types, items with category path, availability and attributes."""
    _read_events(source.main("events.csv"), target)
    paths = [p for name in _PARTS if (p := source.beside(name)) is not None]
    if len(paths) < len(_PARTS):
        missing = [name for name in _PARTS if source.beside(name) is None]
        target.notes.append(f"no {' and no '.join(missing)}: items lack what stands there")
    if not paths:
        target.write_ids(Table.ITEMS)
        return
    target.sources.extend(p.name for p in paths)
    newest = _newest(paths, target)
    _write_items(newest, _category_paths(source, target), target)


def _read_events(path: Path, target: Target) -> None:
    target.sources.append(path.name)
    columns = ("timestamp", "visitorid", "event", "itemid", "transactionid")
    for text in text_rows(path, columns, lambda row: target.reject(row, MALFORMED, path)):
        visitor, item = text["visitorid"].str.strip(), text["itemid"].str.strip()
        kind = text["event"].str.strip().map({name: t.value for name, t in TYPES.items()})
        time, order = numbers(text["timestamp"]), text["transactionid"].str.strip()
        kept = target.sift(
            text,
            [
                (visitor.eq(""), "no visitor"),
                (item.eq(""), "no item"),
                (kind.isna(), "event is none of view, addtocart, transaction"),
                (time.isna(), "timestamp is not a number"),
                (~time.between(0, _LATEST), "timestamp is not in epoch milliseconds"),
            ],
            path,
        )
        events = pd.DataFrame(
            {
                # An order has one line an item: the same line again is the same purchase. Other events have no id.
                Column.EVENT_ID: ("transaction " + order + " " + item).where(order.ne("")),
                Column.EVENT_TYPE: kind,
                Column.EVENT_TIME: pd.to_datetime(time[kept], unit="ms", utc=True),
                Column.ITEM_ID: item,
                Column.VISITOR_ID: visitor,
            }
        )
        target.write(Table.EVENTS, events[kept], _EVENTS)


# --- properties -------------------------------------------------------------------------------------------------------------------


class _Newest:
    """The newest value of each kept property of each item, in arrays that double when they are full."""

    def __init__(self, properties: list[str]) -> None:
        self.properties = properties
        self.rows: dict[str, int] = {}  # item id -> row
        self._code = {p: k for k, p in enumerate(properties)}
        self._times = np.full((1024, len(properties)), -1, np.int64)
        self._values = np.full((1024, len(properties)), None, object)
        self._pool: dict[str, str] = {}  # a value that many items have is there once

    def add(
        self, items: pd.Series[str], properties: pd.Series[str], times: pd.Series[float], values: pd.Series[str]
    ) -> None:
        """Rows of the file, `[n]` each; of equally new ones the later counts."""
        code = properties.map(self._code)
        kept = code.notna()
        frame = pd.DataFrame({"item": items, "code": code, "time": times, "value": values})[kept]
        frame = frame.sort_values("time", kind="stable").drop_duplicates(["item", "code"], keep="last")
        for item in frame["item"].unique():
            self.rows.setdefault(item, len(self.rows))
        self._grow()
        row, column = frame["item"].map(self.rows).to_numpy(np.int64), frame["code"].to_numpy(np.int64)
        time = frame["time"].to_numpy(np.int64)
        newer = time >= self._times[row, column]
        row, column = row[newer], column[newer]
        self._times[row, column] = time[newer]
        words = (" ".join(value.split(maxsplit=TOKENS)[:TOKENS]) for value in frame["value"].to_numpy(object)[newer])
        self._values[row, column] = [self._pool.setdefault(value, value) for value in words]

    def column(self, name: str) -> np.ndarray[Any, Any]:
        """Values of a property by row, None where an item has none: object `[items]`."""
        return np.asarray(self._values[: len(self.rows), self._code[name]])

    def _grow(self) -> None:
        while len(self._times) < len(self.rows):
            self._times = np.concatenate([self._times, np.full_like(self._times, -1)])
            self._values = np.concatenate([self._values, np.full_like(self._values, None)])


def _newest(paths: list[Path], target: Target) -> _Newest:
    counts: Counter[str] = Counter()
    for path in paths:
        for text in text_rows(path, ("property",), lambda _: None):
            counts.update(text["property"].str.strip().tolist())
    del counts[""]
    hashed = sorted((p for p in counts if p not in (CATEGORY, AVAILABLE)), key=lambda p: (-counts[p], p))
    if len(hashed) > PROPERTIES:
        target.notes.append(f"{len(hashed)} properties: the {PROPERTIES} most frequent became attributes")
    newest, skipped = _Newest([CATEGORY, AVAILABLE, *hashed[:PROPERTIES]]), list[int]()
    for text in _property_rows(paths, skipped):
        newest.add(text["itemid"], text["property"], text["timestamp"], text["value"])
    if lost := sum(skipped):
        target.notes.append(
            f"item properties: {lost} rows that are malformed, without an item or without a time left out"
        )
    return newest


def _property_rows(paths: list[Path], skipped: list[int]) -> Iterator[pd.DataFrame]:
    """The files' rows in blocks, `timestamp` as a number; how many are left out is added to `skipped`."""
    for path in paths:
        for text in text_rows(path, _PROPERTY_COLUMNS, lambda _: skipped.append(1)):
            time = numbers(text["timestamp"])
            frame = pd.DataFrame({c: text[c].str.strip() for c in _PROPERTY_COLUMNS[1:]}).assign(timestamp=time)
            kept = frame["itemid"].ne("") & frame["property"].ne("") & time.between(0, _LATEST)
            skipped.append(len(frame) - int(kept.sum()))
            yield frame[kept]


# --- items ------------------------------------------------------------------------------------------------------------------------


def _category_paths(source: Source, target: Target) -> dict[str, str]:
    """Category id -> path from the root."""
    path = source.beside("category_tree.csv")
    if path is None:
        target.notes.append("no category_tree.csv: a category is its id alone")
        return {}
    target.sources.append(path.name)
    parents: dict[str, str] = {}
    skipped: list[str] = []
    for text in text_rows(path, ("categoryid", "parentid"), skipped.append):
        parents |= dict(zip(text["categoryid"].str.strip(), text["parentid"].str.strip(), strict=True))
    if skipped:
        target.notes.append(f"{path.name}: {len(skipped)} malformed rows left out")
    return {category: CATEGORY_SEPARATOR.join(_ancestry(category, parents)) for category in parents if category}


def _ancestry(category: str, parents: dict[str, str]) -> list[str]:
    """From the root down; a category that is above itself ends the way up."""
    found = [category]
    while (parent := parents.get(found[-1], "")) and parent not in found:
        found.append(parent)
    return found[::-1]


def _write_items(newest: _Newest, paths: dict[str, str], target: Target) -> None:
    """Every item that has a property, in the order of ids; items that only events name exist without a row."""
    ids = np.array(list(newest.rows), object)
    order = np.argsort(ids, kind="stable")
    names = {f"property_{name}": name for name in newest.properties[2:]}
    kinds = {column: _kind(newest.column(name)) for column, name in names.items()}
    schema = table_schema(Table.ITEMS, (Column.ITEM_ID, Column.CATEGORY, Column.AVAILABLE), kinds)
    for begin in range(0, len(order), _WRITE_ROWS):
        rows = order[begin : begin + _WRITE_ROWS]
        columns: dict[str, list[Any]] = {
            Column.ITEM_ID: ids[rows].tolist(),
            Column.CATEGORY: [paths.get(c, c) if c else None for c in newest.column(CATEGORY)[rows]],
            Column.AVAILABLE: [a == "1" if a in ("0", "1") else None for a in newest.column(AVAILABLE)[rows]],
        }
        for column, name in names.items():
            columns[column] = _attribute(newest.column(name)[rows], kinds[column])
        frame = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
        target.write(Table.ITEMS, frame, schema)


def _kind(values: np.ndarray[Any, Any]) -> Any:
    """Arrow type of an attribute: numbers where every value is exactly one."""
    there = pd.Series([v for v in values if v is not None], dtype=object)
    return pa.float64() if len(there) and there.str.match(_NUMBER).all() else pa.list_(pa.string())


def _attribute(values: np.ndarray[Any, Any], kind: Any) -> list[Any]:
    """Values of that type, None where there is none."""
    if kind == pa.float64():
        return [None if v is None else float(v[1:]) for v in values]
    return [None if v is None else v.split() for v in values]
