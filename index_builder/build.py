"""Builds the index of a catalogue: tries the kinds that suit its size, tunes each on real queries, keeps the best, and says what it measured.

Below `exact_below` items search is exact. Above, the fastest of the kinds that reach the recall target wins; one that takes fewer bytes wins over it
where it is nearly as fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import faiss
import numpy as np

from core.columns import Array
from core.config import IndexConfig
from core.errors import InputError
from index_builder import kinds
from index_builder.exact import ExactIndex
from index_builder.faiss_index import FaissIndex, Setting
from index_builder.protocol import Index
from index_builder.segments import EXACT, Base, Canary, State, entry_of, write_state
from index_builder.tune import Truth, Tuned, tuned

Say = Callable[[str], None]

_FEWEST: Final = 64  # fewer vectors than this teach no codes
_CANARIES: Final = 5
_CANARY_NEIGHBOURS: Final = 3
_NEARLY_AS_FAST: Final = 1.25
_BLOCK: Final = 1 << 16  # vectors at a time


@dataclass(frozen=True)
class _Tried:
    kind: str
    path: Path
    tuned: Tuned
    facts: dict[str, Any]


def build_index(
    vectors: Array, queries: Array, embedding_id: str, config: IndexConfig, out: Path, say: Say
) -> dict[str, Any]:
    """Write the index folder `out`.

    Args:
        vectors: float32 `[items, d]`, finite.
        queries: float32 `[n, d]` real query vectors, from histories and not from items.
        embedding_id: Of the towers that made both.
        config: Kinds, recall target.
        out: Folder to write; the caller provides atomicity.
        say: Progress.

    Returns:
        Facts for the manifest; `recall@k` below `config.recall_floor` must not be published.

    Raises:
        InputError: if a vector is not finite.
    """
    out.mkdir(parents=True, exist_ok=True)
    state = build_state(vectors, queries, embedding_id, config, out, 1, say)
    write_state(out, state)
    return facts_of(state)


def facts_of(state: State) -> dict[str, Any]:
    """What a manifest says of an index."""
    return {
        "kind": state.kind,
        "efforts": [list(e) for e in state.efforts],
        "widen": state.widen,
        "far": state.far,
        "items": state.rows,
        "dimensions": state.dimensions,
        "embedding_id": state.embedding_id,
        **state.measured,
    }


def build_state(
    vectors: Array, queries: Array, embedding_id: str, config: IndexConfig, folder: Path, generation: int, say: Say
) -> State:
    """Write and flush the files of a whole index into `folder`, which `write_state` of the result makes the live ones."""
    check_finite(vectors)
    items, d = map(int, vectors.shape)
    state = State(
        generation=generation,
        kind=EXACT,
        efforts=(),
        widen=0,
        embedding_id=embedding_id,
        dimensions=d,
        rows=items,
        built_rows=items,
        base=Base(rows=items, items=items),
        canaries=note_canaries(ExactIndex(vectors), vectors),
        measured={f"recall@{config.k}": 1.0, "queries": len(queries), "bytes_per_vector": 4 * d},
        files={},
    )
    if items < max(config.exact_below, _FEWEST):
        say(f"index: exact search of {items} items")
        return state
    half = save_half(folder / f"base-{generation}.vectors.npy", vectors)
    best, tries = _chosen(vectors, half, queries, config, folder / f"base-{generation}", say)
    names = (best.path.name, f"base-{generation}.vectors.npy")
    index = FaissIndex(faiss.read_index(str(best.path), faiss.IO_FLAG_MMAP_IFC), best.tuned.setting, half)
    return state.model_copy(
        update={
            "kind": best.kind,
            "efforts": best.tuned.setting.efforts,
            "widen": best.tuned.setting.widen,
            "far": best.tuned.setting.far,
            "base": Base(rows=items, items=items, index=names[0], vectors=names[1]),
            "canaries": note_canaries(index, vectors),
            "measured": best.facts | {"queries": len(queries), "tried": {t.kind: t.facts for t in tries}},
            "files": {name: entry_of(folder / name) for name in names},
        }
    )


def _chosen(
    vectors: Array, half: Array, queries: Array, config: IndexConfig, stem: Path, say: Say
) -> tuple[_Tried, list[_Tried]]:
    """The best of the kinds for this many items, and all of them; the files of the others are gone."""
    truth, tries = Truth(vectors, queries, config.k), []
    start = time.perf_counter()
    quantiser = kinds.coarse_quantiser(vectors, config.device)
    training = time.perf_counter() - start
    for kind in kinds_for(len(vectors), config):
        tries.append(_tried(kind, vectors, half, quantiser, truth, config, stem.with_name(f"{stem.name}.{kind}.faiss")))
        facts = tries[-1].facts
        if kind != kinds.HNSW:
            facts["build_seconds"] = round(facts["build_seconds"] + training, 2)
        say(
            f"index: {kind} of {len(vectors)} items in {facts['build_seconds']} s, recall@{config.k} {facts[f'recall@{config.k}']:.4f} "
            f"in {facts['p50_ms']} ms, {facts['bytes_per_vector']} bytes a vector"
        )
    best = choose(tries, config)
    for other in tries:
        if other is not best:
            other.path.unlink()
    return best, tries


def _tried(
    kind: str, vectors: Array, half: Array, quantiser: Any, truth: Truth, config: IndexConfig, path: Path
) -> _Tried:
    start = time.perf_counter()
    built = kinds.build(kind, vectors, np.arange(len(vectors), dtype=np.int64), quantiser, config.device)
    faiss.write_index(built, str(path))
    seconds = time.perf_counter() - start
    found = tuned(FaissIndex(built, Setting(((1, 1),)), half), kind, truth, config)
    facts = {
        f"recall@{config.k}": found.recall,
        f"filtered_recall@{config.k}": found.filtered,
        "p50_ms": found.p50_ms,
        "p99_ms": found.p99_ms,
        "bytes_per_vector": round(path.stat().st_size / len(vectors) + half.itemsize * half.shape[1], 1),
        "list_imbalance": kinds.imbalance(built),
        "build_seconds": round(seconds, 2),
    }
    return _Tried(kind, path, found, facts)


def kinds_for(items: int, config: IndexConfig) -> list[str]:
    """The kinds that are tried for so many items."""
    return [k for k, (least, most) in config.kinds.items() if least <= items and (most is None or items < most)]


def choose(tries: list[_Tried], config: IndexConfig) -> _Tried:
    """The smallest of those nearly as fast as the fastest that reaches the target; where none does, the one of highest recall."""
    reached = [t for t in tries if t.tuned.recall >= config.recall_target]
    if not reached:
        return max(tries, key=lambda t: t.tuned.recall)
    fastest = min(t.tuned.p50_ms for t in reached)
    fast = [t for t in reached if t.tuned.p50_ms <= _NEARLY_AS_FAST * fastest]
    return min(fast, key=lambda t: t.facts["bytes_per_vector"])


def save_half(path: Path, vectors: Array) -> Array:
    """Write float32 `[rows, d]` as float16 `.npy`, and map it."""
    half = np.lib.format.open_memmap(path, "w+", np.float16, vectors.shape)
    for at in range(0, len(vectors), _BLOCK):
        half[at : at + _BLOCK] = vectors[at : at + _BLOCK]
    half.flush()
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


def check_finite(vectors: Array) -> None:
    """Refuse vectors `[n, d]` that hold a NaN or an infinity, naming the first."""
    for at in range(0, len(vectors), _BLOCK):
        wrong = np.flatnonzero(~np.isfinite(vectors[at : at + _BLOCK]).all(axis=1))
        if len(wrong):
            raise InputError(
                f"vector {at + int(wrong[0])} holds a NaN or an infinity: an index takes finite vectors; train the towers again"
            )


def note_canaries(index: Index, vectors: Array) -> tuple[Canary, ...]:
    """A few items spread over the catalogue, and what their vectors find."""
    items = np.linspace(0, len(vectors) - 1, min(_CANARIES, len(vectors))).astype(int).tolist()
    return tuple(note_canary(index, item, np.asarray(vectors[item], np.float32)) for item in items)


def note_canary(index: Index, item: int | None, vector: Array) -> Canary:
    """What the query `vector` float32 `[d]` finds in a base."""
    rows, _ = index.search(vector[None], min(_CANARY_NEIGHBOURS, len(index)))
    return Canary(item=item, vector=tuple(vector.tolist()), neighbours=tuple(rows[0].tolist()))
