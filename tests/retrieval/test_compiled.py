"""The compiled kernel of candidates gives the bits of the numpy functions, whatever the history, the lists and the page hold."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from core import candidates, native
from core.columns import Array
from core.compiled import library
from core.history import History, Query
from core.schema import EventType
from retrieval.query import QueryTower
from retrieval.sources import evidence, neighbours
from retrieval.sources.evidence import counted_seeds, seeds
from retrieval.sources.neighbours import Neighbours, NeighboursBuilder
from retrieval.sources.opinion import FewItems, WholeOrder, order_of
from retrieval.sources.own_frequency import OwnFrequency
from retrieval.towers.inputs import PAUSES, gap_buckets

SEEDS = st.integers(0, 2**32 - 1)
N = 40
TYPES = (EventType.PURCHASE_COMPLETE, EventType.RETURN, EventType.DETAIL_PAGE_VIEW)
NONE = np.empty(0, np.int32)


def some_query(seed: int) -> Query:
    """Few items and moments, so that they repeat; unknown rows, returns and events without gain among them."""
    rng = np.random.default_rng(seed)
    h = int(rng.integers(0, 40))
    types = rng.choice([t.code for t in TYPES], h, p=[0.6, 0.2, 0.2]).astype(np.int8)
    gains = np.where(types == EventType.PURCHASE_COMPLETE.code, rng.choice([0.1, 1.0, 3.0], h), 0).astype(np.float32)
    history = History(
        rng.integers(-1, N + 2, h).astype(np.int32), np.sort(rng.integers(0, 12, h)).astype(np.int64), types, gains
    )
    return Query(100, 0, history, rng.integers(-1, N + 2, int(rng.integers(0, 4))).astype(np.int32))


def some_lists(seed: int, *, signed: bool) -> Neighbours:
    rng = np.random.default_rng(seed)
    builder = NeighboursBuilder(N, 12, signed=signed)
    for item in np.flatnonzero(rng.random(N) < 0.8).tolist():
        others = np.flatnonzero(rng.random(N) < 0.4)
        scores = rng.choice([1.0, 0.5, 0.1, 1 / 3], len(others)) * (rng.choice([-1, 1], len(others)) if signed else 1)
        builder.add(item, others, scores)
    return builder.build()


def assert_same(found: Any, wanted: FewItems, seed: int) -> None:
    """The best of both and all scores, to the bit, for any number and any exclusion."""
    rng = np.random.default_rng(seed)
    rows = rng.integers(-1, N + 5, 30).astype(np.int32)
    assert np.array_equal(found.of(rows), wanted.of(rows))
    for k in (-1, 0, 1, 3, int(rng.integers(1, N)), 10**9):
        for excluded in (NONE, np.unique(rng.integers(0, N, 9)).astype(np.int32)):
            for a, b in zip(found.top(k, excluded), wanted.top(k, excluded), strict=True):
                assert np.array_equal(a, b)
                assert a.dtype == b.dtype


@settings(deadline=None)
@given(seed=SEEDS, limit=st.integers(0, 30), recency=st.sampled_from([0.0, 0.5, 1.0, 1.3]))
def test_seeds(seed: int, limit: int, recency: float) -> None:
    query = some_query(seed)
    for a, b in zip(seeds(query, N, limit, recency), counted_seeds(query, N, limit, recency), strict=True):
        assert np.array_equal(a, b)
        assert a.dtype == b.dtype


def test_seeds_are_worked_out_once_for_each_setting() -> None:
    query = some_query(3)
    assert seeds(query, N, 10, 1.0) is seeds(query, N, 10, 1.0)
    assert seeds(query, N, 10, 1.0) is not seeds(query, N, 9, 1.0)


@settings(deadline=None)
@given(seed=SEEDS, signed=st.booleans(), most=st.sampled_from([20, 1 << 19]))
def test_sums_of_lists(seed: int, signed: bool, most: int) -> None:
    """`most` 20: fewer entries than the lists hold are read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "_MOST", most)
        lists = some_lists(seed, signed=signed)
        items, weights = counted_seeds(some_query(seed), N, 10, 1.0)
        assume(len(items) <= 20)
        assert_same(lists.near(items, weights), lists.counted_near(items, weights), seed)


@settings(deadline=None)
@given(seed=SEEDS, signed=st.booleans())
def test_the_item_that_adds_most(seed: int, signed: bool) -> None:
    lists = some_lists(seed, signed=signed)
    items, weights = counted_seeds(some_query(seed), N, 10, 1.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbours, "library", lambda: None)
        plain = Neighbours(lists._starts, lists._items, lists._scores)
    for row in range(N):
        assert lists.strongest_for(items, weights, row) == plain.strongest_for(items, weights, row)


@settings(deadline=None)
@given(seed=SEEDS)
def test_own_items(seed: int) -> None:
    source = OwnFrequency(np.random.default_rng(seed).integers(0, 3, N).astype(np.float32))
    assert_same(source.scoring(some_query(seed)), source.counted(some_query(seed)), seed)


