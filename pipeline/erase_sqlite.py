"""Takes people out of SQLite files, such as an online feature store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from core.erasure import Forgotten
from core.errors import InputError
from pipeline.erase_tables import Tally

_SQLITE: Final = b"SQLite format 3\0"


def is_sqlite(path: Path) -> bool:
    """Whether the file begins as SQLite files do."""
    with open(path, "rb") as f:
        return f.read(len(_SQLITE)) == _SQLITE


def erase_sqlite(path: Path, gone: Forgotten, tally: Tally) -> bool:
    """Delete every row with a cell that names one of `gone`, and write the file without what was deleted; whether there was any.

    Raises:
        InputError: The file cannot be read, or another process is writing it.
    """
    try:
        with closing(sqlite3.connect(path)) as store:
            store.create_function("names", 1, lambda cell: _names(cell, gone), deterministic=True)
            rows = sum(
                _delete(store, table)
                for (table,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
            )
            store.commit()
            if rows:
                # deleted rows stay in free pages, and in the log beside the file
                store.execute("VACUUM")
                store.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except sqlite3.Error as e:
        raise InputError(f"{path}: nobody can be taken out of it ({e}); stop what uses it, or remove it") from None
    tally.rows, tally.files = tally.rows + rows, tally.files + bool(rows)
    return rows > 0


def _delete(store: sqlite3.Connection, table: str) -> int:
    name = _quoted(table)
    columns = [_quoted(row[1]) for row in store.execute(f"PRAGMA table_info({name})")]
    if not columns:
        return 0
    return store.execute(f"DELETE FROM {name} WHERE {' OR '.join(f'names({c})' for c in columns)}").rowcount


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _names(cell: object, gone: Forgotten) -> bool:
    if isinstance(cell, str):
        return gone.names_any(cell)
    return isinstance(cell, bytes) and gone.in_key(cell)
