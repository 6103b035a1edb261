"""`bench index`: the index of Aisle beside FAISS's plain ones, in one run: recall, latency, bytes, filters, and a night of changes.

    ./aisle bench index --items 1000000 [--nights 30] [--kills 200]
    ./aisle bench index --vectors V.npy --queries Q.npy --k 100 --out ROWS.npy
    ./aisle bench index --work WORK        # the item vectors of its trained towers, asked what its people would ask

Without files the catalogue is made up (`catalogue`): unit vectors of 64 dimensions around 2000 centres of very different sizes, the queries around the
same centres but farther from them. Effort is tuned on 1000 queries and judged on 500 others; with files, on the queries given. Latency: one query at a time
on one thread. `build_seconds`: training, adding and writing the kind that was chosen; trying the others and tuning is `choice_seconds`. `incremental_ratio`:
seconds of appending 1 % and deleting 1 %, over `build_seconds`; `compact_ratio`: of merging that into the base, which a night may do later.
`nights_recall@100`: least and last of the nights; `nights_p50_ratio`, `nights_p99_ratio`: of the latency after a night, merged where due, over that of the
index before all changes, measured beside it: median, greatest and last.

`memory`: gigabytes (1e9 bytes). `searching_gb` and `searching_anonymous_gb`: most that a process of its own holds while it opens the index and answers, and
what of that is not mapped from files. `built_gb`: most that this process held up to then, building and looking for the truth included; `changed_gb`: up to
the end of the changes; `peak_gb`: with the plain indexes. The made-up vectors lie in a file, mapped.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.index_baselines import baselines
from benchmarks.index_memory import peak_gb, searching
from core import atomic
from core.columns import Array, load_array
from core.config import IndexConfig, load_pipeline
from core.errors import InputError
from core.prepared import FULL, Prepared
from core.threads import one_thread
from core.work import Work
from index_builder.build import build_index
from index_builder.exact import ExactIndex
from index_builder.search import LiveIndex, open_index
from index_builder.tune import latency, overlap
from index_builder.writer import index_writer
from pipeline.index import query_vectors
from retrieval.query import QueryTower
from retrieval.sources import TOWERS

Say = Callable[[str], None]

_DIMENSIONS: Final = 64
_CENTRES: Final = 2000
_ITEM_SPREAD, _QUERY_SPREAD = 0.7, 1.0
_TUNED_ON, _JUDGED_ON = 1000, 500
_SHARES: Final = (0.5, 0.1, 0.01, 0.001)  # of the catalogue that a filter allows
_FILTERED: Final = 100  # queries each
_CHANGED: Final = 100  # one item in so many is new, and one is deleted
_K: Final = 100
_LARGE_K: Final = 500
_EMBEDDING: Final = "bench"
_BLOCK: Final = 1 << 18  # rows made, or copied, at a time


@dataclass(frozen=True)
class Catalogue:
    """`vectors` float32 `[n, d]` with the centre int `[n]` of each, `tune` and `judge` queries float32 `[q, d]`."""

    vectors: Array
    centres: Array
    tune: Array
    judge: Array


def catalogue(items: int, seed: int, file: Path | None = None) -> Catalogue:
    """Items around `_CENTRES` normal centres, chosen with Dirichlet(0.5) weights, with noise 0.7; queries alike with noise 1; all of unit length.

    With a `file` (.npy) the vectors are written there, and mapped.
    """
    rng = np.random.default_rng(seed)
    places = rng.normal(size=(_CENTRES, _DIMENSIONS)).astype(np.float32)
    weights = rng.dirichlet(np.full(_CENTRES, 0.5))
    centres = rng.choice(_CENTRES, items, p=weights).astype(np.int32)
    vectors = np.empty((items, _DIMENSIONS), np.float32) if file is None else _mapped(file, items)
    for at in range(0, items, _BLOCK):
        part = slice(at, at + _BLOCK)
        vectors[part] = _around(places[centres[part]], _ITEM_SPREAD, rng)
    queries = _around(places[rng.choice(_CENTRES, _TUNED_ON + _JUDGED_ON, p=weights)], _QUERY_SPREAD, rng)
    return Catalogue(vectors, centres, queries[:_TUNED_ON], queries[_TUNED_ON:])


def _mapped(file: Path, rows: int) -> Array:
    return np.lib.format.open_memmap(file, "w+", np.float32, (rows, _DIMENSIONS))


def _around(centres: Array, spread: float, rng: np.random.Generator) -> Array:
    points = centres + np.float32(spread) * rng.standard_normal(centres.shape, np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)  # type: ignore[no-any-return]


def bench_files(vectors: Path, queries: Path, k: int, out: Path | None, budget: float, say: Say) -> dict[str, Any]:
    """Index the vectors of one file and search it for the queries of another; rows int64 `[n, k]` go to `out`.

    Raises:
        InputError: if the files do not hold float32 `[n, d]` of one d.
    """
    items, asked = load_array(vectors), load_array(queries)
    for path, array in ((vectors, items), (queries, asked)):
        if array.dtype != np.float32 or array.ndim != 2 or not len(array):
            raise InputError(f"{path}: {array.dtype} {list(array.shape)}, expected float32 [n, d]")
    if items.shape[1] != asked.shape[1]:
        raise InputError(
            f"{queries}: queries of {asked.shape[1]} dimensions, the vectors of {vectors} have {items.shape[1]}"
        )
    config = load_pipeline().index.model_copy(update={"k": k})
    with _folder() as folder:
        figures = _built(folder, items, asked, config, say)
        index = open_index(folder, items, _EMBEDDING)
        figures |= _searched(index, items, asked, (k,))
        if out is not None:
            with atomic.new_file(out) as beside, open(beside, "wb") as f:
                np.save(f, index.search(asked, k)[0].astype(np.int64))
    figures["baselines"] = baselines(items, asked, k, figures[f"recall@{k}"], budget, say)
    return figures


def bench_items(items: int, nights: int, budget: float, seed: int, say: Say) -> dict[str, Any]:
    """The made-up catalogue: search, filters, a night of changes (`nights` of them with compaction), baselines."""
    config, extra = load_pipeline().index.model_copy(update={"k": _K}), max(items // _CHANGED, 1)
    say(f"making {items:,} items around {_CENTRES} centres")
    with _folder() as place, _folder() as folder, _folder() as fresh:
        shop = catalogue(items + extra * max(nights, 1), seed, place / "vectors.npy")
        base = shop.vectors[:items]
        figures = _built(folder, base, shop.tune, config, say)
        index = open_index(folder, base, _EMBEDDING)
        figures |= _searched(index, base, shop.judge, (_K, _LARGE_K))
        say(f"recall@{_K} {figures[f'recall@{_K}']:.4f}, p50 {figures['p50_ms']} ms; filters")
        figures["filters"] = _filtered(index, base, shop, say)
        np.save(place / "queries.npy", shop.judge)
        memory = searching(folder, place / "vectors.npy", items, place / "queries.npy", _K) | {"built_gb": peak_gb()}
        atomic.link_tree(folder, fresh)
        figures |= _changed(folder, shop, items, config, figures, say)
        figures |= _nights(folder, fresh, shop, items, nights, config, say) if nights else {}
        memory["changed_gb"] = peak_gb()
        figures["baselines"] = baselines(base, shop.judge, _K, figures[f"recall@{_K}"], budget, say)
    return figures | {"memory": memory | {"peak_gb": peak_gb()}}


def bench_work(work: Work, budget: float, say: Say) -> dict[str, Any]:
    """The item vectors of the newest towers of a work directory, judged on half of the people's queries, tuned on the other half."""
    settings, prepared = load_pipeline(), Prepared(work.latest("prepare"))
    tower = QueryTower.open(work.latest("train-retrieval") / FULL.name / TOWERS)
    vectors, queries = np.asarray(tower.item_vectors), query_vectors(prepared, FULL, tower, settings)
    config = settings.index.model_copy(update={"exact_below": 0, "k": _K})
    with _folder() as folder:
        figures = _built(folder, vectors, queries[::2], config, say)
        figures |= _searched(open_index(folder, vectors, _EMBEDDING), vectors, queries[1::2], (_K, _LARGE_K))
    figures["baselines"] = baselines(vectors, queries[1::2], _K, figures[f"recall@{_K}"], budget, say)
    return figures | {"memory": {"peak_gb": peak_gb()}}


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="aisle-bench-") as name:
        yield Path(name)


