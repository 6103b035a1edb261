"""The last search: which files still hold the id of somebody who is to be forgotten.

Tables, column folders and compressed files are read as what they are, everything else byte by byte, names of files too. An id counts where it stands
as a word of its own. One that is shorter than `core.erasure.SHORTEST_TOKEN` bytes proves nothing by turning up in a text: for it only columns of ids
are looked at. Item tables are left out: an item may be called like a person.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from core.columns import Coded, Columns, Tags, Texts
from core.erasure import Forgotten
from core.ids import NO_ROW, IdMap
from pipeline.erase_tables import Tally, erase_table, is_table, opener

_HEADER: Final = "columns.json"
_ITEMS: Final = "items"


def still_held(roots: list[Path], gone: Forgotten) -> list[Path]:
    """The files under `roots` (or the files that they are) that name one of `gone`, sorted. A link is followed nowhere."""
    return sorted({path for root in roots for path in _files(root) if _holds(path, gone)})


def _files(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
    for path in root.rglob("*") if root.is_dir() else ():
        if path.is_file() and not path.is_symlink() and _ITEMS not in path.relative_to(root).parts:
            yield path


def _holds(path: Path, gone: Forgotten) -> bool:
    try:
        if gone.occurs_in(path.name.encode(errors="surrogateescape")):
            return True
        if (path.parent / _HEADER).exists():
            # once a folder, with its header
            return path.name == _HEADER and _column_folder_holds(path.parent, gone)
        if is_table(path) and path.stat().st_size and path.suffix != ".json":
            return erase_table(path, gone, Tally(), dry=True) or (
                path.suffix in (".gz", ".bz2") and _text_holds(path, gone)
            )
        return _text_holds(path, gone)
    except FileNotFoundError:
        return False  # it was on its way out


def _column_folder_holds(folder: Path, gone: Forgotten) -> bool:
    columns = Columns.open(folder)
    if {"id", "hash", "order", "alive"} <= set(columns):
        return bool((IdMap.open(folder).rows(gone.keys) != NO_ROW).any())
    for name, column in columns.items():
        texts = (
            column if isinstance(column, Texts) else column.values if isinstance(column, Coded | Tags) else Texts.of([])
        )
        data = bytes(texts.data)
        if any(form in data for form in gone.forms) and any(gone.names_any(t, name) for t in texts):
            return True
    return False


def _text_holds(path: Path, gone: Forgotten) -> bool:
    if not gone.tokens:
        return False
    if opener(path) is not open:
        with opener(path)(path, "rb") as f:
            return gone.occurs_in(f.read())
    with open(path, "rb") as f:
        if not path.stat().st_size:
            return False
        with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return gone.occurs_in(data)
