"""Each source on a case that a reader can do by hand, and item kNN against plain numpy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from core.columns import Coded, Tags, Texts
from core.config import load_pipeline
from core.history import History, Query
from core.prepared import FULL, TWIN, Prepared
from core.schema import DAY, Column, EventType
from retrieval.attributes import attribute_matrix
from retrieval.cosine import person_item_matrix
from retrieval.known import Known
from retrieval.sources.content import Content
from retrieval.sources.covisitation import Covisitation
from retrieval.sources.evidence import seeds
from retrieval.sources.item_knn import ItemKnn
from retrieval.sources.opinion import summed
from retrieval.sources.own_frequency import OwnFrequency
from retrieval.sources.popularity import Popularity
from retrieval.sources.recent_popularity import RecentPopularity
from retrieval.sources.transitions import Transitions
from tests.prepared_fixture import Row, make_prepared
from tests.retrieval.laws import NONE, PURCHASE, bought, shop_rows

A, B, C, D = range(4)
PURCHASED, RETURNED = EventType.PURCHASE_COMPLETE.code, EventType.RETURN.code


def known(prepared: Prepared) -> Known:
    return Known(prepared, FULL, load_pipeline().sources)


def shop(tmp_path: Path, *rows: tuple[str, str, int], **more: object) -> Known:
    """Purchases: (person, item, time)."""
    full: list[Row] = [(f"u:{u}", i, PURCHASE, t) for u, i, t in rows]
    end = max(t for _, _, t in rows) + 1
    return known(make_prepared(tmp_path, full, cuts=(0, end, end, end, end), pairs=True, **more))  # type: ignore[arg-type]


def test_popularity_counts_people_not_purchases(tmp_path: Path) -> None:
    # a: ann three times -> 1 person; b: ann and bob -> 2; c: bob -> 1. a and c tie: a has the smaller row.
    k = shop(
        tmp_path, ("ann", "a", 1), ("ann", "a", 2), ("ann", "a", 3), ("ann", "b", 4), ("bob", "b", 5), ("bob", "c", 6)
    )
    rows, scores = Popularity.fit(k).scoring(Query(9)).top(5, NONE)
    assert rows.tolist() == [B, A, C]
    assert scores.tolist() == [2, 1, 1]


def test_popularity_takes_the_strongest_gain_of_a_person(tmp_path: Path) -> None:
    # ann: view .1 then purchase 1 of a -> 1; bob: two views of b -> .1
    view = EventType.DETAIL_PAGE_VIEW.value
    rows: list[Row] = [
        ("u:ann", "a", view, 1, 0.1),
        ("u:ann", "a", PURCHASE, 2),
        ("u:bob", "b", view, 3, 0.1),
        ("u:bob", "b", view, 4, 0.1),
    ]
    prepared = make_prepared(tmp_path, rows, cuts=(0, 9, 9, 9, 9))
    assert Popularity.fit(known(prepared)).scoring(Query(9)).of(np.array([A, B], np.int32)).tolist() == pytest.approx(
        [1, 0.1]
    )


def test_recent_popularity_is_the_last_seven_days_before_the_cut(tmp_path: Path) -> None:
    # the cut is a microsecond after day 10, so the window opens a microsecond after day 3: a, sold on day 3, is out
    k = shop(tmp_path, ("ann", "a", 3 * DAY), ("ann", "b", 4 * DAY), ("bob", "c", 10 * DAY), ("bob", "c", 10 * DAY))
    rows, scores = RecentPopularity.fit(k).scoring(Query(11 * DAY)).top(5, NONE)
    assert rows.tolist() == [C, B]
    assert scores.tolist() == [2, 1]


def test_recent_popularity_takes_all_of_an_invented_clock(tmp_path: Path) -> None:
    k = shop(tmp_path, ("ann", "a", DAY), ("bob", "b", 10 * DAY), synthetic_time=True)
    assert RecentPopularity.fit(k).scoring(Query(11 * DAY)).top(5, NONE)[0].tolist() == [A, B]


def own(popularity: list[float], items: list[int], times: list[int], types: list[int] | None = None) -> list[int]:
    n = len(items)
    kinds = np.array(types or [PURCHASED] * n, np.int8)
    gains = np.where(kinds == RETURNED, 0, 1).astype(np.float32)
    history = History(np.array(items, np.int32), np.array(times), kinds, gains)
    source = OwnFrequency(np.array(popularity, np.float32))
    return list(source.scoring(Query(10**6, 0, history)).top(9, NONE)[0].tolist())


def test_own_frequency_by_count_then_newest_then_popularity_then_row() -> None:
    # a once at 9, b twice, c once at 5, d once at 5: b; then a (newer); c and d tie on count and time
    assert own([1, 1, 1, 2], [B, B, C, D, A], [1, 2, 5, 5, 9]) == [B, A, D, C]  # d is more popular than c
    assert own([1, 1, 1, 1], [B, B, C, D, A], [1, 2, 5, 5, 9]) == [B, A, C, D]  # equally popular: the smaller row


def test_own_frequency_of_small_gains_keeps_its_order() -> None:
    # a viewed 3 times (.3), b 2 times (.2) but later: the tie-break adds less than half a view, .05
    history = History(
        np.array([A, A, A, B, B], np.int32),
        np.arange(5),
        np.full(5, EventType.DETAIL_PAGE_VIEW.code, np.int8),
        np.full(5, 0.1, np.float32),
    )
    rows, scores = OwnFrequency(np.ones(2, np.float32)).scoring(Query(9, 0, history)).top(2, NONE)
    assert rows.tolist() == [A, B]
    assert scores.tolist() == pytest.approx([0.3, 0.2 + 0.5 * 0.05])


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ([PURCHASED, PURCHASED, RETURNED], [A, B]),  # one of two is left, newer than b
        ([PURCHASED, RETURNED, PURCHASED], [A, B]),  # taken back, bought again
        ([RETURNED, PURCHASED, PURCHASED], [A, B]),  # of something older than the history: takes nothing back
        ([PURCHASED, RETURNED, RETURNED], [B]),  # nothing left
    ],
)
def test_own_frequency_nets_returns_out_from_their_own_time_on(types: list[int], expected: list[int]) -> None:
    # a at 2, 3, 4 as given; b bought once at 1
    assert own([1, 1], [B, A, A, A], [1, 2, 3, 4], [PURCHASED, *types]) == expected


def test_item_knn(tmp_path: Path) -> None:
    # ann a b, bob a b, cid a c, dan c d. Counts: a 3, b 2, c 2, d 1; together: ab 2, ac 1, cd 1.
    # cos(a, b) = 2 / sqrt(3 * 2) = .8165; cos(a, c) = 1 / sqrt(3 * 2) = .4082; cos(c, d) = 1 / sqrt(2 * 1) = .7071
    k = shop(tmp_path, *((u, i, n) for n, (u, i) in enumerate([*zip("aabbccdd", "ababaccd", strict=True)])))
    source = ItemKnn.fit(k)
    assert source.scoring(bought(A)).top(5, NONE)[0].tolist() == [B, C]
    np.testing.assert_allclose(source.scoring(bought(A)).top(5, NONE)[1], [0.8165, 0.4082], atol=1e-4)
    # from c twice and a: b .8165 (of a), a .4082 (of c), c .4082 (of a), d .7071 (of c); what is bought twice counts once
    rows, scores = source.scoring(bought(C, A, C)).top(5, NONE)
    assert rows.tolist() == [B, D, A, C]
    np.testing.assert_allclose(scores, [0.8165, 0.7071, 0.4082, 0.4082], atol=1e-4)
    # the page counts like the history
    page = replace(bought(A), context=np.array([C], np.int32))
    np.testing.assert_array_equal(source.scoring(page).top(5, NONE)[0], rows)


def test_item_knn_is_the_plain_cosine(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path, shop_rows(), cuts=(0, 600, 700, 800, 1000))
    k = Known(prepared, TWIN, load_pipeline().sources)
    dense = person_item_matrix(k.interactions).toarray().astype(np.float64)
    lengths = np.sqrt((dense**2).sum(0))
    cosine = dense.T @ dense / np.outer(lengths, lengths)
    np.fill_diagonal(cosine, 0)
    source = ItemKnn.fit(k)
    for user in range(25):
        history = prepared.histories().before(user, 800)
        mine = np.zeros(len(cosine))
        mine[history.items[history.gains > 0]] = 1
        np.testing.assert_allclose(
            source.scoring(Query(800, user, history)).of(np.arange(30, dtype=np.int32)), mine @ cosine, rtol=1e-5
        )


def test_item_knn_keeps_the_nearest(tmp_path: Path) -> None:
    k = shop(tmp_path, *((u, i, n) for n, (u, i) in enumerate([*zip("aabbccdd", "ababaccd", strict=True)])))
    few = replace(k, config=k.config.model_copy(update={"neighbours": 1}))
    assert ItemKnn.fit(few).scoring(bought(A)).top(5, NONE)[0].tolist() == [B, C]  # a small catalogue keeps all
    assert Content.fit(few).scoring(bought(A)).top(5, NONE)[0].tolist() == []  # nothing is known of the items


def test_transitions(tmp_path: Path) -> None:
    # ann: a b c, so (one place apart 1, two places 1/2): a->b 1, a->c 1/2, b->c 1. bob: a c: a->c 1.
    # From a: b 1, c 1.5, total 2.5: c 1.5 / sqrt(2.5) = .9487, b 1 / sqrt(2.5) = .6325
    k = shop(tmp_path, ("ann", "a", 1), ("ann", "b", 2), ("ann", "c", 3), ("bob", "a", 4), ("bob", "c", 5))
    source = Transitions.fit(k)
    rows, scores = source.scoring(bought(A)).top(5, NONE)
    assert rows.tolist() == [C, B]
    np.testing.assert_allclose(scores, [0.9487, 0.6325], atol=1e-4)
    # from a, then b: b is newest and weighs 1 (b->c: 1 / sqrt(1)), a weighs 1/2: c 1 + .4743, b .3162
    np.testing.assert_allclose(source.scoring(bought(A, B)).top(5, NONE)[1], [1.4743, 0.3162], atol=1e-4)
    # nothing follows c
    assert len(source.scoring(bought(C)).top(5, NONE)[0]) == 0


def test_covisitation_has_no_direction(tmp_path: Path) -> None:
    k = shop(tmp_path, ("ann", "a", 1), ("ann", "b", 2), ("bob", "b", 3), ("bob", "c", 4))
    source = Covisitation.fit(k)
    assert source.scoring(bought(A)).top(5, NONE)[0].tolist() == [B]
    assert source.scoring(bought(C)).top(5, NONE)[0].tolist() == [B]
    assert source.scoring(bought(B)).top(5, NONE)[0].tolist() == [A, C]  # equal: by row


def test_content_finds_items_that_nobody_chose(tmp_path: Path) -> None:
    # Of 4 items: red 2 (a, b), tea 2 (a, d), "cup" 2 (b, d), each ln(4 / 2) = .693; c shares nothing with anybody.
    # a: red tea; b: red cup; d: tea cup: each pair shares one of two, cosine 1/2. d has no event.
    columns = {
        "attribute.colour": Tags.of([["red"], ["red"], ["blue"], []]),
        Column.CATEGORY: Coded.of(["tea", None, "oil", "tea"]),
        Column.TITLE: Texts.of(["", "a Cup", "", "cup, CUP"]),
    }
    k = shop(tmp_path, ("ann", "a", 1), ("ann", "b", 2), ("ann", "c", 3), titles={"d": ""}, columns=columns)
    rows, scores = Content.fit(k).scoring(bought(A)).top(5, NONE)
    assert rows.tolist() == [B, D]
    np.testing.assert_allclose(scores, [0.5, 0.5], rtol=1e-6)
    assert len(Content.fit(k).scoring(bought(C)).top(5, NONE)[0]) == 0
    # before the refit on everything, an item without events and without a creation time does not exist yet
    early = Content.fit(Known(k.prepared, TWIN, k.config))
    assert early.scoring(bought(A)).top(5, NONE)[0].tolist() == [B]


def test_content_compares_every_level_of_a_category(tmp_path: Path) -> None:
    # "x > y" is "x" and "x > y". x: 3 of 4 items, x > y: 2 of 4; the lonely z: nobody else's
    columns = {Column.CATEGORY: Coded.of(["x > y", "x > y", "x > w", "z"])}
    k = shop(tmp_path, ("ann", "a", 1), ("ann", "b", 2), ("ann", "c", 3), ("ann", "d", 4), columns=columns)
    matrix = attribute_matrix(k.prepared.items, np.ones(4, bool)).toarray()
    np.testing.assert_allclose(matrix, np.log(np.array([[4 / 3, 4 / 3, 4 / 3, 1], [2, 2, 1, 1]])), rtol=1e-6)
    assert Content.fit(k).scoring(bought(A)).top(5, NONE)[0].tolist() == [B, C]


def test_seeds_page_first_then_moments() -> None:
    # bought a at 1, b and c together at 2, a again at 3
    h = History(
        np.array([A, B, C, A], np.int32), np.array([1, 2, 2, 3]), np.full(4, PURCHASED, np.int8), np.ones(4, np.float32)
    )
    items, weights = seeds(Query(9, 0, h), 4, 10, 1.0)
    assert dict(zip(items.tolist(), weights.tolist(), strict=True)) == {A: 1.0, B: 0.5, C: 0.5}
    items, weights = seeds(Query(9, 0, h, np.array([D, B], np.int32)), 4, 1, 1.0)  # the page, and the newest one
    assert dict(zip(items.tolist(), weights.tolist(), strict=True)) == {D: 1.0, B: 1.0, A: 0.5}
    assert seeds(Query(9, 0, h), 4, 10, 0.0)[1].tolist() == [1, 1, 1]


def test_counting_and_sorting_add_up_the_same() -> None:
    rng = np.random.default_rng(5)
    rows, values = rng.integers(0, 50, 300).astype(np.int32), rng.integers(1, 9, 300).astype(np.float64)
    few, many = summed(rows, values, 50), summed(rows, values, 10**6)
    for a, b in zip(few.top(99, NONE), many.top(99, NONE), strict=True):
        np.testing.assert_array_equal(a, b)
