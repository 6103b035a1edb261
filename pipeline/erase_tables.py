"""Takes people out of table files: Parquet, CSV and JSON-lines, plain or compressed. A file that does not name them is not touched.

Rows are parsed, never only searched: of the events, users and pages of a data directory `core.erasure.Forgotten.verdict` decides what goes. Of rejected
rows, and of tables of our own, every row that names a forgotten person goes. A file whose every row goes is removed.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from core import atomic
from core.columns import Array
from core.erasure import CATALOGUE_COLUMNS, ID_COLUMNS, Forgotten, Verdict
from core.errors import InputError
from core.schema import Column

_OPENERS: Final[dict[str, Callable[..., Any]]] = {".gz": gzip.open, ".bz2": bz2.open}
_JSON: Final = (".jsonl", ".ndjson", ".json")
_BLOCK: Final = 1 << 20
_LONGEST_FIELD: Final = (1 << 31) - 1


@dataclass
class Tally:
    """What was done."""

    rows: int = 0  # removed, or rid of a name
    files: int = 0  # rewritten or removed
    sessions: set[str] = field(default_factory=set)  # of the events removed


def is_table(path: Path) -> bool:
    """Whether the file's name says that it is one of the kinds this module rewrites."""
    return _kind(path) in (".parquet", ".pq", ".csv", *_JSON)


def opener(path: Path) -> Callable[..., Any]:
    """`open`, or what opens a compressed file like it."""
    return _OPENERS.get(path.suffix.lower(), open)


def erase_table(
    path: Path, gone: Forgotten, tally: Tally, *, strict: bool = False, keep_empty: bool = False, dry: bool = False
) -> bool:
    """Take `gone` out of one file; whether it named them.

    Args:
        path: The file.
        gone: Who.
        tally: Counts what is done.
        strict: Every row that names them goes, whoever's it is.
        keep_empty: Leave a Parquet file without rows instead of none.
        dry: Only say.

    Raises:
        InputError: The file cannot be read as what its name says.
    """
    judge = _Judge(gone, strict)
    try:
        if _kind(path) in (".parquet", ".pq"):
            rows, left = _rewrite_parquet(path, judge, dry)
        else:
            rows, left = _rewrite_text(path, judge, dry)
    except (OSError, EOFError, csv.Error, pa.ArrowException) as e:
        text = " ".join(str(e).split())
        raise InputError(
            f"{path}: cannot be read ({text}), so nobody can be taken out of it; repair or remove it"
        ) from None
    if dry or not rows:
        return rows > 0
    if not left and not keep_empty:
        path.unlink()
        atomic.fsync_path(path.parent)
    # Spark's checksum of what the file was
    path.with_name(f".{path.name}.crc").unlink(missing_ok=True)
    tally.rows, tally.files = tally.rows + rows, tally.files + 1
    tally.sessions |= judge.sessions
    return True


def _kind(path: Path) -> str:
    return Path(path.stem if path.suffix.lower() in _OPENERS else path.name).suffix.lower()


class _Judge:
    """Decides about rows, and remembers the sessions of those that go."""

    def __init__(self, gone: Forgotten, strict: bool) -> None:
        self.gone, self.strict = gone, strict
        self.forms = [form.decode() for form in gone.forms]
        self.sessions: set[str] = set()
        self.pattern = "|".join(re.escape(f) for f in (self.forms if strict else [t.decode() for t in gone.tokens]))

    def mentions(self, text: str) -> bool:
        """Whether it is worth a closer look."""
        return any(form in text for form in self.forms)

    def malformed(self, text: str) -> Verdict:
        """Of what cannot be parsed: it goes if an id, however short, stands in it as a word of its own."""
        named = self.gone.occurs_in(text.encode(errors="surrogateescape"), short=True)
        return Verdict.DROP if named else Verdict.KEEP

    def row(self, row: Mapping[str, Any]) -> Verdict:
        """Of a row by column names, ids as text."""
        if self.strict:
            named = any(self._names(v, k) for k, v in row.items() if v is not None)
            return Verdict.DROP if named else Verdict.KEEP
        verdict = self.gone.verdict_of(row)
        if verdict is Verdict.DROP and row.get(Column.SESSION_ID):
            self.sessions.add(str(row[Column.SESSION_ID]))
        return verdict

    def _names(self, value: Any, column: str) -> bool:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
        return self.gone.names_any(text, column) or self.malformed(text) is Verdict.DROP


