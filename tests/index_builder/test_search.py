"""What is opened must belong together: foreign towers, moved vectors, altered canaries, damaged files and other formats are refused, each by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from core import artifact
from core.columns import Array
from core.errors import ArtifactError, NotFoundError
from index_builder.search import open_index
from index_builder.segments import SEGMENTS, read_state, write_state
from index_builder.writer import index_writer
from tests.index_builder.catalogues import KINDS, built, clustered

N = 1000


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Path, Array]:
    vectors = clustered(N)
    return built(tmp_path, "ivf-sq8", vectors, embedding_id="embedding-1"), vectors


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_built_opens(kind: str, tmp_path: Path) -> None:
    vectors = clustered(N)
    index = open_index(built(tmp_path, kind, vectors), vectors, "e", verify=True)
    assert (len(index), index.dimensions, index.is_exact) == (N, 16, kind == "exact")


def test_the_index_of_other_towers_is_refused(whole: tuple[Path, Array]) -> None:
    with pytest.raises(ArtifactError, match="made for embedding embedding-1, but the embedding here is embedding-2"):
        open_index(*whole, "embedding-2")
    with pytest.raises(ArtifactError, match="made for embedding"), index_writer(*whole, "embedding-2"):
        raise AssertionError


@pytest.mark.parametrize("kind", KINDS)
def test_vectors_that_moved_are_refused_with_both_sides(kind: str, tmp_path: Path) -> None:
    vectors = clustered(N)
    built(tmp_path, kind, vectors)
    with pytest.raises(ArtifactError, match=r"canary item 0 has the vector \[.*\] here, at build it had \["):
        open_index(tmp_path, vectors[::-1].copy(), "e")


def test_another_size_is_refused(whole: tuple[Path, Array]) -> None:
    with pytest.raises(
        ArtifactError, match=r"an index of 1000 vectors of 16, but the item vectors here are \[999, 16\]"
    ):
        open_index(whole[0], whole[1][1:], "embedding-1")


def test_an_altered_canary_is_refused(whole: tuple[Path, Array]) -> None:
    folder, vectors = whole
    state = read_state(folder)
    first = state.canaries[0]
    wrong = first.model_copy(update={"neighbours": (first.neighbours[1], first.neighbours[0], first.neighbours[2])})
    write_state(folder, state.model_copy(update={"canaries": (wrong, *state.canaries[1:])}))
    with pytest.raises(
        ArtifactError, match=r"canary item 0 finds \[.*\], at build it found \[.*\]: the index was altered"
    ):
        open_index(folder, vectors, "embedding-1")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-8])


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, r"\d+ bytes, segments.json says \d+: truncated or altered"),
        (alter, r"sha256 \w+\.\.\., segments.json says \w+\.\.\.: altered"),
        (Path.unlink, "missing, segments.json names it"),
    ],
)
def test_every_damaged_file_is_named(whole: tuple[Path, Array], damage: Callable[[Path], None], message: str) -> None:
    folder, vectors = whole
    with index_writer(folder, vectors, "embedding-1") as writer:
        writer.append(np.array([3, N]), clustered(2, seed=4))
        writer.delete(np.array([5]))
    open_index(folder, vectors, "embedding-1", verify=True)
    for name in read_state(folder).files:
        before = (folder / name).read_bytes()
        damage(folder / name)
        with pytest.raises(ArtifactError, match=f"{name}: {message}"):
            open_index(folder, vectors, "embedding-1", verify=True)
        (folder / name).write_bytes(before)
    open_index(folder, vectors, "embedding-1", verify=True)


def test_a_damaged_list_of_segments_is_refused(whole: tuple[Path, Array]) -> None:
    folder, vectors = whole
    path = folder / SEGMENTS
    before = path.read_text()
    path.write_text(before[: len(before) // 2])
    with pytest.raises(ArtifactError, match=r"segments\.json: truncated or altered"):
        open_index(folder, vectors, "embedding-1")
    path.write_text(before.replace('"widen": ', '"widen": 1'))
    with pytest.raises(ArtifactError, match="its sha256 is not the one it states"):
        open_index(folder, vectors, "embedding-1")
    path.unlink()
    with pytest.raises(NotFoundError, match=r"segments\.json: missing: not an index of Aisle, or never completed"):
        open_index(folder, vectors, "embedding-1")


def test_another_format_is_refused_both_ways(whole: tuple[Path, Array]) -> None:
    folder, vectors = whole
    raw = json.loads((folder / SEGMENTS).read_text())
    for version, hint in ((99, "update this Aisle"), (0, "rebuild it")):
        (folder / SEGMENTS).write_text(json.dumps(raw | {"format_version": version}))
        with pytest.raises(ArtifactError, match=f"index format {version}, this Aisle reads 1 and 2; {hint}"):
            open_index(folder, vectors, "embedding-1")


def test_a_state_of_unknown_parts_is_refused(whole: tuple[Path, Array]) -> None:
    folder, vectors = whole
    raw = json.loads((folder / SEGMENTS).read_text())
    raw["state"]["surprise"] = 1
    raw["sha256"] = artifact.hash_json(raw["state"])
    (folder / SEGMENTS).write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match=r"\('surprise',\)"):
        open_index(folder, vectors, "embedding-1")
