"""A data directory in the making: the three tables of the contract as Parquet parts, visible only when complete.

    DATA/
      events/part-*.parquet    items/part-*.parquet    users/part-*.parquet
      rejected/part-*.parquet  rows that could not become events: reason, file, content
      dataset.yaml             what wrote it, from which files, and whether the clock is real

The same rows give the same bytes: the writer's settings are fixed and nothing of the moment of writing goes in.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from core import atomic
from core.errors import InputError
from core.schema import CONTRACTS, DATASET_FILE, Column, Table

PART_ROWS: Final = 2_000_000

ARROW_TYPES: Final[dict[str, Any]] = {
    "text": pa.string(),
    "time": pa.timestamp("us", tz="UTC"),
    "number": pa.float64(),
    "integer": pa.int64(),
    "boolean": pa.bool_(),
}


def table_schema(table: Table, columns: Sequence[Column], attributes: Mapping[str, Any] | None = None) -> pa.Schema:
    """The Arrow schema of `columns` as the contract types them, followed by `attributes` (name -> Arrow type)."""
    kinds = CONTRACTS[table].kinds
    fields = [(str(c), ARROW_TYPES[kinds[c]]) for c in columns]
    return pa.schema(fields + list((attributes or {}).items()))


def open_part(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet writer whose bytes depend on the rows alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return pq.ParquetWriter(path, schema, compression="zstd", version="2.6")


class Parts:
    """Appends batches to `folder/part-00000.parquet`, and begins another part after `part_rows` rows."""

    def __init__(self, folder: Path, schema: pa.Schema, part_rows: int = PART_ROWS) -> None:
        self.rows = 0
        self._folder, self._schema, self._part_rows = folder, schema, part_rows
        self._writer: pq.ParquetWriter | None = None
        self._parts = self._in_part = 0

    def append(self, batch: pa.Table) -> None:
        """Add rows of exactly this schema."""
        if self._writer is None:
            self._writer = open_part(self._folder / f"part-{self._parts:05d}.parquet", self._schema)
            self._parts += 1
        self._writer.write_table(batch)
        self.rows += batch.num_rows
        self._in_part += batch.num_rows
        if self._in_part >= self._part_rows:
            self.close()

    def close(self) -> None:
        """Finish the part that is open, if one is."""
        if self._writer is not None:
            self._writer.close()
            self._writer, self._in_part = None, 0


@contextlib.contextmanager
def new_data_directory(out: Path) -> Iterator[Path]:
    """A folder to write beside `out`; it becomes `out` only if the block ends without an error.

    Raises:
        InputError: `out` is a file or a folder with something in it, or cannot be made.
    """
    _refuse_used(out)
    with contextlib.ExitStack() as stack:
        try:
            beside = stack.enter_context(atomic.new_directory(out))
        except OSError as e:
            raise InputError(f"{out}: cannot be written here ({e.strerror}); name another --out") from None
        yield beside
        # The rename needs the name free; whatever came there meanwhile is not ours to replace.
        _refuse_used(out)
        if out.exists():
            out.rmdir()


def write_dataset_file(root: Path, layout: str, sources: Sequence[str], synthetic_time: bool, **about: Any) -> None:
    """Say what the tables in `root` are: layout, source file names, whether only the order of events is real."""
    text = {"layout": layout, "sources": list(sources), "synthetic_time": synthetic_time, **about}
    (root / DATASET_FILE).write_text(yaml.safe_dump(text, sort_keys=False, allow_unicode=True))


def _refuse_used(out: Path) -> None:
    if out.is_dir():
        if any(out.iterdir()):
            raise InputError(
                f"{out}: already holds files; expected an absent or empty folder: remove it or name another --out"
            )
    elif out.exists() or out.is_symlink():
        raise InputError(f"{out}: a file, expected an absent or empty folder; name another --out")
