"""The index of another night: it answers like one of tonight's vectors, and leaves the last night's as it was."""

# bazel: size=medium

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.artifact import sha256
from core.columns import Array
from index_builder.grow import changed_rows, grow_index
from index_builder.search import open_index
from index_builder.segments import SEGMENTS, read_state, write_state
from index_builder.tune import recall_at
from tests.index_builder.catalogues import KINDS, built, config_of, like_towers, quiet

N, FEW, MANY = 3000, 8, 400  # 8 (24 entries and tombstones) are within `compact_share`, 400 are not


def tonight(changed: int) -> tuple[Array, Array]:
    """Item vectors of last night, and of tonight: so many of them changed, as many came."""
    before, other = like_towers(N), like_towers(2 * changed, seed=8)
    return before, np.vstack([other[:changed], before[changed:], other[changed:]])


def grown(folder: Path, kind: str, changed: int, embedding_id: str = "e") -> dict[str, Any] | None:
    before, vectors = tonight(changed)
    queries = like_towers(100, seed=9)
    return grow_index(
        folder / "last", before, vectors, queries, embedding_id, config_of(kind), folder / "tonight", quiet
    )


@pytest.mark.parametrize("changed", [FEW, MANY])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_it_finds_what_changed_and_what_came(tmp_path: Path, kind: str, changed: int) -> None:
    before, vectors = tonight(changed)
    last = built(tmp_path / "last", kind, before)
    as_it_was = {p.name: sha256(p) for p in last.iterdir()}
    facts = grown(tmp_path, kind, changed)
    assert facts is not None
    assert (facts["items"], facts["changed"], facts["merged"]) == (N + changed, 2 * changed, changed == MANY)
    index = open_index(tmp_path / "tonight", vectors, "e", verify=True)
    assert recall_at(index, vectors, like_towers(100, seed=9), 100) == facts["recall@100"] >= 0.95
    # whoever asks with the vector of what changed or came finds it; codes may confuse it with a close neighbour
    asked = np.r_[0:changed, N : N + changed]
    assert (index.search(vectors[asked], 5)[0] == asked[:, None]).any(axis=1).mean() >= 0.95
    assert {p.name: sha256(p) for p in last.iterdir()} == as_it_was


def test_files_are_shared_until_they_are_merged(tmp_path: Path) -> None:
    built(tmp_path / "last", "ivf-flat", tonight(FEW)[0])
    grown(tmp_path, "ivf-flat", FEW)
    base = "base-1.ivf-flat.faiss"
    assert (tmp_path / "tonight" / base).samefile(tmp_path / "last" / base)


def test_what_cannot_grow_is_left_to_a_build(tmp_path: Path) -> None:
    built(tmp_path / "last", "ivf-flat", tonight(FEW)[0])
    assert grown(tmp_path, "ivf-flat", FEW, "other towers") is None
    # as if it had found more when it was built than it finds tonight
    state = read_state(tmp_path / "last")
    write_state(tmp_path / "last", state.model_copy(update={"measured": state.measured | {"recall@100": 1.02}}))
    assert grown(tmp_path, "ivf-flat", FEW) is None
    assert not (tmp_path / "tonight").exists()
    built(tmp_path / "exact" / "last", "exact", tonight(FEW)[0])
    assert grown(tmp_path / "exact", "exact", FEW) is None
    (tmp_path / "last" / SEGMENTS).unlink()
    assert grown(tmp_path, "ivf-flat", FEW) is None


def test_changed_rows_by_hand() -> None:
    before = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    assert changed_rows(before, np.array([[1, 2], [3, 9], [5, 6], [0, 0]], np.float32)).tolist() == [1, 3]
    assert changed_rows(before[:0], before).tolist() == [0, 1, 2]