class Listing:
    """A scoring that the kernel knows nothing of: it proposes some rows, and scores each with a third of it."""

    def __init__(self, rows: list[int]) -> None:
        self._rows = np.array(rows, np.int64)

    def top(self, k: int, excluded: Array) -> tuple[Array, Array]:
        rows = self._rows[~np.isin(self._rows, excluded)][: max(k, 0)].astype(np.int32)
        return rows, self.of(rows)

    def of(self, rows: Array) -> Array:
        return (rows / 3).astype(np.float32)


@settings(deadline=None)
@given(
    seed=SEEDS,
    listed=st.lists(st.integers(0, 60), unique=True, max_size=40),
    more=st.one_of(st.none(), st.lists(st.integers(0, 60), max_size=5)),
    asked=st.lists(st.integers(-1, 30), min_size=4, max_size=4),
    sources=st.integers(0, 4),
)
def test_gathering(seed: int, listed: list[int], more: list[int] | None, asked: list[int], sources: int) -> None:
    """Sums of lists, own items, a whole order and a source of another kind, some of them excluded."""
    rng, query = np.random.default_rng(seed), some_query(seed)
    popular = rng.integers(0, 4, N).astype(np.float32)
    scorings = [
        some_lists(seed, signed=False).near(*seeds(query, N, 10, 1.0)),
        Listing(listed),
        WholeOrder(order_of(popular), popular),
        OwnFrequency(popular).scoring(query),
    ][:sources]
    excluded = np.unique(rng.integers(0, N, int(rng.integers(0, 9)))).astype(np.int32)
    extra = None if more is None else np.array(more, np.int64)
    kernel = library()
    assert kernel is not None
    arguments = (scorings, asked[:sources], excluded, extra)
    for a, b in zip(candidates._compiled(kernel, *arguments), candidates.counted(*arguments), strict=True):
        assert np.array_equal(a, b)
        assert a.dtype == b.dtype
        assert a.flags.c_contiguous


@settings(deadline=None)
@given(seed=SEEDS, length=st.integers(1, 30), clock=st.booleans(), scale=st.sampled_from([1, 10**6, 7 * 10**9, 10**13]))
def test_what_the_query_tower_reads(seed: int, length: int, clock: bool, scale: int) -> None:
    """Windows shorter and longer than the history, on a clock of any pace, of items that the towers know and others."""
    query, rng = some_query(seed), np.random.default_rng(seed)
    times = query.history.times * scale
    query = Query(100 * scale, 0, replace(query.history, times=times), query.context)
    tower = QueryTower.__new__(QueryTower)
    tower.item_vectors, tower.has_vector = np.zeros((N, 2), np.float32), rng.random(N) < 0.7
    tower._length, tower._clock = length, clock
    kernel = library()
    assert kernel is not None
    (known, found), (counted, wanted) = tower._window(kernel, query), tower.counted_window(query)
    assert known == counted
    for name in ("item", "type", "gap", "segment"):
        assert np.array_equal(getattr(found, name), getattr(wanted, name)), name


def test_the_least_pause_of_each_bucket() -> None:
    for bucket, least in enumerate(PAUSES.tolist(), 2):
        assert gap_buckets(np.array([0, least - 1]))[1] == bucket - 1
        assert gap_buckets(np.array([0, least]))[1] == bucket


def test_many_scores_alike_and_a_large_catalogue() -> None:
    """50,000 rows of three scores: ties by row, through every step of the selection."""
    rng = np.random.default_rng(1)
    rows = 11 + 7 * np.arange(50_000, dtype=np.int32)
    starts = np.concatenate([[0], np.full(400_000, len(rows))])  # the list of item 0, and 399,999 items without one
    scores = rng.choice([0.25, 0.5, 1.0], len(rows)).astype(np.float32)
    lists, first = Neighbours(starts, rows, scores), np.zeros(1, np.int32)
    found, wanted = (each(first, np.ones(1)) for each in (lists.near, lists.counted_near))
    for k in (1, 17, 300, 20_000, 50_000):
        assert np.array_equal(found.top(k, NONE)[0], wanted.top(k, NONE)[0])
    assert np.array_equal(found.of(rows[:999]), wanted.of(rows[:999]))


def test_without_a_compiler(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    query, lists = some_query(5), some_lists(5, signed=False)
    wanted: tuple[Array, Array] = lists.near(*seeds(query, N, 10, 1.0)).top(9, NONE)
    load = native.load.__wrapped__
    monkeypatch.setattr(native, "load", lambda source: load(source, folder=tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    nobody = library.__wrapped__()
    assert nobody is None
    assert "gathered by numpy, several times slower: no C compiler" in caplog.text
    for module in (evidence, neighbours, candidates):
        monkeypatch.setattr(module, "library", lambda: nobody)
    plain = Neighbours(lists._starts, lists._items, lists._scores)
    assert isinstance(plain.near(*seeds(some_query(5), N, 10, 1.0)), FewItems)
    found = plain.near(*seeds(some_query(5), N, 10, 1.0)).top(9, NONE)
    assert np.array_equal(found[0], wanted[0])
    assert np.array_equal(found[1], wanted[1])
