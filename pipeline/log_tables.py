"""The three tables of the event log: from stream entries to rows, from rows to Parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core.event_log import CANDIDATES, EVENT, EVENT_KINDS, FEATURES, PAGE, PAGES, SNAPSHOTS, TREND

_TYPES: Final[dict[str, pa.DataType]] = {
    "text": pa.string(),
    "time": pa.timestamp("us", tz="UTC"),
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
    "texts": pa.list_(pa.string()),
    "integers": pa.list_(pa.int32()),
    "numbers": pa.list_(pa.float32()),
    "rows": pa.list_(pa.int32()),
    "hashes": pa.list_(pa.uint64()),
    "map": pa.map_(pa.string(), pa.string()),
    "bytes": pa.binary(),
}


@dataclass(frozen=True)
class Rows:
    """How one stream becomes one table: the field that holds JSON, and the kind of each column."""

    document: str
    kinds: Mapping[str, str]

    def row(self, fields: Mapping[bytes, bytes]) -> dict[str, Any]:
        """One stream entry as columns; those without a value are left out.

        Raises:
            KeyError, ValueError: It is no entry of this stream.
        """
        row: dict[str, Any] = dict(json.loads(fields[self.document.encode()]))
        if candidates := fields.get(CANDIDATES.encode()):
            row[CANDIDATES] = np.frombuffer(candidates, "<i4")
        if features := fields.get(FEATURES.encode()):
            row[FEATURES] = features
        return row

    @property
    def schema(self) -> pa.Schema:
        """Of the files: always all columns, so that all files are alike."""
        return pa.schema([(name, _TYPES[kind]) for name, kind in self.kinds.items()])


EVENT_ROWS: Final = Rows(EVENT, EVENT_KINDS)
PAGE_ROWS: Final = Rows(PAGE, {str(c): kind for c, kind in PAGES.items()})
TREND_ROWS: Final = Rows(TREND, {str(c): kind for c, kind in SNAPSHOTS.items()})


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]], shape: Rows) -> None:
    """One file; a column that a row lacks is null."""
    columns = {name: [_cell(r.get(name), kind) for r in rows] for name, kind in shape.kinds.items()}
    pq.write_table(pa.Table.from_pydict(columns, shape.schema), path, compression="zstd")


def _cell(value: Any, kind: str) -> Any:
    return list(value.items()) if kind == "map" and value is not None else value