def _built(folder: Path, vectors: Array, queries: Array, config: IndexConfig, say: Say) -> dict[str, Any]:
    start = time.perf_counter()
    facts = build_index(vectors, queries, _EMBEDDING, config, folder, say)
    seconds = time.perf_counter() - start
    build = facts.get("build_seconds", round(seconds, 3))
    return {
        "items": len(vectors),
        "dimensions": facts["dimensions"],
        "kind": facts["kind"],
        "efforts": facts["efforts"],
        "widen": facts["widen"],
        "far": facts["far"],
        "build_seconds": build,
        "choice_seconds": round(max(seconds - build, 0.0), 2),
        "bytes_per_vector": facts["bytes_per_vector"],
        "list_imbalance": facts.get("list_imbalance"),
        "tried": facts.get("tried", {}),
    }


def _searched(index: Any, vectors: Array, queries: Array, depths: tuple[int, ...]) -> dict[str, Any]:
    """Recall and latency at each depth; the first one's latency also under the plain names."""
    figures: dict[str, Any] = {}
    truth = ExactIndex(vectors).search(queries, min(max(depths), len(vectors)))[0]
    for k in depths:
        figures[f"recall@{k}"] = round(overlap(truth[:, :k], index.search(queries, k)[0]), 4)
        figures[f"p50_ms@{k}"], figures[f"p99_ms@{k}"] = latency(index, queries, k, 500)
    return figures | {"p50_ms": figures[f"p50_ms@{depths[0]}"], "p99_ms": figures[f"p99_ms@{depths[0]}"]}


