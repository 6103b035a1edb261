"""Writing what a layout found: tables in the contract's types, rejects with a reason each, and the counts that must add up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from core.schema import REASON, REJECTED, Column, Table
from data_prep.data_directory import Parts, table_schema

_FILE: Final = "file"
_CONTENT: Final = "content"
_REJECTED_SCHEMA: Final = pa.schema([(REASON, pa.string()), (_FILE, pa.string()), (_CONTENT, pa.string())])
MALFORMED: Final = "a row with another number of fields than the header"


class Target:
    """The data directory that one import fills."""

    def __init__(self, root: Path) -> None:
        self.rows_read = 0
        self.reasons: Counter[str] = Counter()
        self.notes: list[str] = []  # what a person should know besides the rejects
        self.sources: list[str] = []
        self._root = root
        self._parts: dict[str, Parts] = {}
        self._user_ids: set[str] = set()
        self._item_ids: set[str] = set()

    def rows(self, table: str) -> int:
        """Rows written to `table` so far."""
        return self._parts[table].rows if table in self._parts else 0

    def write(self, table: Table, frame: pd.DataFrame, schema: pa.Schema) -> None:
        """Append rows; `frame` has at least the columns of `schema`, in types that convert without loss."""
        if table is Table.EVENTS:
            self._item_ids.update(frame[Column.ITEM_ID].unique())
            if Column.USER_ID in frame:
                self._user_ids.update(frame[Column.USER_ID].dropna().unique())
        self._append(table, frame, schema)

    def sift(self, frame: pd.DataFrame, problems: Sequence[tuple[pd.Series[bool], str]], path: Path) -> pd.Series[bool]:
        """Count the source rows of `frame` as read, reject each that has a problem (the first one listed), and return a mask of the others."""
        self.rows_read += len(frame)
        reason = np.select([bad.to_numpy(bool) for bad, _ in problems], [text for _, text in problems], default="")
        bad = pd.Series(reason != "", index=frame.index)
        if bad.any():
            content = [json.dumps(row, ensure_ascii=False) for row in frame[bad].to_dict("records")]
            self._reject(reason[bad.to_numpy()].tolist(), content, path)
        return ~bad

    def reject(self, text: str, reason: str, path: Path, rows: int = 1) -> None:
        """Count source rows as read and rejected, `text` as it stood in the file."""
        self.rows_read += rows
        self._reject([reason] * rows, [text] * rows, path)

    def write_ids(self, table: Table) -> None:
        """A table of the ids alone that the events name, where the layout knows nothing more of them."""
        ids, column = (self._item_ids, Column.ITEM_ID) if table is Table.ITEMS else (self._user_ids, Column.USER_ID)
        self._append(table, pd.DataFrame({column: sorted(ids)}), table_schema(table, (column,)))

    def first_of_each(self, frame: pd.DataFrame, column: Column, path: Path) -> pd.DataFrame:
        """`frame` without rows that have no id or one that came before; a note says how many."""
        kept = frame[frame[column].ne("") & ~frame[column].duplicated()]
        if len(kept) < len(frame):
            self.notes.append(
                f"{path.name}: {len(frame) - len(kept)} rows without an id or with a repeated one left out"
            )
        return kept

    def close(self) -> None:
        """Finish every file and check that no row was lost."""
        for parts in self._parts.values():
            parts.close()
        written, rejected = self.rows(Table.EVENTS), sum(self.reasons.values())
        if self.rows_read != written + rejected:
            raise AssertionError(f"{self.rows_read} rows read, {written} events written, {rejected} rejected")

    def _reject(self, reasons: list[str], content: Iterable[str], path: Path) -> None:
        self.reasons.update(reasons)
        frame = pd.DataFrame({REASON: reasons, _FILE: path.name, _CONTENT: list(content)})
        self._append(REJECTED, frame, _REJECTED_SCHEMA)

    def _append(self, table: str, frame: pd.DataFrame, schema: pa.Schema) -> None:
        if table not in self._parts:
            self._parts[table] = Parts(self._root / table, schema)
        columns: dict[str, Any] = {name: frame[name] for name in schema.names}
        self._parts[table].append(pa.table(columns, schema=schema))
