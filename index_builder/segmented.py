"""One snapshot of an index folder: base, deltas and tombstones searched as one index. Nothing of it ever changes once opened."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np

from core.artifact import same_parent
from core.columns import Array
from core.errors import ArtifactError
from core.ids import NO_ROW
from index_builder.exact import ExactIndex
from index_builder.faiss_index import FaissIndex, Setting
from index_builder.protocol import Index, check_queries, mask_of, merged
from index_builder.segments import EXACT, State, check_files, entry_type

_SCORED: Final = 2000  # a delta up to this size is searched exactly sooner than through its lists
_MOVED: Final = 2e-3  # what a vector's component may differ from itself, through float16, relative to its length


@dataclass(frozen=True)
class Segmented:
    """A snapshot. Rows are the catalogue's; each is alive in one segment at most."""

    state: State
    base: ExactIndex | FaissIndex
    base_alive: Array  # bool [base rows]
    delta: Index | None  # over the entries of all deltas, in order
    delta_rows: Array  # int32 [entries]
    delta_vectors: Array  # float32 [entries, d]
    delta_alive: Array  # bool [entries]

    def __len__(self) -> int:
        return self.state.rows

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self.state.dimensions

    @property
    def is_exact(self) -> bool:
        """Whether the answer is the true one."""
        return self.state.kind == EXACT

    @property
    def alive(self) -> int:
        """Items that can be found."""
        return self._base_items + int(np.count_nonzero(self.delta_alive))

    def search(self, queries: Array, k: int, allowed: Array | None = None) -> tuple[Array, Array]:
        """See `protocol.Index.search`."""
        check_queries(queries, self.dimensions)
        mask = None if allowed is None else mask_of(allowed, len(self))
        rows, scores = self._in_base(queries, k, mask)
        if self.delta is None:
            return rows, scores
        in_delta = None if mask is None else mask[self.delta_rows] & self.delta_alive
        if in_delta is None and not self._delta_untouched:
            in_delta = self.delta_alive
        answer = self._with(rows, scores, self.delta.search(queries, k, in_delta), k)
        # a delta is searched with the base's effort, which may leave places empty that it could fill
        real = np.isfinite(queries).all(axis=1)
        if (short := np.flatnonzero((answer[0] == NO_ROW).any(axis=1) & real)).size:
            exact = ExactIndex(self.delta_vectors).search(queries[short], k, in_delta)
            answer[0][short], answer[1][short] = self._with(rows[short], scores[short], exact, k)
        return answer

    def _in_base(self, queries: Array, k: int, mask: Array | None) -> tuple[Array, Array]:
        if mask is not None:
            return self.base.search(queries, k, mask[: len(self.base_alive)] & self.base_alive)
        if self._untouched:
            return self.base.search(queries, k)
        if isinstance(self.base, FaissIndex):
            return self.base.among(queries, k, self.base_alive, self._base_items)
        return self.base.search(queries, k, self.base_alive)

    @cached_property
    def _base_items(self) -> int:
        return int(np.count_nonzero(self.base_alive))

    @cached_property
    def _untouched(self) -> bool:
        """Whether the base finds nothing but what is alive, without being told. An exact one would find the zeros of rows that are gone."""
        base = self.state.base
        return self._base_items == (base.rows if base.index is None else base.items)

    @cached_property
    def _delta_untouched(self) -> bool:
        return bool(self.delta_alive.all())

    def _with(self, rows: Array, scores: Array, found: tuple[Array, Array], k: int) -> tuple[Array, Array]:
        """What the base found and what the deltas found (entries), as one answer."""
        entries, values = found
        theirs = np.where(entries == NO_ROW, NO_ROW, self.delta_rows[entries])
        return merged(np.hstack([rows, theirs]), np.hstack([scores, values]), k)


def open_snapshot(
    folder: Path, state: State, vectors: Array, *, verify: bool = False, earlier: Segmented | None = None
) -> Segmented:
    """Map the files of `state`. What `earlier`, an older snapshot of the same folder, has open already is shared.

    Args:
        folder: The index folder.
        state: `segments.read_state`.
        vectors: float32 `[n, d]` of the towers; n between the rows the index was built from and those it has now.
        verify: Hash the large files too.
        earlier: An older snapshot of this folder, opened with the same `vectors`.

    Raises:
        ArtifactError: if a file is damaged, or the index and the vectors do not belong together.
        FileNotFoundError: if a file is missing: a newer generation may have replaced it.
    """
    if not state.built_rows <= len(vectors) <= state.rows or state.dimensions != vectors.shape[1]:
        raise ArtifactError(
            f"{folder}: an index of {state.built_rows} vectors of {state.dimensions}, but the item vectors here are {list(vectors.shape)}"
        )
    check_files(folder, state, verify=verify)
    shared = earlier is not None and earlier.state.base == state.base
    base = earlier.base if earlier is not None and shared else open_base(folder, state, vectors)
    if not shared or (earlier is not None and earlier.state.canaries != state.canaries):
        _check_canaries(folder, state, base, vectors)
    alive = alive_of(folder, state)
    at = state.base.rows
    if earlier is not None and shared and earlier.state.deltas == state.deltas:
        parts = (earlier.delta, earlier.delta_rows, earlier.delta_vectors)
    else:
        parts = _delta(read_deltas(folder, state), base)
    return Segmented(state, base, alive[:at], *parts, alive[at:])


