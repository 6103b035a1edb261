"""Changes an index folder: add, replace and delete items, merge the changes into the base. One writer at a time; readers are never in its way.

Every change is one new snapshot (`segments`): it is there for every reader, and after a crash, from the moment the call returns, and not at all before.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np

from core.columns import Array
from core.config import IndexConfig
from core.errors import BusyError, InputError, NotFoundError
from index_builder import kinds
from index_builder.build import build_state, check_finite, note_canary
from index_builder.exact import ExactIndex
from index_builder.faiss_index import FaissIndex, Setting
from index_builder.segmented import alive_of, check_embedding, open_base, read_deltas
from index_builder.segments import (
    EXACT,
    LOCK,
    SEGMENTS,
    Base,
    DeltaFile,
    State,
    check_files,
    entry_of,
    entry_type,
    read_state,
    save_array,
    sweep,
    write_state,
)

_BLOCK: Final = 1 << 18  # rows copied at a time
_DELTAS: Final = 8  # files; the next change makes one of them


class IndexWriter:
    """The one writer of an index folder. Open it with `index_writer`."""

    def __init__(self, folder: Path, vectors: Array, state: State) -> None:
        self._folder, self._vectors, self._state = folder, vectors, state
        self._alive, self._entries = alive_of(folder, state), read_deltas(folder, state)
        self._base = open_base(folder, state, vectors)

    @property
    def state(self) -> State:
        """The live snapshot."""
        return self._state

    @property
    def changed_share(self) -> float:
        """Entries of deltas, and items of the base that are dead, over the items of the base."""
        base = self._state.base
        dead = base.items - int(np.count_nonzero(self._alive[: base.rows]))
        return (len(self._entries) + dead) / max(base.items, 1)

    def append(self, rows: Array, vectors: Array) -> None:
        """Add items; a row that is there is replaced. Searchable when the call returns.

        Args:
            rows: int `[n]`, distinct, of the catalogue's id map.
            vectors: float32 `[n, d]`, finite, of the same towers.

        Raises:
            InputError: if the rows repeat or are negative, or a vector is not finite or of another dimension.
        """
        rows, vectors = np.asarray(rows), np.asarray(vectors, np.float32)
        if vectors.shape != (len(rows), self._state.dimensions):
            raise InputError(
                f"vectors of {list(vectors.shape)} for {len(rows)} rows, the index takes [{len(rows)}, {self._state.dimensions}]"
            )
        if len(np.unique(rows)) != len(rows) or (len(rows) and int(rows.min()) < 0):
            raise InputError("rows to append must be distinct and not negative; give each changed item once")
        check_finite(vectors)
        if not len(rows):
            return
        new = np.empty(len(rows), entry_type(self._state.dimensions))
        new["row"], new["vector"] = rows, vectors
        new["list"] = self._quantiser.search(vectors, 1)[1].ravel() if self._quantiser is not None else -1
        alive = self._without(rows)
        self._commit(
            np.concatenate([self._entries, new]), np.concatenate([alive, np.ones(len(new), bool)]), len(new), rows
        )

    def delete(self, rows: Array) -> None:
        """Remove items: no search that begins after the call returned finds them. Rows that are gone already are no error.

        Raises:
            InputError: if a row was never there.
        """
        rows = np.asarray(rows)
        if len(rows) and not (int(rows.min()) >= 0 and int(rows.max()) < self._state.rows):
            raise InputError(
                f"rows {rows.min()} to {rows.max()} to delete, the index has rows 0 to {self._state.rows - 1}"
            )
        self._commit(self._entries, self._without(rows), 0, rows)

    def compact_if_due(self, config: IndexConfig) -> bool:
        """`compact` where deltas and tombstones exceed `config.compact_share` of the base. Whether it did."""
        if self.changed_share <= config.compact_share:
            return False
        self.compact()
        return True

    def compact(self) -> None:
        """Merge deltas and tombstones into a new base. The coarse quantiser, the codes and the tuned efforts stay; searches go on meanwhile."""
        state, stem = self._state, f"base-{self._state.generation + 1}"
        base_alive, in_delta = self._alive[: state.base.rows], self._alive[state.base.rows :]
        fresh = self._entries[in_delta]
        gone = np.ones(state.rows, bool)
        gone[: state.base.rows] = ~base_alive
        names = {"vectors": f"{stem}.vectors.npy"}
        by_row = self._merged_vectors(self._folder / names["vectors"], gone, fresh)
        files = {names["vectors"]: entry_of(self._folder / names["vectors"])}
        base: ExactIndex | FaissIndex = ExactIndex(by_row)
        if state.base.index is not None:
            names["index"] = f"{stem}.{state.kind}.faiss"
            index = kinds.compacted(
                state.kind,
                faiss.read_index(str(self._folder / state.base.index)),
                gone,
                fresh["vector"],
                fresh["row"].astype(np.int64),
                by_row,
            )
            faiss.write_index(index, str(self._folder / names["index"]))
            files[names["index"]] = entry_of(self._folder / names["index"])
            base = FaissIndex(index, Setting(state.efforts, state.widen, state.far), by_row)
        alive = ~gone
        alive[fresh["row"]] = True
        items = int(np.count_nonzero(alive))
        self._publish(
            state.model_copy(
                update={
                    "base": Base(rows=state.rows, items=items, **names),
                    "deltas": (),
                    "canaries": tuple(
                        note_canary(base, c.item, np.array(c.vector, np.float32)) for c in state.canaries
                    ),
                    "files": files,
                }
            ),
            alive,
            self._entries[:0],
        )

    def rebuild(
        self, vectors: Array, queries: Array, embedding_id: str, config: IndexConfig, say: Callable[[str], None]
    ) -> None:
        """Everything anew from `vectors` float32 `[items, d]`, for other towers say; see `build.build_index`."""
        state = build_state(vectors, queries, embedding_id, config, self._folder, self._state.generation + 1, say)
        self._vectors = vectors
        self._go_live(state, alive_of(self._folder, state), read_deltas(self._folder, state))

    @property
    def _quantiser(self) -> Any | None:
        """What assigns a vector to a list of the base; None where there are no lists."""
        return None if isinstance(self._base, ExactIndex) or self._base.is_graph else self._base.index.quantizer

    def _stored(self) -> Array:
        """The base's vectors by row."""
        if self._state.base.vectors is None:
            return self._vectors[: self._state.base.rows]
        return np.load(self._folder / self._state.base.vectors, mmap_mode="r")  # type: ignore[no-any-return]

    def _merged_vectors(self, path: Path, gone: Array, fresh: Array) -> Array:
        """Write and map the base's vectors without those where `gone` bool `[rows]` is set, with the entries `fresh`; zeros where there is none."""
        state, stored = self._state, self._stored()
        kind = np.float32 if state.kind == EXACT else np.float16
        by_row = np.lib.format.open_memmap(path, "w+", kind, (state.rows, state.dimensions))
        for at in range(0, state.base.rows, _BLOCK):
            part = slice(at, min(at + _BLOCK, state.base.rows))
            by_row[part] = np.where(gone[part, None], 0, stored[part])
        by_row[fresh["row"]] = fresh["vector"]
        by_row.flush()
        return by_row

    def _without(self, rows: Array) -> Array:
        """The tombstone bitmap with every copy of `rows` dead."""
        alive = self._alive.copy()
        at = self._state.base.rows
        alive[rows[rows < at]] = False
        alive[at:][np.isin(self._entries["row"], rows)] = False
        return alive

    def _commit(self, entries: Array, alive: Array, added: int, rows: Array) -> None:
        """Publish these delta entries, the last `added` of them new, and this bitmap; `rows` are no longer what the towers say of them."""
        state, generation = self._state, self._state.generation + 1
        files, deltas = dict(state.files), state.deltas
        if added and len(deltas) >= _DELTAS:
            keep = alive[state.base.rows :]
            entries, alive = entries[keep], np.concatenate([alive[: state.base.rows], np.ones(int(keep.sum()), bool)])
            for old in deltas:
                del files[old.file]
            deltas, added = (), len(entries)
        if added:
            name = f"delta-{generation}.npy"
            files[name] = save_array(self._folder / name, entries[len(entries) - added :])
            deltas = (*deltas, DeltaFile(file=name, items=added))
        touched = set(rows.tolist())
        canaries = tuple(c.model_copy(update={"item": None}) if c.item in touched else c for c in state.canaries)
        highest = int(rows.max()) + 1 if len(rows) else 0
        self._publish(
            state.model_copy(
                update={"deltas": deltas, "files": files, "canaries": canaries, "rows": max(state.rows, highest)}
            ),
            alive,
            entries,
        )

    def _publish(self, state: State, alive: Array, entries: Array) -> None:
        """Write the bitmap bool `[state.entries]` and make the state, one generation on, the live one. `entries`: of all its deltas."""
        generation, files = self._state.generation + 1, dict(state.files)
        if state.dead is not None:
            files.pop(state.dead, None)
        name = None
        if not alive.all():
            name = f"dead-{generation}.npy"
            files[name] = save_array(self._folder / name, np.packbits(~alive, bitorder="little"))
        state = state.model_copy(update={"generation": generation, "dead": name, "files": files})
        self._go_live(state, alive, entries)

    def _go_live(self, state: State, alive: Array, entries: Array) -> None:
        write_state(self._folder, state)
        sweep(self._folder, state)
        if state.base != self._state.base:
            self._base = open_base(self._folder, state, self._vectors)
        self._state, self._alive, self._entries = state, alive, entries


@contextlib.contextmanager
def index_writer(folder: Path, vectors: Array, embedding_id: str) -> Iterator[IndexWriter]:
    """Own the index in `folder` for the block; what an earlier writer left half-done is removed first.

    Args:
        folder: A folder that `build_index` made, format 2, outside any release: releases never change.
        vectors: float32 `[n, d]`: the item vectors it was built from.
        embedding_id: Of the towers that made what will be appended.

    Raises:
        ArtifactError: if the index is damaged or of another embedding: build it anew then.
        BusyError: if another process writes there.
        NotFoundError: if there is no complete index.
    """
    if not (folder / SEGMENTS).exists():
        raise NotFoundError(f"{folder}: no index to change; build one first")
    with open(folder / LOCK, "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"{folder}: another process writes to this index; try again when it is done") from None
        state = read_state(folder)
        check_embedding(folder, state, embedding_id)
        check_files(folder, state, verify=False)
        sweep(folder, state)
        yield IndexWriter(folder, vectors, state)
