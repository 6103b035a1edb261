"""The towers at serving: LiteRT and numpy over the files of retrieval/towers/files.py; TensorFlow is never imported here."""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol, Self

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from core.columns import Array, load_array
from core.compiled import Asked, library
from core.errors import ArtifactError
from core.history import Query
from core.native import address
from core.schema import EVENT_TYPES, EventType
from retrieval.person_tower import PersonTower
from retrieval.towers.files import WITH_PEOPLE, read_header
from retrieval.towers.inputs import GAP_BUCKETS, PAUSES, Window, window

_ON_PAGE: Final = EventType.DETAIL_PAGE_VIEW.code  # a context item is read as one the person looks at now


class Search(Protocol):
    """Finds the items of the highest inner product."""

    def __call__(self, vector: Array, k: int, allowed: Array | None = None) -> tuple[Array, Array]:
        """Query vector `[d]` to rows int32 `[m]` and scores float32 `[m]`, best first; only rows that `allowed` (bool `[items]`) marks."""


class QueryTower:
    """Turns a query into the vector whose inner product with an item's is the relevance. One interpreter a thread, so that threads never wait."""

    def __init__(self, folder: Path, header: Mapping[str, Any], vectors: Array, has_vector: Array) -> None:
        self.embedding_id, self.dimensions = str(header["embedding_id"]), int(header["dimensions"])
        self.item_vectors = vectors  # float32 [n, d]
        self.has_vector = (
            has_vector  # bool [n]: the item has a training event or content; without either its row is zero
        )
        self._length, self._clock = int(header["events"]), bool(header["clock"])
        self._model = (folder / "query_tower.tflite").read_bytes()
        self._threads = threading.local()
        self.people = PersonTower.open(folder) if header["format_version"] == WITH_PEOPLE else None
        self.asks_alone = self.people is not None and bool((header.get("newcomers") or {}).get("ask"))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map the towers in `folder`.

        Raises:
            ArtifactError: if they are missing, truncated, of another format, or made for other event types.
        """
        header = read_header(folder)
        read = [[str(t) for t in EVENT_TYPES][: len(header["event_types"])], GAP_BUCKETS]
        if read != [header["event_types"], header["gap_buckets"]]:
            raise ArtifactError(
                f"{folder}: towers for event types {header['event_types']}, this Aisle has {read[0]}; train them anew"
            )
        shapes = {"item_vectors": (header["items"], header["dimensions"]), "has_vector": (header["items"],)}
        arrays = {name: load_array(folder / f"{name}.npy") for name in shapes}
        for name, shape in shapes.items():
            if arrays[name].shape != shape:
                raise ArtifactError(f"{folder / name}.npy: shape {arrays[name].shape}, expected {shape}")
        return cls(folder, header, *arrays.values())

    def over(self, vectors: Array, has_vector: Array) -> Self:
        """The same tower, which reads histories through other item vectors: float32 `[n, d]`, bool `[n]`."""
        other = copy.copy(self)
        other.item_vectors, other.has_vector = vectors, has_vector
        return other

    def vector(self, query: Query) -> Array | None:
        """Unit vector float32 `[d]`, or None where neither history nor page holds an item that the towers know something of.

        Read are the newest successes of the history (events with a gain), then the page's items as if looked at now; and the person's attributes,
        which ask alone only where that was better than what is popular (`newcomers` in the header).
        """
        kernel = library()
        known, w = self.counted_window(query) if kernel is None else self._window(kernel, query)
        person = self.people.vector(query.attributes) if self.people else None
        if not known and (person is None or not self.asks_alone):
            return None
        vectors = self.item_vectors[w.item]
        run, inputs, output = self._interpreter()
        for name, value in (("vectors", vectors), ("type", w.type), ("gap", w.gap), ("segment", w.segment)):
            run.set_tensor(inputs[name], value)
        if self.people:
            told = np.zeros(self.dimensions, np.float32) if person is None else person
            run.set_tensor(inputs["person"], told[None])
            run.set_tensor(inputs["heard"], np.array([known > 0], np.float32))
        run.invoke()
        answer: Array = run.get_tensor(output)[0]
        return answer

    def counted_window(self, query: Query) -> tuple[int, Window]:
        """How many events of the query the towers know something of, and the newest of them."""
        history, page = query.history, query.context
        good = self._usable(history.items) & (history.gains > 0)
        page = page[self._usable(page)]
        items = np.concatenate([history.items[good], page])
        types = np.concatenate([history.types[good], np.full(len(page), _ON_PAGE, np.int8)])
        times = np.concatenate([history.times[good], np.full(len(page), query.time, np.int64)])
        return len(items), window(items, types, times, self._length, self._clock)

    def _window(self, kernel: Any, query: Query) -> tuple[int, Window]:
        """The same by the kernel."""
        made = np.empty((4, 1, self._length), np.int32)
        pauses = PAUSES if self._clock else PAUSES[:0]
        items = (address(self.has_vector), min(len(self.item_vectors), len(self.has_vector)))
        known = kernel.window(
            *(Asked.of(query).address, *items, _ON_PAGE, query.time, self._length),
            *(address(pauses), len(pauses), address(made)),
        )
        return int(known), Window(*made)

    def _usable(self, items: Array) -> Array:
        """Whether each row is one of the items with a vector: bool `[m]`."""
        usable: Array = (items >= 0) & (items < len(self.item_vectors))
        usable[usable] = self.has_vector[items[usable]]
        return usable

    def _interpreter(self) -> tuple[Any, dict[str, int], int]:
        mine = self._threads
        if not hasattr(mine, "ready"):
            run = Interpreter(model_content=self._model, num_threads=1)
            run.allocate_tensors()
            # tensors are named serving_default_<input>:0 by the converter
            inputs = {
                d["name"].removeprefix("serving_default_").split(":")[0]: d["index"] for d in run.get_input_details()
            }
            mine.ready = (run, inputs, run.get_output_details()[0]["index"])
        ready: tuple[Any, dict[str, int], int] = mine.ready
        return ready


class TowerSource:
    """The towers as a candidate source: exact search over the item vectors, or a `search` over an index of them."""

    name: Final = "towers"

    def __init__(self, tower: QueryTower, search: Search | None = None) -> None:
        self.tower = tower
        self.search = search or self._exact

    @classmethod
    def open(cls, folder: Path, search: Search | None = None) -> Self:
        """Open the towers in `folder`."""
        return cls(QueryTower.open(folder), search)

    def scoring(self, query: Query) -> TowerScoring:
        """Run the query tower once."""
        return TowerScoring(self.tower.vector(query), self.tower.item_vectors, self.search)

    def heeds(self, attributes: Array) -> bool:
        """Whether what somebody says of themselves (tokens uint64 `[a]`) is enough to be asked by."""
        people = self.tower.people
        return people is not None and self.tower.asks_alone and bool(people.knows(attributes).any())

    def narrowed(self, allowed: Array) -> TowerSource:
        """See core.candidates.Narrows: the search itself passes over the others."""
        return TowerSource(self.tower, lambda vector, k, _=None: self.search(vector, k, allowed))

    def _exact(self, vector: Array, k: int, allowed: Array | None = None) -> tuple[Array, Array]:
        able = self.tower.has_vector if allowed is None else self.tower.has_vector & allowed
        scores = np.where(able, self.tower.item_vectors @ vector, -np.inf).astype(np.float32)
        return best(np.arange(len(scores), dtype=np.int32), scores, k)


class TowerScoring:
    """See core.candidates.Scoring."""

    def __init__(self, vector: Array | None, vectors: Array, search: Search) -> None:
        self._vector, self._vectors, self._search = vector, vectors, search

    def top(self, k: int, excluded: Array) -> tuple[Array, Array]:
        """The k best rows outside `excluded`, found by asking the search for as many more as could be excluded."""
        if self._vector is None or k <= 0:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        rows, scores = self._search(self._vector, min(k + len(excluded), len(self._vectors)))
        kept = (rows >= 0) & np.isfinite(scores)
        if len(excluded):
            kept &= ~np.isin(rows, excluded)
        return rows[kept][:k].astype(np.int32), scores[kept][:k].astype(np.float32)

    def of(self, rows: Array) -> Array:
        """Inner products float32 `[n]`."""
        if self._vector is None:
            return np.zeros(len(rows), np.float32)
        known = (rows >= 0) & (rows < len(self._vectors))
        if known.all():  # as it is but for items that came after the towers
            return np.asarray(self._vectors[rows] @ self._vector)
        scores = np.zeros(len(rows), np.float32)
        scores[known] = self._vectors[rows[known]] @ self._vector
        return scores


def best(rows: Array, scores: Array, k: int) -> tuple[Array, Array]:
    """The k pairs with the highest finite scores, best first, ties by row."""
    finite = np.isfinite(scores)
    rows, scores = rows[finite], scores[finite]
    if 0 < k < len(rows):
        least = np.partition(scores, len(scores) - k)[len(scores) - k]
        rows, scores = rows[scores >= least], scores[scores >= least]
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]
