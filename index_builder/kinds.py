"""The kinds of FAISS index: how each is built, and how each takes in changes.

| kind     | FAISS                                          | holds                            | scores     |
|----------|------------------------------------------------|----------------------------------|------------|
| ivf-flat | inverted file, `IndexIVFFlat`                  | float32, 4 d + 8 bytes           | exact      |
| ivf-sq8  | the same, a byte a component                   | d + 8 bytes                      | re-scored  |
| ivf-pq   | the same, 4-bit product codes, fast scan       | d / 4 + 8 bytes                  | re-scored  |
| hnsw     | graph over float32, `IndexHNSWFlat`            | 4 d + about 8 M bytes            | exact      |

Sources: inverted file and product codes: Jegou, Douze & Schmid 2011, "Product quantization for nearest neighbor search"; fast scan: Andre, Kermarrec
& Le Scouarnec 2015, "Cache locality is not enough"; graph: Malkov & Yashunin 2016, "Efficient and robust approximate nearest neighbor search using
hierarchical navigable small world graphs". Besides, every kind keeps the vectors as float16 by row (2 d bytes) for re-scoring and narrow filters.
"""

from __future__ import annotations

import math
from typing import Any, Final

import faiss
import numpy as np

from core.columns import Array
from index_builder.device import Device, assigner, gpus, use_for_clustering

IVF_FLAT: Final = "ivf-flat"
IVF_SQ8: Final = "ivf-sq8"
IVF_PQ: Final = "ivf-pq"
HNSW: Final = "hnsw"
KINDS: Final = (IVF_FLAT, IVF_SQ8, IVF_PQ, HNSW)
COMPRESSED: Final = (IVF_SQ8, IVF_PQ)

_SEED: Final = 7
_ROUNDS: Final = 10  # of k-means
_POINTS_PER_CENTROID: Final = 64
_CODEC_SAMPLE: Final = 65536  # vectors that component ranges and product codes are learned from
_ADDED: Final = 1 << 17  # vectors at a time
_LINKS: Final = 16  # of a node of the graph (twice as many on the lowest level)
_BUILD_EFFORT: Final = 60  # candidates when a node is linked in


def coarse_quantiser(vectors: Array, device: Device) -> Any:
    """K-means centroids of float32 `[items, d]`, about two to the square root of an item, as a `faiss.IndexFlatIP`."""
    lists = min(2 ** round(math.log2(2 * math.sqrt(len(vectors)))), len(vectors))
    index = faiss.index_factory(vectors.shape[1], f"IVF{lists},Flat", faiss.METRIC_INNER_PRODUCT)
    index.cp.seed, index.cp.niter, index.cp.max_points_per_centroid = _SEED, _ROUNDS, _POINTS_PER_CENTROID
    index.cp.min_points_per_centroid = 1
    use_for_clustering(index, gpus(device))
    index.train(_sample(vectors, lists * _POINTS_PER_CENTROID))
    return faiss.clone_index(index.quantizer)


def build(kind: str, vectors: Array, rows: Array, quantiser: Any, device: Device) -> Any:
    """A FAISS index of `vectors` float32 `[n, d]` under the ids `rows` int64 `[n]`; `quantiser`: trained, for the inverted files."""
    index = _empty(kind, vectors, quantiser)
    lists_of = None if kind == HNSW else assigner(quantiser, gpus(device))
    for at in range(0, len(vectors), _ADDED):
        add(index, np.ascontiguousarray(vectors[at : at + _ADDED], np.float32), rows[at : at + _ADDED], lists_of)
    return index


def _empty(kind: str, vectors: Array, quantiser: Any) -> Any:
    d, metric = int(vectors.shape[1]), faiss.METRIC_INNER_PRODUCT
    if kind == HNSW:
        graph = faiss.IndexHNSWFlat(d, _LINKS, metric)
        graph.hnsw.efConstruction = _BUILD_EFFORT
        # levels are drawn by a generator of fixed seed
        index = faiss.IndexIDMap(graph)
        index.own_fields = True
        graph.this.disown()
        return index
    own = faiss.clone_index(quantiser)
    if kind == IVF_FLAT:
        index = faiss.IndexIVFFlat(own, d, own.ntotal, metric)
    elif kind == IVF_SQ8:
        index = faiss.IndexIVFScalarQuantizer(own, d, own.ntotal, faiss.ScalarQuantizer.QT_8bit, metric)
    else:
        index = faiss.IndexIVFPQFastScan(own, d, own.ntotal, d if d % 2 else d // 2, 4, metric)
    index.own_fields = True
    own.this.disown()
    index.train(_sample(vectors, _CODEC_SAMPLE))
    return index


def add(index: Any, vectors: Array, rows: Array, lists_of: Any) -> None:
    """Add float32 `[n, d]` under the ids `rows`; `lists_of` assigns lists (see `device.assigner`), None for a graph."""
    rows = np.ascontiguousarray(rows, np.int64)
    if lists_of is None or isinstance(index, faiss.IndexIVFPQFastScan):
        # fast scan packs its codes in blocks and assigns by itself
        index.add_with_ids(vectors, rows)
        return
    lists = np.ascontiguousarray(lists_of.search(vectors, 1)[1].ravel(), np.int64)
    index.add_core(len(rows), faiss.swig_ptr(vectors), faiss.swig_ptr(rows), faiss.swig_ptr(lists))


def compacted(kind: str, index: Any, gone: Array, vectors: Array, rows: Array, stored: Array) -> Any:
    """`index` without the ids where `gone` bool is set, with `vectors` float32 `[n, d]` under `rows` int64 [n].

    The inverted files keep their coarse quantiser and their codes' scale. A graph forgets nothing: it is built anew, from its own vectors. Product
    codes are filled in anew from `stored`, float16 by row, the new ones included: FAISS 1.15.1 packs codes into blocks by "or", and removing leaves
    the old ones there, so that what is added afterwards gets wrong ones.
    """
    if kind == HNSW:
        ids = faiss.vector_to_array(index.id_map)
        stay = np.flatnonzero(~gone[ids])
        kept = faiss.downcast_index(index.index).reconstruct_batch(stay)
        return build(kind, np.vstack([kept, vectors]), np.concatenate([ids[stay], rows]), None, "cpu")
    if kind == IVF_PQ:
        index.reset()
        alive = ~gone
        alive[rows] = True
        everything = np.flatnonzero(alive)
        for at in range(0, len(everything), _ADDED):
            part = everything[at : at + _ADDED]
            add(index, stored[part].astype(np.float32), part, index.quantizer)
        return index
    index.remove_ids(faiss.IDSelectorBitmap(np.packbits(gone, bitorder="little")))
    if len(rows):
        add(index, np.ascontiguousarray(vectors, np.float32), rows, index.quantizer)
    return index


def imbalance(index: Any) -> float | None:
    """How uneven the lists are: 1 when all are alike, 2 when the average visit costs twice as much. None for a graph."""
    return round(float(index.invlists.imbalance_factor()), 3) if hasattr(index, "invlists") else None


def _sample(vectors: Array, count: int) -> Array:
    if len(vectors) <= count:
        return np.ascontiguousarray(vectors, np.float32)
    chosen = np.sort(np.random.default_rng(_SEED).choice(len(vectors), count, replace=False))
    return np.ascontiguousarray(vectors[chosen], np.float32)
