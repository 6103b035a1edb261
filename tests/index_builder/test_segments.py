"""Deltas, tombstones and compaction: whatever is done to an index, it answers like the exact search of what is then there."""

# bazel: size=medium

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.columns import Array
from core.errors import BusyError, InputError, NotFoundError
from index_builder.exact import ExactIndex
from index_builder.faiss_index import FaissIndex
from index_builder.search import LiveIndex, open_index
from index_builder.segmented import Segmented
from index_builder.segments import SEGMENTS, read_state
from index_builder.writer import IndexWriter, index_writer
from tests.index_builder.catalogues import (
    CONFIG,
    KINDS,
    at_its_exact_setting,
    built,
    clustered,
    config_of,
    like_towers,
    quiet,
)

N, D = 300, 16

rows = st.lists(st.integers(0, N + 40), min_size=1, max_size=40, unique=True)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("append"), rows),
        st.tuples(st.just("delete"), rows),
        st.tuples(st.just("compact"), st.just([])),
    ),
    max_size=14,
)


@settings(max_examples=12, deadline=None)
@given(kind=st.sampled_from(KINDS), changes=changes)
def test_any_changes_in_any_order(kind: str, changes: list[tuple[str, list[int]]]) -> None:
    vectors, versions = clustered(N), clustered(2 * N, seed=4)
    now, alive = np.vstack([vectors, np.zeros((41, D), np.float32)]), np.arange(N + 41) < N
    with TemporaryDirectory() as name:
        folder = at_its_exact_setting(built(Path(name) / "index", kind, vectors))
        live = LiveIndex(folder, vectors, "e")
        with index_writer(folder, vectors, "e") as writer:
            for at, (verb, which) in enumerate(changes):
                chosen = np.array(which)
                if verb == "append":
                    now[chosen] = versions[(chosen + at) % len(versions)]
                    alive[chosen] = True
                    writer.append(chosen, now[chosen])
                elif verb == "delete":
                    chosen = chosen[chosen < writer.state.rows]
                    alive[chosen] = False
                    writer.delete(chosen)
                else:
                    writer.compact()
                found, scores = live.search(versions[:3], 20)
                wanted, values = ExactIndex(now).search(versions[:3], 20, alive)
                assert found.tolist() == wanted.tolist()
                np.testing.assert_allclose(scores[found >= 0], values[wanted >= 0], rtol=1e-3, atol=1e-3)
        live.close()
        # and the files say the same as what was open all the while
        again = open_index(folder, vectors, "e", verify=True).search(versions[:3], 20)[0]
        assert again.tolist() == ExactIndex(now).search(versions[:3], 20, alive)[0].tolist()


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[IndexWriter]:
    vectors = clustered(N)
    with index_writer(built(tmp_path / "index", "ivf-flat", vectors), vectors, "e") as writer:
        yield writer


def test_a_snapshot_never_changes(tmp_path: Path) -> None:
    vectors, queries = clustered(N), clustered(5, seed=6)
    folder = built(tmp_path, "ivf-sq8", vectors)
    before = open_index(folder, vectors, "e")
    answer = before.search(queries, 30)
    with index_writer(folder, vectors, "e") as writer:
        writer.delete(np.unique(answer[0]))
        writer.append(np.arange(N, N + 50), clustered(50, seed=1))
        writer.compact()  # the files that `before` has mapped are gone
        writer.rebuild(clustered(N, seed=8), queries, "e2", config_of("hnsw"), quiet)
    assert np.array_equal(before.search(queries, 30)[0], answer[0])


