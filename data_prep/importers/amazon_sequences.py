"""Item sequences without times, as S3-Rec and its successors publish Amazon data: `user item item ...`, oldest first, a user a line.

The clock is invented: one event a day, every user's last on the same day, so that a split by time is leave-last-out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from core.errors import InputError
from core.schema import DAY, SECOND, Column, EventType, Table
from data_prep.data_directory import table_schema
from data_prep.importers.source import CHUNK_ROWS, Source, reading, text_lines
from data_prep.importers.target import Target

EXPECTS: Final = "sequences.txt or .txt.gz with lines of `user item item ...`, oldest first"
ASSUMES: Final = "one purchase a day, every user's last at 2014-05-13T16:53:20Z; only the order is real"
LAST_EVENT: Final = 1_400_000_000 * SECOND
ATTRIBUTES: Final = "attributes"

_EVENTS: Final = table_schema(Table.EVENTS, (Column.EVENT_TYPE, Column.EVENT_TIME, Column.ITEM_ID, Column.USER_ID))
_ITEMS: Final = table_schema(Table.ITEMS, (Column.ITEM_ID,), {ATTRIBUTES: pa.list_(pa.string())})


def read(source: Source, target: Target) -> None:
    """Sequences into purchases; item attributes, where the folder has them, into items with a list of attribute names."""
    path = source.main("sequences.txt", "*.txt")
    target.sources.append(path.name)
    for users, items in _chunks(path, target):
        lengths = np.array([len(s) for s in items])
        events = pd.DataFrame(
            {
                Column.EVENT_TYPE: EventType.PURCHASE_COMPLETE.value,
                Column.EVENT_TIME: pd.to_datetime(_times(lengths), unit="us", utc=True),
                Column.ITEM_ID: [item for sequence in items for item in sequence],
                Column.USER_ID: np.repeat(np.array(users, object), lengths),
            }
        )
        target.rows_read += len(events)
        target.write(Table.EVENTS, events, _EVENTS)
    _items(source, target)
    target.write_ids(Table.USERS)


def _chunks(path: Path, target: Target) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Users and their items, about CHUNK_ROWS events at a time; never an empty chunk."""
    users: list[str] = []
    items: list[list[str]] = []
    known: set[str] = set()
    events = 0
    for line in text_lines(path, EXPECTS):
        user, *sequence = line.split() or [""]
        if not user:
            continue
        if not sequence:
            target.reject(line[:1000], "a user without items", path)
        elif user in known:
            target.reject(
                line[:1000],
                "a user who already has a sequence: the order between the two is not known",
                path,
                len(sequence),
            )
        else:
            known.add(user)
            users.append(user)
            items.append(sequence)
            events += len(sequence)
        if events >= CHUNK_ROWS:
            yield users, items
            users, items, events = [], [], 0
    if users:
        yield users, items


def _times(lengths: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Sequence lengths int64 `[u]` -> microseconds int64 `[sum of lengths]`: a day apart, each sequence ending at LAST_EVENT."""
    ends = np.repeat(np.cumsum(lengths), lengths)
    return LAST_EVENT - (ends - 1 - np.arange(lengths.sum())) * DAY


def _items(source: Source, target: Target) -> None:
    path = source.beside("item2attributes.json")
    if path is None:
        target.notes.append("no item2attributes.json: items carry no attributes")
        target.write_ids(Table.ITEMS)
        return
    target.sources.append(path.name)
    attributes = _mapping(path, "a JSON object: item -> list of attribute ids")
    if bad := next((item for item, ids in attributes.items() if not isinstance(ids, list)), None):
        raise InputError(f"{path}: item {bad!r} has {attributes[bad]!r}, expected a list of attribute ids")
    names_path = source.beside("attribute_names.json")
    names: dict[str, Any] = {}
    if names_path is not None:
        target.sources.append(names_path.name)
        names = _mapping(names_path, "a JSON object: attribute id -> name")
    named = [[str(names.get(str(a), a)) for a in ids] for ids in attributes.values()]
    target.write(Table.ITEMS, pd.DataFrame({Column.ITEM_ID: list(attributes), ATTRIBUTES: named}), _ITEMS)


def _mapping(path: Path, expected: str) -> dict[str, Any]:
    with reading(path, expected), pa.input_stream(str(path), compression="detect") as raw:
        content = raw.read()
    try:
        value = json.loads(content)
    except ValueError as e:
        raise InputError(f"{path}: not JSON ({e}); expected {expected}") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: a JSON {type(value).__name__}; expected {expected}")
    return value