def _filtered(index: Any, vectors: Array, shop: Catalogue, say: Say) -> dict[str, Any]:
    """By share allowed: `random` items, and whole `categories` (centres), which a query is inside of or far from."""
    rng, found = np.random.default_rng(5), {}
    queries, centres = shop.judge[:_FILTERED], shop.centres[: len(vectors)]
    for share in _SHARES:
        masks = {"random": rng.random(len(vectors)) < share, "categories": _categories(centres, share, rng)}
        for name, allowed in masks.items():
            if not allowed.any():
                continue
            there = min(_K, int(allowed.sum()))
            truth = ExactIndex(vectors).search(queries, there, allowed)[0]
            rows, times = _one_by_one(index, queries, allowed)
            figures = {
                "share": round(float(allowed.mean()), 5),
                f"recall@{_K}": round(overlap(truth, rows), 4),
                "p50_ms": round(1e3 * float(np.median(times)), 3),
                "p99_ms": round(1e3 * float(np.quantile(times, 0.99)), 3),
                "violations": int((~allowed[rows[rows >= 0]]).sum()),
            }
            found[f"{name} {share:g}"] = figures
            say(f"filter, {name} {share:g}: {figures}")
    return found


def _categories(centres: Array, share: float, rng: np.random.Generator) -> Array:
    """Items of centres drawn until they make up `share` of the catalogue."""
    order = rng.permutation(_CENTRES)
    sizes = np.bincount(centres, minlength=_CENTRES)[order]
    chosen = order[: int(np.searchsorted(np.cumsum(sizes), share * len(centres))) + 1]
    return np.isin(centres, chosen)


def _one_by_one(index: Any, queries: Array, allowed: Array | None) -> tuple[Array, list[float]]:
    rows, times = [], []
    with one_thread():
        for query in queries:
            start = time.perf_counter()
            rows.append(index.search(query[None], _K, allowed)[0][0])
            times.append(time.perf_counter() - start)
    return np.array(rows), times