def _id_text(value: Any) -> str:
    """An id as `prepare` reads it: blank is none, whole floats lose their fraction.

    >>> [_id_text(v) for v in (None, " ", "a ", 7, 7.0, 7.5)]
    ['', '', 'a ', '7', '7', '7.5']
    """
    if value is None or value != value:  # not a number
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    return text if text.strip() else ""


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {k: _id_text(v) if k in ID_COLUMNS else v for k, v in row.items()}


# --- Parquet


def _rewrite_parquet(path: Path, judge: _Judge, dry: bool) -> tuple[int, int]:
    """Rows that went or changed, and rows left (of a file that was changed)."""
    with pq.ParquetFile(path) as f:
        searched = [c.name for c in f.schema_arrow if _searched(c)]
        found = [_found(f.read_row_group(g, columns=searched), judge) for g in range(f.num_row_groups)]
        changed = sum(len(verdicts) for verdicts in found)
        if dry or not changed:
            return changed, 0
        left = 0
        # a dictionary would keep the texts that no row has any more
        schema = pa.schema([c.with_type(_decoded(c.type)) for c in f.schema_arrow], f.schema_arrow.metadata)
        codec = f.metadata.row_group(0).column(0).compression.lower()
        with (
            atomic.new_file(path) as beside,
            pq.ParquetWriter(beside, schema, compression="none" if codec == "uncompressed" else codec) as out,
        ):
            for g, verdicts in enumerate(found):
                table = _without(f.read_row_group(g).cast(schema), verdicts, judge.gone)
                left += table.num_rows
                if table.num_rows:
                    out.write_table(table)
    return changed, left


def _searched(column: pa.Field) -> bool:
    if column.name in CATALOGUE_COLUMNS:
        return False
    return column.name in ID_COLUMNS or _has_text(column.type)


