"""Small catalogues, and the three-line oracle that every index is held against."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from core.columns import Array
from core.config import IndexConfig, load_pipeline
from index_builder.build import build_index
from index_builder.device import Device
from index_builder.protocol import Index
from index_builder.search import open_index
from index_builder.segments import read_state, write_state

CONFIG = load_pipeline().index
KINDS = ("exact", "ivf-flat", "ivf-sq8", "ivf-pq", "hnsw")


def clustered(n: int, d: int = 16, seed: int = 3) -> Array:
    """Vectors float32 `[n, d]` around 20 centres, in numbers that float16 holds exactly: re-scoring rounds nothing."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(20, d))
    return (centres[rng.integers(20, size=n)] + 0.4 * rng.normal(size=(n, d))).astype(np.float16).astype(np.float32)


def like_towers(n: int, d: int = 16, seed: int = 3) -> Array:
    """Unit vectors float32 `[n, d]` around 20 centres, the clusters running into one another, as towers make them."""
    rng = np.random.default_rng(seed)
    points = np.random.default_rng(0).normal(size=(20, d))[rng.integers(20, size=n)] + rng.normal(size=(n, d))
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True), np.float32)


def truth(vectors: Array, query: Array, k: int, allowed: Array | None = None) -> list[int]:
    scores = vectors @ query
    rows = sorted(range(len(vectors)), key=lambda r: (-scores[r], r))
    return [r for r in rows if allowed is None or allowed[r]][:k]


def quiet(_: str) -> None:
    """No progress."""


def config_of(kind: str) -> IndexConfig:
    """Only this kind, whatever the size."""
    if kind == "exact":
        return CONFIG.model_copy(update={"exact_below": 10**9})
    return CONFIG.model_copy(update={"exact_below": 0, "kinds": {kind: (0, None)}})


def built(
    folder: Path,
    kind: str,
    vectors: Array,
    queries: Array | None = None,
    embedding_id: str = "e",
    device: Device = "auto",
) -> Path:
    """An index folder as `build-index` makes it."""
    queries = clustered(50, vectors.shape[1], seed=9) if queries is None else queries
    config = config_of(kind).model_copy(update={"device": device})
    build_index(vectors, queries, embedding_id, config, folder, quiet)
    return folder


def at_its_exact_setting(folder: Path) -> Path:
    """The folder with an effort that visits everything and a shortlist that holds everything."""
    state = read_state(folder)
    if state.efforts:
        widen = 1 << 30 if state.widen else 0
        write_state(folder, state.model_copy(update={"efforts": ((1 << 40, 1 << 30),), "widen": widen, "canaries": ()}))
    return folder


def exactly(folder: Path, kind: str, vectors: Array, device: Device = "auto") -> Index:
    """The opened index of a kind that visits everything."""
    return open_index(at_its_exact_setting(built(folder, kind, vectors, device=device)), vectors, "e")
