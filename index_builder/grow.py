"""The index of another night on which the towers stayed: the last one's with what changed, at a small share of a build's cost."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from core import atomic
from core.columns import Array
from core.config import IndexConfig
from index_builder.build import facts_of
from index_builder.search import open_index
from index_builder.segments import EXACT, LOCK, SEGMENTS, read_state
from index_builder.tune import recall_at
from index_builder.writer import index_writer

_WORN: Final = 0.01  # share of the recall at build; an index that lost more is built anew
_BLOCK: Final = 1 << 18  # rows compared at a time


def grow_index(
    earlier: Path,
    before: Array,
    vectors: Array,
    queries: Array,
    embedding_id: str,
    config: IndexConfig,
    out: Path,
    say: Callable[[str], None],
) -> dict[str, Any] | None:
    """Write the index folder `out`: that of `earlier`, its files linked, with new and changed items appended; merged where that is due.

    Args:
        earlier: An index folder of the same towers.
        before: float32 `[m, d]`: the item vectors it was made for.
        vectors: float32 `[n, d]`, n >= m: those of tonight, equal to the last bit where nothing changed.
        queries: float32 `[q, d]` real query vectors.
        embedding_id: Of the towers.
        config: Of the index.
        out: A folder that is not there yet; the caller provides atomicity.
        say: Progress.

    Returns:
        Facts for the manifest, measured tonight; None where the index must be built instead: of other towers, exact, or worn.
    """
    if not (earlier / SEGMENTS).exists():
        return None
    state = read_state(earlier)
    if state.kind == EXACT or state.embedding_id != embedding_id or len(before) > len(vectors):
        return None
    atomic.link_tree(earlier, out, without=(LOCK,))
    changed = changed_rows(before, vectors)
    with index_writer(out, before, embedding_id) as writer:
        writer.append(changed, np.asarray(vectors[changed]))
        merged = writer.compact_if_due(config)
        state = writer.state
    (out / LOCK).unlink()
    recall = recall_at(open_index(out, vectors, embedding_id), vectors, queries, config.k)
    if recall < (1 - _WORN) * float(state.measured[f"recall@{config.k}"]):
        say(f"index: recall@{config.k} {recall:.4f} after {len(changed)} changes: it is built anew")
        shutil.rmtree(out)
        return None
    say(f"index: {len(changed)} items new or changed{', merged' if merged else ''}, recall@{config.k} {recall:.4f}")
    return facts_of(state) | {f"recall@{config.k}": recall, "changed": len(changed), "merged": merged}


def changed_rows(before: Array, vectors: Array) -> Array:
    """The rows of `vectors` `[n, d]` that are not those of `before` `[m, d]`, m <= n, to the last bit: int64, ascending."""
    same = np.zeros(len(vectors), bool)
    for a in range(0, len(before), _BLOCK):
        b = min(a + _BLOCK, len(before))
        same[a:b] = (before[a:b] == vectors[a:b]).all(axis=1)
    return np.flatnonzero(~same)