def open_base(folder: Path, state: State, vectors: Array) -> ExactIndex | FaissIndex:
    """The large segment, memory-mapped; dead items are in it."""
    own = vectors if state.base.vectors is None else np.load(folder / state.base.vectors, mmap_mode="r")
    own = own[: state.base.rows]
    if state.base.index is None:
        return ExactIndex(own)
    return FaissIndex(read_faiss(folder / state.base.index), Setting(state.efforts, state.widen, state.far), own)


def read_faiss(path: Path) -> Any:
    """Memory-map a FAISS index, or say in one line why that cannot be."""
    try:
        return faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as e:
        if not path.exists():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
        reason = str(e).splitlines()[-1].strip()
        raise ArtifactError(f"{path}: truncated, altered or not a FAISS index ({reason})") from None


def alive_of(folder: Path, state: State) -> Array:
    """The tombstone bitmap, the other way round: bool `[state.entries]`."""
    if state.dead is None:
        return np.ones(state.entries, bool)
    return ~np.unpackbits(np.load(folder / state.dead), count=state.entries, bitorder="little").view(bool)


def read_deltas(folder: Path, state: State) -> Array:
    """The entries of all deltas in order, of `segments.entry_type`."""
    none = np.empty(0, entry_type(state.dimensions))
    return np.concatenate([none, *(np.load(folder / d.file) for d in state.deltas)])


def _delta(entries: Array, base: ExactIndex | FaissIndex) -> tuple[Index | None, Array, Array]:
    rows, vectors = np.ascontiguousarray(entries["row"]), np.ascontiguousarray(entries["vector"])
    if not len(rows):
        return None, rows, vectors
    if isinstance(base, ExactIndex) or base.is_graph or len(rows) <= _SCORED:
        return ExactIndex(vectors), rows, vectors
    # the base's lists, so that its effort fits
    lists = faiss.IndexIVFFlat(base.index.quantizer, base.dimensions, base.index.nlist, faiss.METRIC_INNER_PRODUCT)
    lists.own_fields = False
    ids, places = np.arange(len(rows), dtype=np.int64), entries["list"].astype(np.int64)
    lists.add_core(len(rows), faiss.swig_ptr(vectors), faiss.swig_ptr(ids), faiss.swig_ptr(places))
    lists.referenced_objects = [base.index]  # whose quantiser it is
    return FaissIndex(lists, Setting(base.setting.efforts, far=base.setting.far), vectors, fills=False), rows, vectors


def _check_canaries(folder: Path, state: State, base: ExactIndex | FaissIndex, vectors: Array) -> None:
    """Noted queries must still find their neighbours, and be the vectors that the towers have: towers, vectors and index are one family."""
    for canary in state.canaries:
        noted = np.array(canary.vector, np.float32)
        if canary.item is not None and canary.item < len(vectors):
            here = np.asarray(vectors[canary.item], np.float32)
            if np.abs(here - noted).max() > _MOVED * max(float(np.linalg.norm(noted)), 1e-6):
                raise ArtifactError(
                    f"{folder}: canary item {canary.item} has the vector {_shown(here)} here, at build it had {_shown(noted)}: "
                    "the index and the item vectors are not of one release"
                )
        found = tuple(base.search(noted[None], len(canary.neighbours))[0][0].tolist())
        if found != canary.neighbours:
            raise ArtifactError(
                f"{folder}: canary item {canary.item} finds {list(found)}, at build it found {list(canary.neighbours)}: "
                "the index was altered; rebuild it"
            )


def _shown(vector: Array) -> str:
    return "[" + ", ".join(f"{x:.3f}" for x in vector[:4].tolist()) + (", ...]" if len(vector) > 4 else "]")


def check_embedding(folder: Path, state: State, embedding_id: str) -> None:
    """Refuse the towers of another embedding; both ids are in the message."""
    same_parent("embedding", embedding_id, state.embedding_id, folder)
