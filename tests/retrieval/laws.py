"""What every candidate source must keep to: subclass, name the source, inherit the tests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.candidates import Source
from core.columns import Tags
from core.config import load_pipeline
from core.errors import ArtifactError
from core.history import History, Query
from core.prepared import FULL, TRAIN, TWIN, Fold, Prepared
from core.schema import EventType
from retrieval.known import Known
from retrieval.sources import SOURCES
from tests.prepared_fixture import Row, make_prepared

NONE = np.empty(0, np.int32)
CUTS = (0, 600, 700, 800, 1000)
PURCHASE, IMPRESSION = EventType.PURCHASE_COMPLETE.value, EventType.IMPRESSION.value
N_ITEMS = 30


def shop_rows(seed: int = 3) -> list[Row]:
    """25 people, 30 items, 400 purchases and 100 impressions over [0, 1000); every person and item is there before T1 = 600."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = [(f"u:{n % 25:02}", f"i{n:02}", PURCHASE, n) for n in range(N_ITEMS)]
    for _ in range(470):
        item = min(int(rng.exponential(8)), N_ITEMS - 1)
        kind = PURCHASE if rng.random() < 0.8 else IMPRESSION
        rows.append((f"u:{rng.integers(25):02}", f"i{item:02}", kind, int(rng.integers(30, 1000))))
    return rows


def attributes(n: int = N_ITEMS) -> dict[str, Tags]:
    """Item i is one of three colours and of five sizes."""
    return {"attribute.kind": Tags.of([f"colour {i % 3}", f"size {i % 5}"] for i in range(n))}


def fit_one(name: str, prepared: Prepared, fold: Fold, out: Path) -> Source:
    """Fit one source as of a cut, and open it from its files."""
    kind: Any = SOURCES[name]
    kind.fit(Known(prepared, fold, load_pipeline().sources)).write(out)
    return SOURCES[name].open(out)


@pytest.fixture(scope="class")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return make_prepared(tmp_path_factory.mktemp("shop"), shop_rows(), cuts=CUTS, columns=attributes(), pairs=True)


