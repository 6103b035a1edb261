"""The files of a data directory: which there are, what columns each holds, and whether they changed since last time.

Only footers, headers and the first rows are read here. Files with the same columns form one `Group`, which Spark reads
at once; a file that cannot be what its name says is refused here, before anything is written.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from core.config import read_yaml
from core.errors import InputError, nearest
from core.schema import DATASET_FILE, EVENTS, Column, Table, TableContract
from data_prep.times import Clock, detect

FORMATS: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}
_OPENERS: Final[dict[str, Callable[..., Any]]] = {"": open, ".gz": gzip.open, ".bz2": bz2.open}
_SAMPLE_ROWS: Final = 1000


@dataclass(frozen=True)
class Source:
    """One input file: its columns with a type name each ("text" in CSV), and how each of its time columns counts."""

    path: Path
    name: str  # relative to the data directory, for messages
    format: str  # parquet | csv | json
    columns: tuple[tuple[str, str], ...]
    clocks: tuple[tuple[str, Clock], ...]


@dataclass(frozen=True)
class Group:
    """Files that can be read as one, because their columns, types and clocks are the same."""

    format: str
    columns: tuple[tuple[str, str], ...]
    clocks: dict[str, Clock]
    sources: tuple[Source, ...]


def table_files(data: Path, table: Table) -> list[Path]:
    """The files of a table, directly in its folder or nested in day folders, sorted; names that begin with . or _ are not data.

    Raises:
        InputError: A file of an unknown kind.
    """
    root = data / table
    if root.exists() and not root.is_dir():
        raise InputError(f"{root}: a file, expected a folder of Parquet, CSV or JSON-lines files")
    found = sorted(
        f for f in root.rglob("*") if f.is_file() and not any(p[0] in "._" for p in f.relative_to(root).parts)
    )
    for f in found:
        if _kind(f) is None:
            raise InputError(
                f"{f}: unsupported file type {''.join(f.suffixes[-2:]) or 'without an extension'!r}; expected .parquet, .csv, .jsonl, "
                ".json or .ndjson, text files plain or compressed as .gz or .bz2; convert it, or move it out of the folder"
            )
    return found


def groups(
    data: Path, contract: TableContract, say: Callable[[str], None], only: Container[str] | None = None
) -> list[Group]:
    """Look into every file of a table (or `only` those of these names), check its columns, say how its times are read, group equal files.

    Raises:
        InputError: A file that is empty, is not what its name says, or lacks a required column.
    """
    named = [(f, str(f.relative_to(data))) for f in table_files(data, contract.table)]
    sources = [_look(f, name, contract) for f, name in named if only is None or name in only]
    _state_clocks(sources, say)
    if contract.table is Table.EVENTS:
        _state_ignored(sources, contract, say)
    alike: dict[Any, list[Source]] = {}
    for s in sources:
        alike.setdefault((s.format, s.columns, s.clocks), []).append(s)
    return [Group(f, columns, dict(clocks), tuple(members)) for (f, columns, clocks), members in alike.items()]


def size(data: Path) -> int:
    """Bytes of all input files."""
    return sum(f.stat().st_size for t in Table for f in table_files(data, t))


def dataset_facts(data: Path) -> dict[str, Any]:
    """What `import` or `simulate` wrote about the data beside its tables; empty where a shop's own export lies."""
    path = data / DATASET_FILE
    return read_yaml(path) if path.exists() else {}


def _kind(path: Path) -> tuple[str, str] | None:
    """Format and compression by the name's end; None for an unknown one."""
    compression = path.suffix.lower() if path.suffix.lower() in _OPENERS else ""
    stem = path.name[: len(path.name) - len(compression)]
    format = FORMATS.get(Path(stem).suffix.lower())
    return None if format is None or (compression and format == "parquet") else (format, compression)


def _look(path: Path, name: str, contract: TableContract) -> Source:
    if path.stat().st_size == 0:
        raise InputError(
            f"{path}: an empty file (0 bytes), expected {contract.table} rows; write it again, or remove it"
        )
    format, compression = _kind(path) or ("", "")
    try:
        if format == "parquet":
            columns, sample = _look_parquet(path, contract)
        else:
            with _OPENERS[compression](path, "rb") as f:
                columns, sample = (_look_csv if format == "csv" else _look_json)(f, path)
    except (OSError, EOFError, pa.ArrowException) as e:
        raise InputError(
            f"{path}: not a readable {format} file, as its name says ({_first_line(e)}); write it again, or remove it"
        ) from None
    _check_columns(path, [c for c, _ in columns], contract)
    known = dict(columns)
    clocks = tuple(
        (c.value, detect(known[c], sample.get(c, [])))
        for c, kind in contract.kinds.items()
        if kind == "time" and c in known
    )
    return Source(path, name, format, columns, clocks)