def test_a_deleted_item_is_gone_in_another_process_when_the_call_returns(tmp_path: Path) -> None:
    # the reader answers each line with the nearest rows of item 0; it deletes nothing itself
    vectors = clustered(N)
    np.save(tmp_path / "vectors.npy", vectors)
    folder = built(tmp_path / "index", "ivf-sq8", vectors)
    reader = (
        "import sys, numpy as np; from pathlib import Path; from index_builder.search import LiveIndex\n"
        "vectors = np.load(sys.argv[1]); live = LiveIndex(Path(sys.argv[2]), vectors, 'e')\n"
        "for _ in sys.stdin: print(*live.search(vectors[:1], 5)[0][0], flush=True)"
    )
    command = [sys.executable, "-c", reader, str(tmp_path / "vectors.npy"), str(folder)]
    with (
        subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as process,
        index_writer(folder, vectors, "e") as writer,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        gone: set[int] = set()
        for _ in range(20):
            process.stdin.write("\n")
            process.stdin.flush()
            found = [int(r) for r in process.stdout.readline().split()]
            assert len(found) == 5
            assert not gone & set(found)
            writer.delete(np.array(found[:2]))
            gone |= set(found[:2])
        process.stdin.close()


@pytest.mark.parametrize("kind", ["ivf-flat", "ivf-sq8", "ivf-pq"])
def test_a_large_delta_is_searched_through_the_lists_of_the_base(kind: str, tmp_path: Path) -> None:
    # 2500 entries are more than are searched one by one; at the exact setting all lists are visited
    vectors, more, queries = clustered(1000), clustered(2500, seed=5), clustered(10, seed=9)
    folder = at_its_exact_setting(built(tmp_path, kind, vectors))
    with index_writer(folder, vectors, "e") as writer:
        writer.append(np.arange(500, 3000), more)
        writer.delete(np.arange(2900, 3000))
    now, alive = np.vstack([vectors[:500], more]), np.arange(3000) < 2900
    index = open_index(folder, vectors, "e")
    assert isinstance(index, Segmented)
    assert isinstance(index.delta, FaissIndex)
    for share in (1.0, 0.9, 0.3, 0.001):
        allowed = np.random.default_rng(2).random(3000) < share
        found = index.search(queries, 50, allowed)[0]
        assert found.tolist() == ExactIndex(now).search(queries, 50, alive & allowed)[0].tolist()


def test_searches_while_items_go_and_segments_are_merged(tmp_path: Path) -> None:
    # what was gone when a search began is never in its answer, whatever the writer does meanwhile
    vectors = clustered(N)
    folder = built(tmp_path, "ivf-flat", vectors)
    live, gone, wrong, done = LiveIndex(folder, vectors, "e"), set[int](), list[int](), threading.Event()

    def search() -> None:
        while not done.is_set():
            before = set(gone)
            found = live.search(vectors[:2], 100)[0]
            wrong.extend(before & set(found.ravel().tolist()))

    with ThreadPoolExecutor(3) as pool, index_writer(folder, vectors, "e") as writer:
        readers = [pool.submit(search) for _ in range(3)]
        try:
            for at in range(30):
                writer.delete(np.array([3 * at]))
                gone.add(3 * at)
                writer.append(np.array([N + at]), vectors[at : at + 1])
                if at % 10 == 9:
                    writer.compact()
        finally:
            done.set()
        for reader in readers:
            reader.result()
    assert not wrong
    assert live.snapshot.alive == N
    live.close()


def test_many_small_changes_stay_few_files(writer: IndexWriter) -> None:
    new = clustered(60, seed=2)
    for at in range(60):
        writer.append(np.array([N + at]), new[at : at + 1])
        writer.delete(np.array([at]))
    # 8 deltas at most, the bitmap, the base's two
    assert len(writer.state.files) <= 11
    # 60 entries, of which none was replaced, and 60 dead of the base's 300
    assert writer.changed_share == pytest.approx(120 / N)


def test_compaction_comes_when_it_is_due(writer: IndexWriter) -> None:
    config = CONFIG.model_copy(update={"compact_share": 0.05})
    writer.delete(np.arange(15))  # 15 of 300: exactly 5 %
    assert not writer.compact_if_due(config)
    writer.delete(np.array([15]))
    assert writer.compact_if_due(config)
    # the rows keep their numbers and stay dead in the bitmap; nothing waits for a merge any more
    assert not writer.compact_if_due(config)


@pytest.mark.parametrize("kind", ["ivf-flat", "ivf-sq8", "ivf-pq", "hnsw"])
def test_compaction_keeps_recall(kind: str, tmp_path: Path) -> None:
    vectors, more, queries = like_towers(3000), like_towers(600, seed=5), like_towers(60, seed=9)
    folder = built(tmp_path, kind, vectors, queries)
    with index_writer(folder, vectors, "e") as writer:
        writer.append(np.arange(600), more)
        writer.delete(np.arange(600, 900))
        now, alive = np.vstack([more, vectors[600:]]), np.ones(3000, bool)
        alive[600:900] = False
        truth = ExactIndex(now).search(queries, 100, alive)[0]

        def recall() -> float:
            found = open_index(folder, vectors, "e").search(queries, 100)[0]
            return float(np.mean([len(np.intersect1d(t, f)) / 100 for t, f in zip(truth, found, strict=True)]))

        assert recall() >= CONFIG.recall_floor
        writer.compact()
        assert recall() >= CONFIG.recall_floor
        assert read_state(folder).deltas == ()


@pytest.mark.parametrize(
    ("which", "vectors", "message"),
    [
        ([1, 1], np.ones((2, D)), "rows to append must be distinct"),
        ([-1], np.ones((1, D)), "not negative"),
        ([1], np.ones((1, 3)), r"vectors of \[1, 3\] for 1 rows, the index takes \[1, 16\]"),
        ([1], np.full((1, D), np.nan), "vector 0 holds a NaN"),
    ],
)
def test_what_cannot_be_appended_changes_nothing(
    writer: IndexWriter, which: list[int], vectors: Array, message: str
) -> None:
    before = writer.state
    with pytest.raises(InputError, match=message):
        writer.append(np.array(which), vectors)
    assert writer.state == before


def test_deleting_what_never_was_is_an_error_and_twice_is_none(writer: IndexWriter) -> None:
    writer.delete(np.array([3]))
    writer.delete(np.array([3]))
    with pytest.raises(InputError, match="rows 7 to 300 to delete, the index has rows 0 to 299"):
        writer.delete(np.array([7, N]))


def test_one_writer_at_a_time_and_none_without_an_index(tmp_path: Path) -> None:
    vectors = clustered(N)
    folder = built(tmp_path / "index", "exact", vectors)
    with index_writer(folder, vectors, "e"), pytest.raises(BusyError), index_writer(folder, vectors, "e"):
        raise AssertionError
    with pytest.raises(NotFoundError, match="no index to change"), index_writer(tmp_path, vectors, "e"):
        raise AssertionError


def test_leftovers_are_never_loaded_and_the_next_writer_removes_them(tmp_path: Path) -> None:
    vectors = clustered(N)
    folder = built(tmp_path, "ivf-flat", vectors)
    queries = clustered(20, seed=9)
    before = open_index(folder, vectors, "e").search(queries, 10)[0]
    for name in ("delta-2.npy", "base-7.ivf-flat.faiss", "dead-9.npy", f".tmp-{SEGMENTS}-1"):
        (folder / name).write_bytes(b"half")
    assert np.array_equal(open_index(folder, vectors, "e").search(queries, 10)[0], before)
    with index_writer(folder, vectors, "e"):
        assert sorted(p.name for p in folder.iterdir()) == sorted(["lock", SEGMENTS, *read_state(folder).files])
