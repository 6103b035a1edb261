"""Column folders written batch by batch: tables that do not fit in memory, with the same files as `Columns.write`."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import numpy as np

from core.columns import Array

_HEADER_BYTES = 128  # what numpy pads the header of every one-dimensional array to


class ColumnAppender:
    """Number columns of one table, appended in rows; `columns.json` is written at the end of a `with` block without error."""

    def __init__(self, folder: Path, dtypes: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.rows = 0
        self._folder = folder
        self._dtypes = {name: np.dtype(d) for name, d in dtypes.items()}
        self._files: dict[str, BinaryIO] = {name: open(folder / f"{name}.npy", "wb") for name in dtypes}  # noqa: SIM115 - closed in __exit__
        for name, f in self._files.items():
            f.write(_header(self._dtypes[name], 0))

    def append(self, columns: Mapping[str, Array]) -> None:
        """Add rows: every column of the table, all `[n]`."""
        lengths = {len(columns[name]) for name in self._files}
        if len(lengths) != 1 or columns.keys() != self._files.keys():
            raise ValueError(
                f"expected columns {sorted(self._files)} of one length, got {sorted(columns)} of lengths {sorted(lengths)}"
            )
        for name, f in self._files.items():
            f.write(np.ascontiguousarray(columns[name], self._dtypes[name]).data)
        self.rows += lengths.pop()

    def close(self) -> None:
        """Complete the folder."""
        for name, f in self._files.items():
            f.seek(0)
            f.write(_header(self._dtypes[name], self.rows))
            f.close()
        add_to_header(self._folder, self.rows, list(self._files))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            for f in self._files.values():
                f.close()


def add_to_header(folder: Path, rows: int, names: list[str]) -> None:
    """Declare number columns in a folder's `columns.json`, beside those that are there already."""
    path = folder / "columns.json"
    header: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"rows": rows, "columns": {}}
    if header["rows"] != rows:
        raise ValueError(f"{folder}: {header['rows']} rows, the new columns have {rows}")
    header["columns"].update(dict.fromkeys(names, "number"))
    path.write_text(json.dumps(header, sort_keys=True) + "\n")


def _header(dtype: np.dtype[np.generic], rows: int) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": dtype.str, "fortran_order": False, "shape": (rows,)})
    if len(header := out.getvalue()) != _HEADER_BYTES:
        raise AssertionError(f"numpy wrote a header of {len(header)} bytes, expected {_HEADER_BYTES}")
    return header
