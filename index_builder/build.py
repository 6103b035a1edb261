"""Builds the index of a catalogue's item vectors, tunes its search effort to a recall target on real queries, and says what it measured.

Kind by size: exact search below `exact_below` items, from there on an inverted file (IVF: Jegou, Douze & Schmid 2011, "Product quantization for
nearest neighbor search", section 4) over uncompressed vectors. Its effort (nprobe, lists visited) is doubled until recall@k against exact search
reaches the target.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from core.columns import Array
from core.config import IndexConfig
from index_builder.exact import ExactIndex
from index_builder.search import FACTS, FAISS_FILE, FORMAT_VERSION, FaissIndex, Index

_CANARIES = 5
_CANARY_NEIGHBOURS = 3


def build_index(
    vectors: Array, queries: Array, embedding_id: str, config: IndexConfig, out: Path, say: Callable[[str], None]
) -> dict[str, Any]:
    """Write the index folder `out`.

    Args:
        vectors: float32 `[items, d]`, finite.
        queries: float32 `[n, d]` real query vectors, from histories and not from items.
        embedding_id: Of the towers that made both.
        config: Sizes, recall target.
        out: Folder to write; the caller provides atomicity.
        say: Progress.

    Returns:
        The facts written to `index.json`; `recall` below `config.recall_floor` must not be published.
    """
    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    index: Index = ExactIndex(vectors)
    kind, effort, recall = "exact", 0, 1.0
    if len(vectors) >= config.exact_below:
        built = _inverted_file(vectors)
        kind, (effort, recall) = "ivf", _tuned(built, vectors, queries, config)
        index = FaissIndex(built, effort)
        faiss.write_index(built, str(out / FAISS_FILE))
    facts = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "effort": effort,
        "items": len(vectors),
        "dimensions": int(vectors.shape[1]),
        "embedding_id": embedding_id,
        f"recall@{config.k}": recall,
        "queries": len(queries),
        "canaries": _canaries(index, vectors),
    }
    (out / FACTS).write_text(json.dumps(facts, indent=1, sort_keys=True) + "\n")
    say(f"index: {kind} of {len(vectors)} items, recall@{config.k} {recall:.4f}, {time.perf_counter() - start:.1f} s")
    return facts


def recall_at(index: Index, vectors: Array, queries: Array, k: int) -> float:
    """Mean share of the true k nearest that `index` returns, over `queries` float32 `[n, d]`."""
    k = min(k, len(vectors))
    truth, _ = ExactIndex(vectors).search(queries, k)
    found, _ = index.search(queries, k)
    return float(np.mean([len(np.intersect1d(t, f)) / k for t, f in zip(truth, found, strict=True)]))


def _inverted_file(vectors: Array) -> Any:
    lists = 2 ** round(math.log2(2 * math.sqrt(len(vectors))))
    index = faiss.index_factory(vectors.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = 7
    index.cp.niter = 10
    index.cp.max_points_per_centroid = 64
    index.train(np.ascontiguousarray(vectors, np.float32))
    index.add(np.ascontiguousarray(vectors, np.float32))
    return index


def _tuned(index: Any, vectors: Array, queries: Array, config: IndexConfig) -> tuple[int, float]:
    """The least nprobe, doubling, that reaches the recall target, and the recall there."""
    effort = 1
    while True:
        recall = recall_at(FaissIndex(index, effort), vectors, queries, config.k)
        if recall >= config.recall_target or effort == index.nlist:
            return effort, recall
        effort = min(2 * effort, index.nlist)


def _canaries(index: Index, vectors: Array) -> list[dict[str, Any]]:
    items = np.linspace(0, len(vectors) - 1, min(_CANARIES, len(vectors))).astype(int).tolist()
    rows, _ = index.search(np.asarray(vectors[items], np.float32), min(_CANARY_NEIGHBOURS, len(vectors)))
    return [{"item": i, "neighbours": r.tolist()} for i, r in zip(items, rows, strict=True)]