@pytest.fixture(scope="class")
def folder(request: pytest.FixtureRequest, prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the class's source, fitted at T2."""
    out = tmp_path_factory.mktemp("fitted") / "twin"
    fit_one(request.cls.name, prepared, TWIN, out)
    return out


@pytest.fixture(scope="class")
def queries(prepared: Prepared) -> list[Query]:
    """Everyone at T2, half of them with an item on the page."""
    histories = prepared.histories()
    pages = [NONE if user % 2 else np.array([user % N_ITEMS], np.int32) for user in range(25)]
    return [Query(CUTS[3], user, histories.before(user, CUTS[3]), pages[user]) for user in range(25)]


def bought(*items: int, time: int = 790) -> Query:
    n = len(items)
    code = EventType.PURCHASE_COMPLETE.code
    history = History(
        np.array(items, np.int32), np.arange(time, time + n), np.full(n, code, np.int8), np.ones(n, np.float32)
    )
    return Query(time + n, 0, history)


def files(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*.npy"))}


class SourceLaws:
    """Inherit, and set `name`."""

    name: str

    @pytest.fixture
    def source(self, folder: Path) -> Source:
        return SOURCES[self.name].open(folder)

    def test_best_first_finite_and_typed(self, source: Source, queries: Sequence[Query]) -> None:
        answered = 0
        for query in queries:
            rows, scores = source.scoring(query).top(10, NONE)
            assert rows.dtype == np.int32
            assert scores.dtype == np.float32
            assert len(rows) == len(scores) <= 10
            assert np.isfinite(scores).all()
            assert (scores > 0).all()
            assert (np.diff(scores) <= 0).all()
            answered += len(rows) > 0
        assert answered > 0  # the law is not kept by saying nothing

    def test_no_item_twice_and_ties_by_row(self, source: Source, queries: Sequence[Query]) -> None:
        for query in queries:
            rows, scores = source.scoring(query).top(N_ITEMS, NONE)
            assert len(np.unique(rows)) == len(rows)
            tied = np.diff(scores) == 0
            assert (np.diff(rows)[tied] > 0).all()

    def test_fewer_are_the_first_of_more(self, source: Source, queries: Sequence[Query]) -> None:
        for query in queries:
            scoring = source.scoring(query)
            everything = scoring.top(N_ITEMS, NONE)[0]
            for k in range(len(everything)):
                np.testing.assert_array_equal(scoring.top(k, NONE)[0], everything[:k])

    def test_k_beyond_the_catalogue(self, source: Source, queries: Sequence[Query]) -> None:
        scoring = source.scoring(queries[0])
        np.testing.assert_array_equal(scoring.top(10**6, NONE)[0], scoring.top(N_ITEMS, NONE)[0])

    def test_k_of_zero(self, source: Source, queries: Sequence[Query]) -> None:
        rows, scores = source.scoring(queries[0]).top(0, NONE)
        assert len(rows) == len(scores) == 0

    def test_excluded_are_left_out_and_replaced(self, source: Source, queries: Sequence[Query]) -> None:
        for query in queries:
            scoring = source.scoring(query)
            everything = scoring.top(N_ITEMS, NONE)[0]
            excluded = np.sort(np.concatenate([everything[::2], [10**6]])).astype(np.int32)
            np.testing.assert_array_equal(scoring.top(5, excluded)[0], everything[1::2][:5])

    def test_everything_excluded(self, source: Source, queries: Sequence[Query]) -> None:
        assert len(source.scoring(queries[0]).top(5, np.arange(N_ITEMS, dtype=np.int32))[0]) == 0

    def test_scores_of_rows_are_those_of_the_list(self, source: Source, queries: Sequence[Query]) -> None:
        for query in queries:
            scoring = source.scoring(query)
            rows, scores = scoring.top(N_ITEMS, NONE)
            expected = np.zeros(N_ITEMS, np.float32)
            expected[rows] = scores
            np.testing.assert_array_equal(scoring.of(np.arange(N_ITEMS, dtype=np.int32)), expected)
            assert scoring.of(rows).dtype == np.float32

    def test_scores_of_rows_that_nobody_knows_are_zero(self, source: Source, queries: Sequence[Query]) -> None:
        unknown = np.array([-1, N_ITEMS, 2**31 - 1], np.int32)
        np.testing.assert_array_equal(source.scoring(queries[0]).of(unknown), np.zeros(3, np.float32))
        assert len(source.scoring(queries[0]).of(NONE)) == 0

    def test_nothing_known_of_the_person(self, source: Source) -> None:
        rows, scores = source.scoring(Query(time=CUTS[3])).top(5, NONE)
        assert len(rows) == len(scores)
        assert np.isfinite(scores).all()

    def test_unknown_rows_say_nothing(self, source: Source, queries: Sequence[Query]) -> None:
        for query in queries:
            h = query.history
            where = np.arange(len(h)) // 2  # each in the middle, at a time of its neighbour
            strange = History(
                *(
                    np.insert(a, where, v)
                    for a, v in (
                        (h.items, N_ITEMS + 7),
                        (h.times, h.times[where]),
                        (h.types, h.types[0]),
                        (h.gains, 1.0),
                    )
                )
            )
            page = np.concatenate([[-1, 10**6], query.context]).astype(np.int32)
            self.assert_same(source, query, Query(query.time, query.user, strange, page))

    def test_events_without_gain_say_nothing(self, source: Source, queries: Sequence[Query]) -> None:
        for query in queries:
            h = query.history
            seen = np.arange(N_ITEMS, dtype=np.int32)
            code = EventType.IMPRESSION.code
            more = History(
                np.concatenate([h.items, seen]),
                np.concatenate([h.times, np.full(N_ITEMS, query.time - 1)]),
                np.concatenate([h.types, np.full(N_ITEMS, code, np.int8)]),
                np.concatenate([h.gains, np.zeros(N_ITEMS, np.float32)]),
            )
            self.assert_same(source, query, Query(query.time, query.user, more, query.context))

    def test_the_same_files_from_the_same_data(self, prepared: Prepared, folder: Path, tmp_path: Path) -> None:
        fit_one(self.name, prepared, TWIN, tmp_path / "again")
        assert files(tmp_path / "again") == files(folder)

    def test_times_law_another_future_changes_nothing(self, folder: Path, tmp_path: Path) -> None:
        past = [row for row in shop_rows() if row[3] < CUTS[3]]
        future: list[Row] = [("u:00", "i29", PURCHASE, at) for at in range(CUTS[3], CUTS[4] - 1, 5)]
        other = make_prepared(tmp_path, [*past, *future], cuts=CUTS, columns=attributes(), pairs=True)
        fit_one(self.name, other, TWIN, tmp_path / "out")
        assert files(tmp_path / "out") == files(folder)

    def test_times_law_a_data_set_that_ends_at_the_cut(
        self, source: Source, queries: Sequence[Query], tmp_path: Path
    ) -> None:
        past = [row for row in shop_rows() if row[3] < CUTS[3]]
        ended = make_prepared(tmp_path, past, cuts=(0, 500, 600, 700, CUTS[3]), columns=attributes(), pairs=True)
        other = fit_one(self.name, ended, FULL, tmp_path / "out")
        everything = np.arange(N_ITEMS, dtype=np.int32)
        for query in queries:
            # other folds, so other sums of float32 pair counts
            np.testing.assert_allclose(
                source.scoring(query).of(everything), other.scoring(query).of(everything), rtol=1e-5
            )

    def test_times_law_what_comes_later_is_not_proposed(self, tmp_path: Path) -> None:
        """Items 20 to 29 first occur after T1, and one of them is on the page all the same."""
        rows: list[Row] = [row for row in shop_rows() if row[3] >= CUTS[1] or row[1] < "i20"]
        rows += [("u:00", f"i{n}", PURCHASE, 900 + n) for n in range(20, N_ITEMS)]
        prepared = make_prepared(tmp_path, rows, cuts=CUTS, columns=attributes(), pairs=True)
        source = fit_one(self.name, prepared, TRAIN, tmp_path / "out")
        for user in range(25):
            history = prepared.histories().before(user, CUTS[1])
            proposed = source.scoring(Query(CUTS[1], user, history, np.array([25], np.int32))).top(N_ITEMS, NONE)[0]
            assert (proposed < 20).all()

    def test_one_item_one_event(self, tmp_path: Path) -> None:
        prepared = make_prepared(tmp_path, [("u:a", "x", PURCHASE, 1)], cuts=(0, 2, 3, 4, 5), pairs=True)
        source = fit_one(self.name, prepared, FULL, tmp_path / "out")
        rows, scores = source.scoring(bought(0)).top(5, NONE)
        assert rows.tolist() in ([], [0])
        assert np.isfinite(scores).all()

    def test_nothing_known_at_the_cut(self, tmp_path: Path) -> None:
        prepared = make_prepared(tmp_path, [("u:a", "x", PURCHASE, 4)], cuts=(0, 2, 3, 4, 5), pairs=True)
        source = fit_one(self.name, prepared, TRAIN, tmp_path / "out")
        assert len(source.scoring(Query(time=2)).top(5, NONE)[0]) == 0

    def test_a_file_cut_short_is_named(self, folder: Path, tmp_path: Path) -> None:
        for file in sorted(folder.glob("*.npy")):
            copy = tmp_path / file.stem
            copy.mkdir()
            for other in folder.glob("*.npy"):
                data = other.read_bytes()
                (copy / other.name).write_bytes(data[:-3] if other == file else data)
            with pytest.raises(ArtifactError, match=file.name):
                SOURCES[self.name].open(copy)

    def assert_same(self, source: Source, one: Query, other: Query) -> None:
        for a, b in zip(source.scoring(one).top(N_ITEMS, NONE), source.scoring(other).top(N_ITEMS, NONE), strict=True):
            np.testing.assert_array_equal(a, b)
