"""Online search: opens the index of a release and answers queries. One protocol for exact and approximate indexes.

An index folder holds `index.json` (kind, search setting, embedding id, recall measured at build, canaries) and, unless the kind is "exact",
`index.faiss`. The vectors themselves are the towers' `item_vectors.npy`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import faiss
import numpy as np

from core.artifact import same_parent
from core.columns import Array
from core.errors import ArtifactError
from core.ids import NO_ROW
from index_builder.exact import ExactIndex

FORMAT_VERSION: Final = 1
FACTS: Final = "index.json"
FAISS_FILE: Final = "index.faiss"


class Index(Protocol):
    """Inner-product search over the rows of one catalogue."""

    @property
    def is_exact(self) -> bool:
        """Whether the answer is the true one."""

    def search(self, queries: Array, k: int, allowed: Array | None = None) -> tuple[Array, Array]:
        """The k best items of each query.

        Args:
            queries: float32 `[n, d]`.
            k: May exceed the number of items.
            allowed: bool `[items]`; only these rows may be returned. None: all.

        Returns:
            rows int32 `[n, k]`, best first, ties by row where the index is exact, padded with NO_ROW; scores float32 `[n, k]`, -inf beside
            NO_ROW.

        Raises:
            ValueError: if the dimension of the queries is not the index's.
        """


@dataclass(frozen=True)
class FaissIndex:
    """An inverted file with its search setting. Search takes its parameters per call, so that threads can share the index."""

    index: Any  # faiss.IndexIVF
    effort: int  # nprobe: lists visited
    is_exact: bool = False

    def __len__(self) -> int:
        return int(self.index.ntotal)

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self.index.d)

    def search(self, queries: Array, k: int, allowed: Array | None = None) -> tuple[Array, Array]:
        """See `Index.search`. Where a filter or a short list leaves places empty, more lists are visited until none is or all were."""
        if queries.ndim != 2 or queries.shape[1] != self.dimensions:
            raise ValueError(f"queries of shape {queries.shape}, expected [n, {self.dimensions}]")
        # FAISS leaves the result of a NaN query undefined
        queries = np.nan_to_num(np.ascontiguousarray(queries, np.float32), copy=True, nan=0.0)
        there = min(k, len(self) if allowed is None else int(np.count_nonzero(allowed)))
        effort = self.effort
        scores, rows = self._visit(queries, k, allowed, effort)
        while effort < self.index.nlist and (short := np.flatnonzero((rows != NO_ROW).sum(1) < there)).size:
            effort = min(4 * effort, self.index.nlist)
            scores[short], rows[short] = self._visit(queries[short], k, allowed, effort)
        return rows.astype(np.int32), np.where(rows == NO_ROW, -np.inf, scores).astype(np.float32)

    def _visit(self, queries: Array, k: int, allowed: Array | None, effort: int) -> tuple[Array, Array]:
        selector = {} if allowed is None else {"sel": faiss.IDSelectorBitmap(np.packbits(allowed, bitorder="little"))}
        found = self.index.search(queries, k, params=faiss.SearchParametersIVF(nprobe=effort, **selector))
        return found  # type: ignore[no-any-return]


def open_index(folder: Path, vectors: Array, embedding_id: str) -> Index:
    """Open the index in `folder` for the towers whose item vectors are `vectors` and whose embedding id is `embedding_id`.

    Raises:
        ArtifactError: if the index was built for other vectors, is of another format, or its canaries do not find their neighbours.
    """
    try:
        facts = json.loads((folder / FACTS).read_bytes())
    except (FileNotFoundError, ValueError) as e:
        raise ArtifactError(f"{folder / FACTS}: missing or not JSON ({e})") from None
    if facts["format_version"] != FORMAT_VERSION:
        raise ArtifactError(
            f"{folder}: index format {facts['format_version']}, this Aisle reads {FORMAT_VERSION}; rebuild it"
        )
    same_parent("embedding", embedding_id, facts["embedding_id"], folder)
    if facts["items"] != len(vectors) or facts["dimensions"] != vectors.shape[1]:
        raise ArtifactError(
            f"{folder}: an index of {facts['items']} vectors of {facts['dimensions']}, but the item vectors here are {list(vectors.shape)}"
        )
    index: Index = ExactIndex(vectors) if facts["kind"] == "exact" else FaissIndex(_read(folder), facts["effort"])
    _check_canaries(folder, index, vectors, facts["canaries"])
    return index


def _read(folder: Path) -> Any:
    path = folder / FAISS_FILE
    try:
        index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
    except RuntimeError as e:
        raise ArtifactError(
            f"{path}: missing, truncated or not a FAISS index ({str(e).splitlines()[-1].strip()})"
        ) from None
    return index


def _check_canaries(folder: Path, index: Index, vectors: Array, canaries: list[dict[str, Any]]) -> None:
    """A few items whose nearest neighbours were noted at build must still find them: towers, vectors and index are one family."""
    for canary in canaries:
        found = index.search(vectors[canary["item"]][None], len(canary["neighbours"]))[0][0].tolist()
        if found != canary["neighbours"]:
            raise ArtifactError(
                f"{folder}: canary item {canary['item']} finds {found}, at build it found {canary['neighbours']}: "
                "the index and the item vectors are not of one release"
            )
