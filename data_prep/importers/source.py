"""Reading what a person points `import` at: finds the files of a layout and yields their rows as text, chunk by chunk.

Every cell is text until a layout parses it, so that one bad cell costs its row and not the run. A file that is not what the layout expects
(missing, empty, another format, a column short, cut off) is an InputError of one line.
"""

from __future__ import annotations

import codecs
import contextlib
import difflib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from core.errors import InputError

BLOCK_BYTES: Final = 16 << 20
CHUNK_ROWS: Final = 500_000
_PARQUET_MAGIC, _ZIP_MAGIC = b"PAR1", b"PK\x03\x04"


@dataclass(frozen=True)
class Source:
    """A folder in some layout, or the main file of one (other files are then looked for beside it)."""

    layout: str
    path: Path
    expects: str  # what such a folder holds, for messages

    def main(self, *patterns: str) -> Path:
        """The file that holds the events: PATH itself, or the one in the folder that fits the first pattern with a match."""
        if self.path.is_file():
            return self.path
        if not self.path.is_dir():
            raise InputError(f"{self.path}: no such file or folder; expected {self.expects}")
        found = self.beside(*patterns)
        if found is None:
            names = sorted(p.name for p in self.path.iterdir())
            holds = (
                "it is empty" if not names else "it holds " + ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
            )
            raise InputError(f"{self.path}: no {patterns[0]} here ({holds}); {self.layout} expects {self.expects}")
        return found

    def beside(self, *patterns: str) -> Path | None:
        """Another file of the layout, if there is one. Each pattern is a glob; a name may go on with .gz."""
        folder = self.path.parent if self.path.is_file() else self.path
        for pattern in patterns:
            found = sorted({*folder.glob(pattern), *folder.glob(pattern + ".gz")})
            if len(found) > 1:
                both = " and ".join(p.name for p in found[:2])
                raise InputError(f"{folder}: {both} both fit {pattern}; expected one of them: name the file itself")
            if found:
                return found[0]
        return None


@contextlib.contextmanager
def reading(path: Path, expected: str) -> Iterator[None]:
    """Turn what a broken file makes a library say into one line: what, where, expected."""
    try:
        yield
    except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as e:
        said = " ".join(str(e).split()).removesuffix(".") or type(e).__name__
        raise InputError(
            f"{path}: cannot be read ({said}): truncated, damaged or another format; expected {expected}"
        ) from None


def text_rows(
    path: Path, columns: Sequence[str], malformed: Callable[[str], None], fallback_encoding: str = "utf-8"
) -> Iterator[pd.DataFrame]:
    """Yield frames `[rows]` of `columns`, each cell a string, "" where there is none.

    Args:
        path: CSV with a header (plain or gzip) or Parquet.
        columns: Columns that must be there; others are left out.
        malformed: Called with the text of each CSV row that has another number of fields than the header.
        fallback_encoding: Of a CSV that is not UTF-8.

    Raises:
        InputError: The file is empty, lacks a column, is cut off or is something else.
    """
    rows = 0
    for batch in _batches(path, columns, malformed, fallback_encoding):
        if batch.num_rows:
            rows += batch.num_rows
            yield _as_text(batch)
    if rows == 0:
        raise InputError(f"{path}: holds a header and no rows; expected rows of {', '.join(columns)}")


def text_lines(path: Path, expected: str) -> Iterator[str]:
    """Yield the lines of a UTF-8 text file, plain or gzip, without their ends."""
    _sniff(path, expected)
    with reading(path, expected), pa.input_stream(str(path), compression="detect") as raw:
        decoder, rest = codecs.getincrementaldecoder("utf-8")(), ""
        while block := raw.read(1 << 20):
            *lines, rest = (rest + decoder.decode(block)).split("\n")
            yield from (line.rstrip("\r") for line in lines)
        decoder.decode(b"", final=True)
        if rest:
            yield rest


def _batches(
    path: Path, columns: Sequence[str], malformed: Callable[[str], None], encoding: str
) -> Iterator[pa.RecordBatch]:
    expected = f"CSV or Parquet with the columns {', '.join(columns)}"
    head = _sniff(path, expected)
    if head.startswith(_PARQUET_MAGIC):
        with reading(path, expected), pq.ParquetFile(path) as file:
            _need_columns(path, columns, file.schema_arrow.names)
            yield from file.iter_batches(CHUNK_ROWS, columns=list(columns))
        return
    with reading(path, expected):
        if encoding != "utf-8" and _is_utf8(path):
            encoding = "utf-8"
        with pa.input_stream(str(path), compression="detect") as raw:
            header = raw.read(1 << 16).decode(encoding, "replace").split("\n", 1)[0]
        names = [n.strip().strip('"') for n in header.lstrip("\ufeff").strip().split(",")]
        _need_columns(path, columns, names)
        with pa.input_stream(str(path), compression="detect") as raw:
            yield from _csv(raw, names, columns, malformed, encoding)


def _csv(raw: Any, names: list[str], columns: Sequence[str], malformed: Callable[[str], None], encoding: str) -> Any:
    def skip(row: Any) -> str:
        malformed(row.text or "")
        return "skip"

    return pa_csv.open_csv(
        raw,
        # One thread: rows are counted in the order of the file.
        read_options=pa_csv.ReadOptions(
            use_threads=False, block_size=BLOCK_BYTES, encoding=encoding, column_names=names, skip_rows=1
        ),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
        convert_options=pa_csv.ConvertOptions(
            include_columns=list(columns), column_types={c: pa.string() for c in columns}, strings_can_be_null=False
        ),
    )


def _sniff(path: Path, expected: str) -> bytes:
    """The first bytes, decompressed; refuses what is plainly no text and no Parquet."""
    with reading(path, expected), pa.input_stream(str(path), compression="detect") as raw:
        head: bytes = raw.read(1 << 16)
    if not head.strip():
        raise InputError(f"{path}: empty, or cut off before its first row; expected {expected}")
    if head.startswith(_ZIP_MAGIC):
        raise InputError(
            f"{path}: a zip archive or Excel workbook; expected {expected}: unpack it, or save the sheet as CSV"
        )
    if not head.startswith(_PARQUET_MAGIC) and b"\0" in head:
        raise InputError(f"{path}: binary data; expected {expected}")
    return head


def _is_utf8(path: Path) -> bool:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with pa.input_stream(str(path), compression="detect") as raw:
        try:
            while block := raw.read(1 << 20):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return False
    return True


def _need_columns(path: Path, columns: Sequence[str], found: Sequence[str]) -> None:
    for column in columns:
        if column not in found:
            close = difflib.get_close_matches(column, found, n=1)
            hint = (
                f"did you mean {close[0]!r}?"
                if close
                else f"rename one or point import at another file (needed: {', '.join(columns)})"
            )
            # A binary or headless file would print a page here.
            names = ", ".join(found)
            raise InputError(f"{path}: no column {column!r}, found {names[:200]}; {hint}")


def _as_text(batch: pa.RecordBatch) -> pd.DataFrame:
    columns = [pc.fill_null(c if pa.types.is_string(c.type) else c.cast(pa.string()), "") for c in batch.columns]
    frame: pd.DataFrame = pa.RecordBatch.from_arrays(columns, batch.schema.names).to_pandas()
    return frame


def numbers(cells: pd.Series[str]) -> pd.Series[float]:
    """Float64 `[n]`; NaN where the text is not a finite number."""
    parsed = pd.to_numeric(cells, errors="coerce").astype("float64")
    return parsed.where(np.isfinite(parsed))