def _has_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_text(kind.value_type)
    if pa.types.is_nested(kind):
        return any(_has_text(kind.field(i).type) for i in range(kind.num_fields))
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _decoded(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _found(table: pa.Table, judge: _Judge) -> dict[int, Verdict]:
    """What becomes of the rows that name somebody, by row number."""
    named = np.zeros(table.num_rows, bool)
    for name, column in zip(table.column_names, table.columns, strict=True):
        named |= _named(column, name, judge)
    rows = np.flatnonzero(named)
    verdicts = [judge.row(_plain(row)) for row in table.take(pa.array(rows)).to_pylist()]
    return {r: v for r, v in zip(rows.tolist(), verdicts, strict=True) if v is not Verdict.KEEP}


def _named(column: pa.ChunkedArray, name: str, judge: _Judge) -> Array:
    """Bool `[n]`: the cells worth a closer look."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_nested(column.type):
        return np.array(
            [
                v is not None and judge.mentions(json.dumps(v, ensure_ascii=False, default=str))
                for v in column.to_pylist()
            ],
            bool,
        )
    numbers = not _has_text(column.type)
    texts = pa.array(map(_id_text, column.to_pylist()), pa.string()) if numbers else column.cast(pa.large_string())
    found = pc.is_in(texts, pa.array(sorted(judge.gone.names), texts.type)) if name in ID_COLUMNS else None
    if judge.pattern:
        inside = pc.match_substring_regex(texts, judge.pattern)
        found = inside if found is None else pc.or_kleene(found, inside)
    return np.zeros(len(texts), bool) if found is None else np.asarray(found.fill_null(False))


def _without(table: pa.Table, verdicts: Mapping[int, Verdict], gone: Forgotten) -> pa.Table:
    keep, blank = np.ones(table.num_rows, bool), [r for r, v in verdicts.items() if v is Verdict.BLANK]
    keep[[r for r, v in verdicts.items() if v is Verdict.DROP]] = False
    for at, column in enumerate(table.schema if blank else ()):
        if not _searched(column):
            continue
        cells = dict(zip(blank, table.column(at).take(pa.array(blank)).to_pylist(), strict=True))
        named = [
            r for r, v in cells.items() if v is not None and column.name not in gone.blanked(_plain({column.name: v}))
        ]
        if named:
            values = table.column(at).to_pylist()
            for r in named:
                values[r] = None if column.nullable else ""
            table = table.set_column(at, column, pa.array(values, column.type))
    return table.filter(pa.array(keep))


# --- text


def _rewrite_text(path: Path, judge: _Judge, dry: bool) -> tuple[int, int]:
    """As `_rewrite_parquet`."""
    if not _holds(path, [form.encode() for form in judge.forms]):
        return 0, 0
    records = _csv_records if _kind(path) == ".csv" else _json_records
    with _reading(path) as source:
        changed = sum(verdict is not Verdict.KEEP for verdict, _ in records(source, judge))
    if dry or not changed:
        return changed, 0
    left = 0
    with (
        _reading(path) as source,
        atomic.new_file(path) as beside,
        opener(path)(beside, "wt", encoding="utf-8", errors="surrogateescape", newline="") as out,
    ):
        for verdict, text in records(source, judge):
            if verdict is not Verdict.DROP:
                out.write(text)
                left += bool(text.strip())
    return changed, left - (_kind(path) == ".csv")  # whose first line is the header


def _reading(path: Path) -> Any:
    # bytes that are no UTF-8 come through as they are
    return opener(path)(path, "rt", encoding="utf-8", errors="surrogateescape", newline="")


def _holds(path: Path, forms: list[bytes]) -> bool:
    """Whether any of `forms` occurs in the file, uncompressed."""
    overlap = max(map(len, forms)) - 1
    with opener(path)(path, "rb") as f:
        before = b""
        while block := f.read(_BLOCK):
            if any(form in before + block for form in forms):
                return True
            before = (before + block)[-overlap:] if overlap else b""
    return False


def _json_records(source: TextIO, judge: _Judge) -> Iterator[tuple[Verdict, str]]:
    """Line by line: what becomes of it, and what it then is."""
    for line in source:
        if not judge.mentions(line):
            yield Verdict.KEEP, line
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            yield judge.malformed(line), line
            continue
        verdict = judge.row(_plain(row))
        yield verdict, _json_blanked(row, judge.gone, line) if verdict is Verdict.BLANK else line


def _json_blanked(row: dict[str, Any], gone: Forgotten, line: str) -> str:
    left = gone.blanked(_plain(row))
    others = {name: cell for name, cell in row.items() if name in left}
    return json.dumps(others, ensure_ascii=False, separators=(",", ":")) + line[len(line.rstrip("\r\n")) :]


class _Lines(Iterator[str]):
    """Hands lines to a parser and remembers those of the record it is at."""

    def __init__(self, source: TextIO) -> None:
        self._source, self._taken = source, [""]
        self._taken.clear()

    def __next__(self) -> str:
        line = next(self._source)
        self._taken.append(line)
        return line

    def record(self) -> list[str]:
        """The lines since the last call."""
        lines, self._taken = self._taken, []
        return lines


def _csv_records(source: TextIO, judge: _Judge) -> Iterator[tuple[Verdict, str]]:
    """Record by record, the header first."""
    csv.field_size_limit(_LONGEST_FIELD)
    lines = _Lines(source)
    parser = csv.reader(lines)
    header = [name.strip().removeprefix("\ufeff") for name in next(parser, [])]
    yield Verdict.KEEP, "".join(lines.record())
    for cells in parser:
        raw = lines.record()
        text = "".join(raw)
        if not judge.mentions(text):
            yield Verdict.KEEP, text
        elif len(cells) != len(header) or text.count('"') % 2:
            # one stray quote may make a record of all that follows: only the lines that name somebody go
            yield from ((judge.malformed(line), line) for line in raw)
        else:
            row = dict(zip(header, cells, strict=True))
            verdict = judge.row(_plain(row))
            yield verdict, _csv_blanked(row, judge.gone, text) if verdict is Verdict.BLANK else text


def _csv_blanked(row: dict[str, str], gone: Forgotten, text: str) -> str:
    left, cells = gone.blanked(row), []
    for name in row:
        cell = left.get(name, "")
        quoted = any(c in cell for c in ',"\r\n')
        cells.append('"' + cell.replace('"', '""') + '"' if quoted else cell)
    return ",".join(cells) + text[len(text.rstrip("\r\n")) :]
