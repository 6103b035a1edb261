"""Labels in worth instead of gain, by hand; and a ranker that sells for more because of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.config import ObjectiveConfig, RankerConfig, load_pipeline
from ranking.feature_list import NAMES
from ranking.objective import grades_of, rewarded, worth_at_10
from ranking.train import GRADES, TrainingSet, grow, ndcg

SIGNAL, PRICE = NAMES.index("item_knn.score"), NAMES.index("item.price")


def objective(share: float, cap: float = 4.0) -> ObjectiveConfig:
    return ObjectiveConfig(worth="price", share=share, cap=cap)


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, [0, 20, 20, 20, 10, 1]),
        # worths 1, .5, 9 -> 4, 2, 0 over 4: 20 / 4, ceil(20 / 8), 20, 10 / 2, and 1 for what is worth nothing
        (1.0, [0, 5, 3, 20, 5, 1]),
        # (1/2 + v/2) / 2.5: .4, .3, 1, .6, .2 of 20, 20, 20, 10, 1
        (0.5, [0, 8, 6, 20, 6, 1]),
    ],
)
def test_grades_by_hand(share: float, expected: list[int]) -> None:
    grades = np.array([0, 20, 20, 20, 10, 1], np.int8)
    worths = np.array([7, 1, 0.5, 9, 2, 0], np.float32)
    found = grades_of(grades, worths, objective(share))
    assert found.tolist() == expected
    assert found.dtype == np.int8


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, GRADES), st.floats(0, 1e6, width=32)), min_size=2, max_size=20),
    st.floats(0, 1),
    st.floats(1, 50),
)
def test_grades_stay_grades_and_never_fall_with_worth(rows: list[tuple[int, float]], share: float, cap: float) -> None:
    grades, worths = np.array([g for g, _ in rows], np.int8), np.array([w for _, w in rows], np.float32)
    found = grades_of(grades, worths, objective(share, cap))
    assert ((found > 0) == (grades > 0)).all()
    assert found.max(initial=0) <= GRADES
    order = np.lexsort((worths, grades))
    same = np.diff(grades[order]) == 0
    assert (np.diff(found[order].astype(int))[same] >= 0).all()


def dear_and_cheap(requests: int, seed: int, size: int = 20) -> TrainingSet:
    """Of each request's candidates one is bought for its `item_knn.score`, and one for being dear, four times the median; the others cost the half of it."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((requests, size, len(NAMES)), np.float32)
    rows[:, :, SIGNAL] = rng.random((requests, size))
    dear = rng.random((requests, size)) < 0.2
    rows[:, :, PRICE] = np.where(dear, 4.0, 0.5)
    chance = rows[:, :, SIGNAL] - 0.15 * dear + 0.1 * rng.random((requests, size))
    grades = np.zeros((requests, size), np.int8)
    every = np.arange(requests)
    grades[every, np.where(dear, -1.0, chance).argmax(1)] = GRADES
    grades[every, np.where(dear, chance, -1.0).argmax(1)] = GRADES // 2
    best = np.sort(grades, 1)[:, ::-1]
    ideals = (best / np.log2(np.arange(size) + 2.0)).sum(1)
    sizes = np.full(requests, size, np.int32)
    return TrainingSet(rows.reshape(-1, len(NAMES)), grades.ravel(), sizes, ideals, 0, worths=rows[:, :, PRICE].ravel())


def test_a_ranker_of_revenue_sells_for_more() -> None:
    """NDCG in worths rises where it learns from them, and NDCG in gains is what it costs."""
    learn, fresh = dear_and_cheap(300, 1), dear_and_cheap(150, 2)
    config: RankerConfig = load_pipeline().ranker.model_copy(update={"rows_per_leaf": 10})
    scores = {
        share: grow([rewarded(learn, objective(share))], 40, config).booster.predict(fresh.matrix)
        for share in (0.0, 1.0)
    }
    in_worths = rewarded(fresh, objective(1.0))
    assert ndcg(in_worths, scores[1.0]) > 1.1 * ndcg(in_worths, scores[0.0])
    assert ndcg(fresh, scores[1.0]) < ndcg(fresh, scores[0.0])


def test_gains_alone_are_the_very_same_rows() -> None:
    rows = dear_and_cheap(5, 3)
    assert rewarded(rows, objective(0.0)) is rows
    unknown = replace(rows, worths=None)
    assert rewarded(unknown, objective(1.0)) is unknown
    assert worth_at_10(unknown, np.zeros(100)) is None


def test_what_ten_are_worth_by_hand() -> None:
    """Twelve candidates ranked as they come: the first sold at 3 medians, the second at half a gain and 2 medians, the twelfth is below the ten.
    (3 + 1/2 * 2) over this request and one that was dropped."""
    rows = TrainingSet(
        matrix=np.zeros((12, len(NAMES)), np.float32),
        grades=np.array([20, 10, *[0] * 9, 20], np.int8),
        sizes=np.array([12], np.int32),
        ideals=np.ones(1),
        dropped=1,
        worths=np.array([3, 2, *[5] * 9, 9], np.float32),
    )
    assert worth_at_10(rows, -np.arange(12.0)) == pytest.approx(2.0)


def test_worths_stay_with_their_rows() -> None:
    rows = dear_and_cheap(10, 4)
    few = rows.thinned(3, 1)
    assert few.worths is not None
    assert np.array_equal(few.worths, few.matrix[:, PRICE])
    joined = TrainingSet.concatenate([rows, replace(rows, worths=None)]).worths
    assert joined is not None
    assert joined[200:].tolist() == [1.0] * 200