def _look_parquet(path: Path, contract: TableContract) -> tuple[tuple[tuple[str, str], ...], dict[str, list[Any]]]:
    with pq.ParquetFile(path) as f:
        schema, physical = f.schema_arrow, {c.path: c.physical_type for c in map(f.schema.column, range(len(f.schema)))}
        columns = []
        for field in schema:
            type_name = str(field.type)
            if type_name.startswith("timestamp[ns") and physical.get(field.name) == "INT96":
                type_name = type_name.replace("ns", "us")  # Spark reads the old INT96 kind by itself
            if not pa.types.is_null(field.type):  # a column without one value says nothing
                columns.append((field.name, type_name))
        # only text and integers leave a doubt, and nanoseconds have no Python value
        times = {c.value for c, kind in contract.kinds.items() if kind == "time"}
        doubtful = [field.name for field in schema if field.name in times and not pa.types.is_temporal(field.type)]
        sample: dict[str, list[Any]] = {}
        if doubtful and f.metadata.num_rows:
            first = next(f.iter_batches(_SAMPLE_ROWS, columns=doubtful))
            sample = {name: first.column(name).drop_null().to_pylist() for name in doubtful}
    return tuple(columns), sample


def _look_csv(f: IO[bytes], path: Path) -> tuple[tuple[tuple[str, str], ...], dict[str, list[Any]]]:
    head = list(csv.reader(_text_lines(f, path)))
    if not head or not any(head[0]):
        raise InputError(f"{path}: no header line, expected the column names in the first line")
    header = [h.strip() for h in head[0]]
    if twice := sorted({h for h in header if header.count(h) > 1}):
        raise InputError(f"{path}: column {twice[0]!r} appears twice in the header; rename one of them")
    rows = [r for r in head[1:] if len(r) == len(header)]
    return tuple((h, "text") for h in header), {h: [r[i] for r in rows if r[i]] for i, h in enumerate(header)}


def _look_json(f: IO[bytes], path: Path) -> tuple[tuple[tuple[str, str], ...], dict[str, list[Any]]]:
    rows: list[dict[str, Any]] = []
    for line in _text_lines(f, path):
        if line.strip():
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue  # one bad line is a rejected row, a file of them is refused below
            if isinstance(row, dict):
                rows.append(row)
    if not rows:
        raise InputError(
            f"{path}: no line is a JSON object, expected JSON-lines (one object with the column names as keys a line)"
        )
    names = sorted({k for r in rows for k in r})
    return tuple((n, "json") for n in names), {n: [r[n] for r in rows if r.get(n) is not None] for n in names}


def _text_lines(f: IO[bytes], path: Path) -> Iterator[str]:
    """The first lines as text."""
    lines = [line for _, line in zip(range(_SAMPLE_ROWS + 1), f, strict=False)]
    try:
        text = b"".join(lines).decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise InputError(f"{path}: not UTF-8 text ({e.reason} at byte {e.start}); convert it to UTF-8") from None
    if "\0" in text:
        raise InputError(f"{path}: binary data, expected UTF-8 text as its name says; write it again, or remove it")
    return iter(io.StringIO(text, newline=""))


def _check_columns(path: Path, columns: list[str], contract: TableContract) -> None:
    for needed in contract.required:
        if needed not in columns:
            hint = nearest(needed, columns)
            raise InputError(
                f"{path}: no column {needed.value!r}, which {contract.table} must have; it holds {_listed(columns)}; "
                + (hint if hint.startswith("did you") else "rename the column that means it")
            )
    if contract is EVENTS and not {Column.USER_ID, Column.VISITOR_ID} & set(columns):
        raise InputError(
            f"{path}: neither 'user_id' nor 'visitor_id', one of which events must have; it holds {_listed(columns)}"
        )


def _listed(columns: list[str]) -> str:
    return ", ".join(columns[:12]) + (f" and {len(columns) - 12} more" if len(columns) > 12 else "")


def _state_clocks(sources: list[Source], say: Callable[[str], None]) -> None:
    """One line for each way that times are written, naming the first file that does."""
    seen: dict[tuple[str, str], list[str]] = {}
    for s in sources:
        for column, clock in s.clocks:
            seen.setdefault((column, clock.text), []).append(s.name)
    for (column, text), names in seen.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        say(f"{names[0]}{more}: {column} read as {text}")


def _state_ignored(sources: list[Source], contract: TableContract, say: Callable[[str], None]) -> None:
    ignored = sorted({c for s in sources for c, _ in s.columns} - set(contract.kinds))
    if ignored:
        say(
            f"{contract.table}: ignored {'columns' if len(ignored) > 1 else 'column'} {_listed(ignored)} (not in the data contract)"
        )


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0].rstrip(". ")
