"""Column folders: a table as one directory of memory-mapped arrays, row-aligned, readable with numpy alone.

A folder holds `columns.json` (row count and the kind of each column) and the arrays. Four kinds:

| kind   | in memory                          | on disk                                                        |
|--------|------------------------------------|----------------------------------------------------------------|
| number | `[n]` or `[n, d]` array            | `<name>.npy`                                                   |
| text   | `Texts`: n strings                 | `<name>.offsets.npy` int64 `[n+1]`, `<name>.bytes.npy` uint8   |
| coded  | `Coded`: n values of a vocabulary  | `<name>.codes.npy` int32 `[n]` (-1: missing), `<name>.values.*`|
| tags   | `Tags`: n lists of such values     | `<name>.starts.npy` int64 `[n+1]`, `<name>.codes.npy`, values  |
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from core.errors import ArtifactError, nearest

Array = NDArray[Any]
_HEADER = "columns.json"


@dataclass(frozen=True)
class Texts(Sequence[str]):
    """n strings as UTF-8. `offsets` int64 `[n+1]` into `data` uint8."""

    offsets: Array
    data: Array

    @classmethod
    def of(cls, texts: Iterable[str | None]) -> Texts:
        """Encode; None becomes the empty string."""
        encoded = [(t or "").encode() for t in texts]
        offsets = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(e) for e in encoded], out=offsets[1:])
        return cls(offsets, np.frombuffer(b"".join(encoded), np.uint8))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        row = int(row)
        if not -len(self) <= row < len(self):
            raise IndexError(row)
        row %= len(self)
        return bytes(self.data[self.offsets[row] : self.offsets[row + 1]]).decode()

    def of_rows(self, rows: Array) -> list[str]:
        """The texts of several rows, int `[m]` in [0, n): sooner than one by one."""
        begin, end, data = self.offsets[rows].tolist(), self.offsets[rows + 1].tolist(), self.data
        return [data[a:b].tobytes().decode() for a, b in zip(begin, end, strict=True)]

    def __iter__(self) -> Iterator[str]:
        data, offsets = bytes(self.data), self.offsets.tolist()
        return (data[a:b].decode() for a, b in pairwise(offsets))


@dataclass(frozen=True)
class Coded:
    """n values from a vocabulary. `codes` int32 `[n]`, -1 where the value is missing."""

    codes: Array
    values: Texts

    @classmethod
    def of(cls, texts: Iterable[str | None]) -> Coded:
        """Encode with a sorted vocabulary; None and "" are missing."""
        values = [t or "" for t in texts]
        vocabulary = sorted(set(values) - {""})
        code = {v: i for i, v in enumerate(vocabulary)} | {"": -1}
        return cls(np.fromiter((code[v] for v in values), np.int32, len(values)), Texts.of(vocabulary))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> str | None:
        code = int(self.codes[row])
        return None if code < 0 else self.values[code]


@dataclass(frozen=True)
class Tags:
    """n lists of values from a vocabulary. Row r holds `codes[starts[r]:starts[r+1]]`."""

    starts: Array
    codes: Array
    values: Texts

    @classmethod
    def of(cls, lists: Iterable[Iterable[str] | None]) -> Tags:
        """Encode with a sorted vocabulary; each row's values are made distinct and sorted; None is the empty list."""
        rows = [sorted({v for v in (row if row is not None else ()) if v}) for row in lists]
        vocabulary = sorted({v for row in rows for v in row})
        code = {v: i for i, v in enumerate(vocabulary)}
        starts = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(r) for r in rows], out=starts[1:])
        return cls(starts, np.array([code[v] for row in rows for v in row], np.int32), Texts.of(vocabulary))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> list[str]:
        return [self.values[c] for c in self.codes[self.starts[row] : self.starts[row + 1]]]

    def codes_of(self, rows: Array) -> tuple[Array, Array]:
        """The codes of many rows' tags, int32 `[t]`, and the position in `rows` that each belongs to, int64 `[t]`, ascending."""
        starts = self.starts[rows]
        lengths = self.starts[rows + 1] - starts
        owner = np.repeat(np.arange(len(rows)), lengths)
        before = np.cumsum(lengths) - lengths
        return self.codes[np.arange(len(owner)) + (starts - before)[owner]], owner


