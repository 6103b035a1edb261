"""The files of an index folder, format 2 (docs/index.md), and the one small file that says which of them are alive.

Files never change: a writer adds new ones under names of the next generation, flushes them, and replaces `segments.json` in one rename. A file that
`segments.json` does not name is what a killed writer left, or of an earlier generation: never read, and removed by the next writer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from core import artifact, atomic
from core.artifact import FileEntry
from core.columns import Array
from core.errors import ArtifactError, NotFoundError

FORMAT_VERSION: Final = 2
SEGMENTS: Final = "segments.json"
LOCK: Final = "lock"
EXACT: Final = "exact"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Canary(_Part):
    """A query and what it found in the base when that was made. `item`: whose vector it is, while the catalogue still has it so."""

    item: int | None
    vector: tuple[float, ...]
    neighbours: tuple[int, ...]


class Base(_Part):
    """The large segment: `items` of the rows `[0, rows)`. `index`: FAISS file; `vectors`: `.npy` `[rows, d]`, without it the towers' vectors."""

    rows: int
    items: int
    index: str | None = None
    vectors: str | None = None


class DeltaFile(_Part):
    """A small segment: `.npy` of `entry_type`."""

    file: str
    items: int


class State(_Part):
    """What an index folder holds: one immutable snapshot."""

    generation: int
    kind: str
    efforts: tuple[tuple[int, int], ...]  # (depth, nprobe or efSearch)
    widen: int
    far: float = 1
    embedding_id: str
    dimensions: int
    rows: int  # one past the highest row
    built_rows: int  # of the item vectors that it was built from
    base: Base
    deltas: tuple[DeltaFile, ...] = ()
    dead: str | None = None  # `.npy` uint8, packed bits: the base's rows, then the deltas' entries in order
    canaries: tuple[Canary, ...]
    measured: dict[str, Any]
    files: dict[str, FileEntry]

    @property
    def entries(self) -> int:
        """Places in the tombstone bitmap."""
        return self.base.rows + sum(d.items for d in self.deltas)


def entry_type(dimensions: int) -> np.dtype[Any]:
    """One entry of a delta: the item's row, the list of the base's coarse quantiser it belongs to (-1: there is none), its vector."""
    return np.dtype([("row", "<i4"), ("list", "<i4"), ("vector", "<f4", (dimensions,))])


def read_state(folder: Path) -> State:
    """The live set of `folder`.

    Raises:
        NotFoundError: if there is none.
        ArtifactError: if it is damaged or of another format.
    """
    path = folder / SEGMENTS
    try:
        raw = json.loads(path.read_bytes())
        version, digest, body = raw["format_version"], raw["sha256"], raw["state"]
    except FileNotFoundError:
        raise NotFoundError(f"{path}: missing: not an index of Aisle, or never completed; rebuild it") from None
    except (ValueError, KeyError, TypeError) as e:
        raise ArtifactError(f"{path}: truncated or altered ({type(e).__name__}: {e}); rebuild the index") from None
    if version != FORMAT_VERSION:
        hint = "update this Aisle" if version > FORMAT_VERSION else "rebuild it"
        raise ArtifactError(f"{folder}: index format {version}, this Aisle reads 1 and {FORMAT_VERSION}; {hint}")
    if artifact.hash_json(body) != digest:
        raise ArtifactError(f"{path}: its sha256 is not the one it states: altered; rebuild the index")
    try:
        return State.model_validate(body)
    except ValidationError as e:
        raise ArtifactError(f"{path}: {e.errors()[0]['loc']}: {e.errors()[0]['msg']}; rebuild the index") from None


def write_state(folder: Path, state: State) -> None:
    """Make `state` the live set, in one step; its files must be there and flushed."""
    body = state.model_dump(mode="json")
    whole = {"format_version": FORMAT_VERSION, "sha256": artifact.hash_json(body), "state": body}
    atomic.write_bytes(folder / SEGMENTS, json.dumps(whole, indent=1).encode() + b"\n")


def check_files(folder: Path, state: State, *, verify: bool) -> None:
    """Hold every live file against its size, and against its hash where it is small or `verify` says so."""
    small = {state.dead, *(d.file for d in state.deltas)}
    for name, entry in state.files.items():
        path = folder / name
        size = path.stat().st_size  # FileNotFoundError: a newer generation may have replaced it, see `live`
        if size != entry.size:
            raise ArtifactError(f"{path}: {size} bytes, {SEGMENTS} says {entry.size}: truncated or altered")
        if (verify or name in small) and (found := artifact.sha256(path)) != entry.sha256:
            raise ArtifactError(
                f"{path}: sha256 {found[:12]}..., {SEGMENTS} says {entry.sha256[:12]}...: altered; rebuild the index"
            )


def entry_of(path: Path) -> FileEntry:
    """Flush a file and note its size and hash."""
    atomic.fsync_path(path)
    return FileEntry(size=path.stat().st_size, sha256=artifact.sha256(path))


def save_array(path: Path, values: Array) -> FileEntry:
    """Write one array of a segment. The name must be new: no reader knows it until `segments.json` names it."""
    with open(path, "wb") as f:
        np.save(f, values)
    return entry_of(path)


def sweep(folder: Path, state: State | None) -> list[str]:
    """Remove what is not alive. Only the owner of the folder's lock may call this. Returns the names removed."""
    alive = {LOCK} if state is None else {LOCK, SEGMENTS, *state.files}
    gone = sorted(p.name for p in folder.iterdir() if p.name not in alive)
    for name in gone:
        (folder / name).unlink(missing_ok=True)
    return gone
