"""Takes people out of the work directory: prepared data and user state become the same without them, older prepared data go.

What holds an id is the id map, whose row becomes a tombstone, and whatever kept a row as it came: rejects, what the next night carries over. What
holds something of the person under their row, goes with it: events, days, attributes. Sums over many people stay until the next night counts anew.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from core import artifact, atomic
from core.columns import AnyColumn, Array, Coded, Columns, Tags, Texts
from core.erasure import Forgotten
from core.errors import ArtifactError
from core.ids import NO_ROW, IdMap
from core.schema import Column
from core.work import Work
from pipeline.erase_tables import Tally, erase_table, is_table

Say = Callable[[str], None]
PREPARE: Final = "prepare"
_HEADER: Final = "columns.json"
_PEOPLE: Final = Path("ids") / "users"
_ATTRIBUTES: Final = Path("users")
_CARRIED: Final = (
    "carried"  # row by row what the next night would take over; without it that night reads everything again
)


def repair(work: Work) -> None:
    """Undo what a killed run left half-changed. The caller holds the work directory's lock."""
    for folder in _homes(work):
        atomic.repair(folder)
        atomic.sweep(folder)


def erase_artifacts(work: Work, gone: Forgotten, tally: Tally, say: Say) -> None:
    """Take `gone` out of every artifact that may hold people, and remove prepared data that are not the latest."""
    if work.has(PREPARE):
        latest = work.latest(PREPARE)
        for path in sorted(p for p in latest.parent.iterdir() if p.is_dir() and not p.is_symlink() and p != latest):
            _remove(path)
            tally.files += 1
            say(f"removed {path.relative_to(work.root)}: older prepared data")
    for path in _artifacts(work):
        if _erase(path, gone, tally):
            say(f"{path.relative_to(work.root)}: rewritten")


def _homes(work: Work) -> list[Path]:
    """Folders that hold artifacts."""
    stages = work.root / "stages"
    found = [work.root / "user_state", *(stages.iterdir() if stages.is_dir() else ())]
    return sorted(p for p in found if p.is_dir())


def _artifacts(work: Work) -> list[Path]:
    inside = (path for home in _homes(work) for path in home.iterdir() if not path.is_symlink())
    return sorted(path for path in inside if (path / artifact.MANIFEST).exists())


def _remove(path: Path) -> None:
    """A directory that is gone, or swept by the next run: nobody takes half of it for an artifact."""
    leaving = path.with_name(f".tmp-{path.name}-{os.getpid()}")
    os.rename(path, leaving)
    shutil.rmtree(leaving)


def _erase(path: Path, gone: Forgotten, tally: Tally) -> bool:
    """One artifact; whether it had to change."""
    rows = _rows(path, gone)
    about = artifact.read_manifest(path).about
    texts = [f for f in sorted(path.rglob("*")) if f.is_file() and _names(f, gone)]
    if not len(rows) and not texts and gone.scrubbed(about) == about:
        return False
    before = tally.files
    with artifact.rewrite(path) as draft:
        draft.about = gone.scrubbed(about)
        shutil.rmtree(draft.path / _CARRIED, ignore_errors=True)
        for file in texts:
            copy = draft.path / file.relative_to(path)
            if copy.exists():
                _erase_file(copy, gone, tally)
        for folder in _column_folders(draft.path) if len(rows) else ():
            tally.rows += _erase_rows(folder, folder.relative_to(draft.path), rows, gone)
    tally.files = before + 1
    return True


def _rows(path: Path, gone: Forgotten) -> Array:
    """Rows int32 of `gone` in the artifact's id map."""
    if not (path / _PEOPLE / _HEADER).exists():
        return np.empty(0, np.int32)
    rows = IdMap.open(path / _PEOPLE).rows(gone.keys)
    return np.asarray(rows[rows != NO_ROW])


def _column_folders(root: Path) -> list[Path]:
    return sorted(header.parent for header in root.rglob(_HEADER))


def _names(file: Path, gone: Forgotten) -> bool:
    """Whether a file that is no column names somebody."""
    if file.name == artifact.MANIFEST or (file.parent / _HEADER).exists():
        return False
    if file.suffix == ".json":
        facts = _json(file)
        return bool(gone.scrubbed(facts) != facts)
    return is_table(file) and erase_table(file, gone, Tally(), strict=True, dry=True)


def _erase_file(file: Path, gone: Forgotten, tally: Tally) -> None:
    if file.suffix == ".json":
        data = json.dumps(gone.scrubbed(_json(file)), sort_keys=True) + "\n"
        atomic.write_bytes(file, data.encode())
    else:
        erase_table(file, gone, tally, strict=True, keep_empty=True)


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except ValueError as e:
        raise ArtifactError(f"{file}: not readable as JSON ({e})") from None


def _erase_rows(folder: Path, name: Path, rows: Array, gone: Forgotten) -> int:
    """Replace one column folder by the same without `rows` of the id map; how many rows of it went."""
    columns = Columns.open(folder)
    if name == _PEOPLE:
        changed = IdMap.open(folder).without(gone.keys)
        shutil.rmtree(folder)
        changed.write(folder)
        return 0
    if name == _ATTRIBUTES:
        written = Columns({c: _blanked(columns[c], rows) for c in columns}, columns.rows)
    elif Column.USER in columns:
        keep = ~np.isin(columns.numbers(Column.USER), rows)
        written = Columns({c: columns.numbers(c)[keep] for c in columns}, int(keep.sum()))
    else:
        return 0
    shutil.rmtree(folder)  # the maps of its files stay valid
    written.write(folder)
    return columns.rows - written.rows


def _blanked(column: AnyColumn, rows: Array) -> AnyColumn:
    """A column whose `rows` hold what stands for nothing; values that no other row has leave the vocabulary."""
    there = set(rows.tolist())
    if isinstance(column, Coded):
        texts = column.values[:]
        return Coded.of(None if c < 0 or r in there else texts[c] for r, c in enumerate(column.codes.tolist()))
    if isinstance(column, Tags):
        return Tags.of([] if r in there else column[r] for r in range(len(column)))
    if isinstance(column, Texts):
        return Texts.of("" if r in there else text for r, text in enumerate(column))
    blank = np.array(column)
    blank[rows] = np.nan if blank.dtype.kind == "f" else False if blank.dtype.kind == "b" else -1
    return blank