AnyColumn = Array | Texts | Coded | Tags
_PARTS: dict[str, tuple[str, ...]] = {
    "number": ("",),
    "text": (".offsets", ".bytes"),
    "coded": (".codes", ".values.offsets", ".values.bytes"),
    "tags": (".starts", ".codes", ".values.offsets", ".values.bytes"),
}


def _split(column: AnyColumn) -> tuple[str, tuple[Array, ...]]:
    match column:
        case Texts():
            return "text", (column.offsets, column.data)
        case Coded():
            return "coded", (column.codes, column.values.offsets, column.values.data)
        case Tags():
            return "tags", (column.starts, column.codes, column.values.offsets, column.values.data)
        case _:
            return "number", (column,)


def _join(kind: str, parts: list[Array]) -> AnyColumn:
    if kind == "text":
        return Texts(*parts)
    if kind == "coded":
        return Coded(parts[0], Texts(*parts[1:]))
    if kind == "tags":
        return Tags(parts[0], parts[1], Texts(*parts[2:]))
    return parts[0]


class Columns(Mapping[str, AnyColumn]):
    """An opened column folder (or the same thing in memory): name -> column, all of one length."""

    def __init__(self, columns: Mapping[str, AnyColumn], rows: int | None = None) -> None:
        self._columns = dict(columns)
        lengths = {name: len(c) for name, c in self._columns.items()}
        self.rows = rows if rows is not None else next(iter(lengths.values()), 0)
        if wrong := {n: k for n, k in lengths.items() if k != self.rows}:
            raise ArtifactError(f"columns of one table differ in length: {self.rows} rows, but {wrong}")

    @classmethod
    def open(cls, folder: Path) -> Columns:
        """Memory-map every column of `folder`, read-only."""
        try:
            header = json.loads((folder / _HEADER).read_text())
        except FileNotFoundError:
            raise ArtifactError(f"{folder}: no {_HEADER}: not a column folder, or one that was cut short") from None
        except ValueError as e:
            raise ArtifactError(f"{folder / _HEADER}: not readable as JSON ({e})") from None
        columns = {
            n: _join(kind, [load_array(folder / f"{n}{p}.npy") for p in _PARTS[kind]])
            for n, kind in header["columns"].items()
        }
        return cls(columns, header["rows"])

    def write(self, folder: Path) -> None:
        """Write every column into `folder`, which is made if it is not there. The caller provides atomicity."""
        folder.mkdir(parents=True, exist_ok=True)
        kinds = {}
        for name, column in self._columns.items():
            kinds[name], parts = _split(column)
            for part, array in zip(_PARTS[kinds[name]], parts, strict=True):
                np.save(folder / f"{name}{part}.npy", np.ascontiguousarray(array))
        (folder / _HEADER).write_text(json.dumps({"rows": self.rows, "columns": kinds}, sort_keys=True) + "\n")

    def numbers(self, name: str) -> Array:
        """The number column `name`."""
        column = self[name]
        if not isinstance(column, np.ndarray):
            raise ArtifactError(f"column {name!r} holds {type(column).__name__}, expected numbers")
        return column

    def __getitem__(self, name: str) -> AnyColumn:
        if name not in self._columns:
            raise ArtifactError(f"no column {name!r}; {nearest(name, self._columns)}")
        return self._columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self._columns

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)


def load_array(path: Path) -> Array:
    """Memory-map one `.npy` file read-only; a missing or truncated one is an ArtifactError that names it."""
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise ArtifactError(f"{path}: missing") from None
    except (ValueError, EOFError, OSError) as e:
        # numpy cannot map an array of no elements
        if path.stat().st_size:
            try:
                return np.load(path, allow_pickle=False)  # type: ignore[no-any-return]
            except (ValueError, EOFError, OSError):
                pass
        raise ArtifactError(f"{path}: truncated or not a numpy array ({e})") from None
    # mmap of a plain ndarray view: numpy scalars and reductions are faster on the base class
    return array.view(np.ndarray)
