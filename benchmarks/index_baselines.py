"""FAISS's plain indexes on the vectors and queries that `bench index` measures, brought to the same recall."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, Final

import faiss
import numpy as np

from core.columns import Array
from core.threads import one_thread
from index_builder.tune import overlap

Say = Callable[[str], None]

_TIMED: Final = 200
_CHUNK: Final = 1 << 14
_LINKS: Final = 32


def baselines(vectors: Array, queries: Array, k: int, recall: float, budget: float, say: Say) -> dict[str, Any]:
    """Of `IndexFlatIP`, `IndexIVFFlat` and `IndexHNSWFlat`: build seconds, recall@k, p50 and p99 of one query on one thread, bytes per vector.

    Args:
        vectors: float32 `[items, d]`.
        queries: float32 `[n, d]`.
        k: Depth.
        recall: What the effort of each is doubled to reach.
        budget: Seconds that each may build; one that needs more is left out, and its entry says so.
        say: Progress.
    """
    d, metric = int(vectors.shape[1]), faiss.METRIC_INNER_PRODUCT
    lists = min(2 ** round(math.log2(2 * math.sqrt(len(vectors)))), len(vectors))
    flat = faiss.IndexFlatIP(d)
    whole = np.ascontiguousarray(vectors, np.float32)
    flat.add(whole)
    truth = flat.search(queries, k)[1]
    found: dict[str, Any] = {"IndexFlatIP": _figures(flat, None, queries, k, truth, 0.0, 4 * d)}
    flat.reset()  # one copy of the vectors at a time
    makers: dict[str, tuple[Callable[[], Any], int]] = {
        "IndexIVFFlat": (lambda: faiss.IndexIVFFlat(faiss.IndexFlatIP(d), d, lists, metric), 4 * d + 8),
        "IndexHNSWFlat": (lambda: faiss.IndexHNSWFlat(d, _LINKS, metric), 4 * d + 8 * _LINKS + 4),
    }
    for name, (make, size) in makers.items():
        say(f"baseline {name}")
        index = make()
        seconds = _build(index, whole, budget)
        if seconds is None:
            found[name] = {"left_out": f"not built within {budget:g} s"}
        else:
            effort = _effort(index, queries, k, truth, recall)
            found[name] = _figures(index, effort, queries, k, truth, seconds, size)
        index.reset()
        say(f"baseline {name}: {found[name]}")
    return found


def _build(index: Any, vectors: Array, budget: float) -> float | None:
    """Seconds to train and add, None where that takes more than `budget`."""
    start = time.perf_counter()
    if not index.is_trained:
        index.train(vectors)
    for at in range(0, len(vectors), _CHUNK):
        index.add(vectors[at : at + _CHUNK])
        if time.perf_counter() - start > budget:
            return None
    return time.perf_counter() - start


def _parameters(index: Any, effort: int | None) -> Any:
    if effort is None:
        return None
    if hasattr(index, "nlist"):
        return faiss.SearchParametersIVF(nprobe=effort)
    return faiss.SearchParametersHNSW(efSearch=effort)


def _effort(index: Any, queries: Array, k: int, truth: Array, recall: float) -> int:
    effort = 1 if hasattr(index, "nlist") else k
    most = index.nlist if hasattr(index, "nlist") else index.ntotal
    while effort < most and overlap(truth, index.search(queries, k, params=_parameters(index, effort))[1]) < recall:
        effort = min(2 * effort, most)
    return effort


def _figures(
    index: Any, effort: int | None, queries: Array, k: int, truth: Array, seconds: float, size: int
) -> dict[str, Any]:
    parameters, times = _parameters(index, effort), []
    with one_thread():
        for query in queries[:_TIMED]:
            start = time.perf_counter()
            index.search(query[None], k, params=parameters)
            times.append(time.perf_counter() - start)
    return {
        "build_seconds": round(seconds, 2),
        "effort": effort,
        f"recall@{k}": round(overlap(truth, index.search(queries, k, params=parameters)[1]), 4),
        "p50_ms": round(1e3 * float(np.median(times)), 3),
        "p99_ms": round(1e3 * float(np.quantile(times, 0.99)), 3),
        "bytes_per_vector": size,
    }