def _changed(
    folder: Path, shop: Catalogue, items: int, config: IndexConfig, before: dict[str, Any], say: Say
) -> dict[str, Any]:
    """Append 1 % and delete 1 %; then merge; a full rebuild of the same catalogue beside it."""
    base, extra = shop.vectors[:items], max(items // _CHANGED, 1)
    gone = _gone(items)
    alive = np.ones(items + extra, bool)
    alive[gone] = False
    vectors = shop.vectors[: items + extra]
    truth = ExactIndex(vectors).search(shop.judge, _K, alive)[0]
    live = LiveIndex(folder, base, _EMBEDDING)
    with index_writer(folder, base, _EMBEDDING) as writer:
        start = time.perf_counter()
        writer.append(np.arange(items, items + extra), vectors[items:])
        writer.delete(gone)
        seconds = time.perf_counter() - start
        found = live.search(shop.judge, _K)[0]
        changed = overlap(truth, found)
        p50, p99 = latency(live, shop.judge, _K, 500)
        deleted = int(np.isin(found, gone).sum())
        start = time.perf_counter()
        writer.compact()
        compact = time.perf_counter() - start
        merged = overlap(truth, live.search(shop.judge, _K)[0])
    live.close()
    with _folder() as other:
        only = config.model_copy(update={"kinds": {before["kind"]: (0, None)}}) if before["kind"] != "exact" else config
        whole = np.flatnonzero(alive)
        left = _mapped(other / "vectors.npy", len(whole))
        for at in range(0, len(whole), _BLOCK):
            left[at : at + _BLOCK] = vectors[whole[at : at + _BLOCK]]
        build_index(left, shop.tune, _EMBEDDING, only, other / "index", say)
        fresh = open_index(other / "index", left, _EMBEDDING).search(shop.judge, _K)[0]
        rebuilt = overlap(truth, whole[fresh])
    return {
        "incremental_seconds": round(seconds, 3),
        "incremental_ratio": round(seconds / before["build_seconds"], 4),
        f"incremental_recall@{_K}": round(changed, 4),
        "incremental_p50_ms": p50,
        "incremental_p99_ms": p99,
        "incremental_deleted_returned": deleted,
        "compact_seconds": round(compact, 3),
        "compact_ratio": round(compact / before["build_seconds"], 4),
        f"compacted_recall@{_K}": round(merged, 4),
        f"rebuilt_recall@{_K}": round(rebuilt, 4),
    }


def _gone(items: int) -> Array:
    """The rows that are deleted in the first night."""
    return np.random.default_rng(3).choice(items, max(items // _CHANGED, 1), replace=False)


def _nights(
    folder: Path, fresh: Path, shop: Catalogue, items: int, nights: int, config: IndexConfig, say: Say
) -> dict[str, Any]:
    """After the first night, more of them: 1 % new, 1 % gone, merged when due. After each: recall, and latency beside that of the `fresh` index."""
    rng, extra, base, merges = np.random.default_rng(4), max(items // _CHANGED, 1), shop.vectors[:items], 0
    alive = np.zeros(len(shop.vectors), bool)
    alive[: items + extra] = True
    alive[_gone(items)] = False
    untouched, recalls, ratios, deleted = open_index(fresh, base, _EMBEDDING), [], [], 0
    for night in range(1, nights):
        new = np.arange(items + night * extra, items + (night + 1) * extra)
        gone = rng.choice(np.flatnonzero(alive), extra, replace=False)
        alive[new], alive[gone] = True, False
        with index_writer(folder, base, _EMBEDDING) as writer:
            writer.append(new, shop.vectors[new])
            writer.delete(gone)
            merges += writer.compact_if_due(config)
        index = open_index(folder, base, _EMBEDDING)
        rows = index.search(shop.judge, _K)[0]
        recalls.append(overlap(ExactIndex(shop.vectors).search(shop.judge, _K, alive)[0], rows))
        deleted += int((~alive[rows[rows >= 0]]).sum())
        ratios.append(np.divide(latency(index, shop.judge, _K, 500), latency(untouched, shop.judge, _K, 500)))
    say(f"{nights} nights, merged {merges} times")
    p50, p99 = np.array(ratios).T
    return {
        "nights": nights,
        "nights_merged": merges,
        f"nights_recall@{_K}": [round(float(r), 4) for r in (min(recalls), recalls[-1])],
        "nights_p50_ratio": [round(float(r), 3) for r in (np.median(p50), p50.max(), p50[-1])],
        "nights_p99_ratio": [round(float(r), 3) for r in (np.median(p99), p99.max(), p99[-1])],
        "nights_deleted_returned": deleted,
    }
