"""Opens the index of a release, whatever its format: the one module of the index that serving imports."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any, BinaryIO, Final

from core.artifact import same_parent
from core.columns import Array
from core.errors import ArtifactError
from index_builder.exact import ExactIndex
from index_builder.faiss_index import FaissIndex, Setting
from index_builder.protocol import Index
from index_builder.segmented import Segmented, check_embedding, open_snapshot, read_faiss
from index_builder.segments import SEGMENTS, read_state

# Format 1: `index.json` and, for an inverted file over uncompressed vectors, `index.faiss`. No longer written.
FACTS: Final = "index.json"
FAISS_FILE: Final = "index.faiss"

_TRIES: Final = 10


def open_index(folder: Path, vectors: Array, embedding_id: str, *, verify: bool = False) -> Index:
    """Open the index in `folder` as it is now.

    Args:
        folder: The index folder, of any format that Aisle ever wrote.
        vectors: float32 `[n, d]`: the towers' item vectors, by row.
        embedding_id: Of those towers.
        verify: Hash every file; for folders that no artifact's manifest vouches for.

    Raises:
        ArtifactError: if the index was built for other vectors, is damaged or of another format, or its canaries do not find their neighbours.
        NotFoundError: if there is no index.
    """
    if not (folder / SEGMENTS).exists() and (folder / FACTS).exists():
        return _open_format_1(folder, vectors, embedding_id)
    return _open_segments(folder, vectors, embedding_id, verify=verify)


class LiveIndex:
    """An index folder that a writer goes on changing. Each search looks at the newest snapshot: one `stat`, and new small files if there are any.

    So a search that begins after a deletion returned never finds the item, in whatever process the two run.
    """

    def __init__(self, folder: Path, vectors: Array, embedding_id: str) -> None:
        self._folder, self._vectors, self._embedding_id = folder, vectors, embedding_id
        self._lock = threading.Lock()
        self._held, self._inode = self._look()
        self._snapshot = _open_segments(folder, vectors, embedding_id)

    @property
    def snapshot(self) -> Segmented:
        """The newest complete state."""
        if self._changed():
            with self._lock:
                if self._changed():
                    # looked at before the state is read: a change in between is seen by the next search
                    held, inode = self._look()
                    try:
                        self._snapshot = _open_segments(
                            self._folder, self._vectors, self._embedding_id, earlier=self._snapshot
                        )
                    except BaseException:
                        held.close()
                        raise
                    self._held.close()
                    self._held, self._inode = held, inode
        return self._snapshot

    def close(self) -> None:
        """Let go of the folder."""
        self._held.close()

    def __len__(self) -> int:
        return len(self.snapshot)

    @property
    def is_exact(self) -> bool:
        """Whether the answer is the true one."""
        return self.snapshot.is_exact

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return self._snapshot.dimensions

    def search(self, queries: Array, k: int, allowed: Array | None = None) -> tuple[Array, Array]:
        """See `protocol.Index.search`."""
        return self.snapshot.search(queries, k, allowed)

    def _look(self) -> tuple[BinaryIO, int]:
        """The list of segments and its inode number, which no later file can have as long as this one is held open."""
        held = open(self._folder / SEGMENTS, "rb")  # noqa: SIM115
        return held, os.fstat(held.fileno()).st_ino

    def _changed(self) -> bool:
        return (self._folder / SEGMENTS).stat().st_ino != self._inode


def _open_segments(
    folder: Path, vectors: Array, embedding_id: str, *, verify: bool = False, earlier: Segmented | None = None
) -> Segmented:
    for _ in range(_TRIES):
        state = read_state(folder)
        check_embedding(folder, state, embedding_id)
        try:
            return open_snapshot(folder, state, vectors, verify=verify, earlier=earlier)
        except FileNotFoundError as e:
            # a compaction may have replaced the file since the state was read; if it did not, the file is missing
            if read_state(folder).generation == state.generation:
                raise ArtifactError(f"{e.filename}: missing, {SEGMENTS} names it; rebuild the index") from None
    raise ArtifactError(
        f"{folder}: replaced {_TRIES} times while it was being opened; is something rebuilding it in a loop?"
    )


def _open_format_1(folder: Path, vectors: Array, embedding_id: str) -> Index:
    try:
        facts = json.loads((folder / FACTS).read_bytes())
    except ValueError as e:
        raise ArtifactError(f"{folder / FACTS}: not JSON ({e})") from None
    if facts["format_version"] != 1:
        raise ArtifactError(f"{folder}: index format {facts['format_version']}, {FACTS} is format 1; rebuild it")
    same_parent("embedding", embedding_id, facts["embedding_id"], folder)
    if facts["items"] != len(vectors) or facts["dimensions"] != vectors.shape[1]:
        raise ArtifactError(
            f"{folder}: an index of {facts['items']} vectors of {facts['dimensions']}, but the item vectors here are {list(vectors.shape)}"
        )
    index: Index = ExactIndex(vectors)
    if facts["kind"] != "exact":
        try:
            built = read_faiss(folder / FAISS_FILE)
        except FileNotFoundError as e:
            raise ArtifactError(f"{e.filename}: missing, the index is of kind {facts['kind']}") from None
        # this format was tuned for one depth: no effort is known for deeper searches, empty places are filled
        index = FaissIndex(built, Setting(((2**62, facts["effort"]),)), vectors)
    _check_format_1_canaries(folder, index, vectors, facts["canaries"])
    return index


def _check_format_1_canaries(folder: Path, index: Index, vectors: Array, canaries: list[dict[str, Any]]) -> None:
    for canary in canaries:
        found = index.search(vectors[canary["item"]][None], len(canary["neighbours"]))[0][0].tolist()
        if found != canary["neighbours"]:
            raise ArtifactError(
                f"{folder}: canary item {canary['item']} finds {found}, at build it found {canary['neighbours']}: "
                "the index and the item vectors are not of one release"
            )
