import numpy as np
import pytest

from evaluation.relevance import Relevance
from tests.evaluation.cases import relevance


def test_pairs_in_any_order_become_sorted_rows_with_the_greatest_gain() -> None:
    r = Relevance.of(np.array([1, 0, 1, 0]), np.array([5, 9, 5, 2]), np.array([0.4, 1.0, 0.7, 0.1]), 2)
    assert r.starts.tolist() == [0, 2, 3]
    assert r.items.tolist() == [2, 9, 5]
    assert r.gains.tolist() == pytest.approx([0.1, 1.0, 0.7])
    assert r.queries.tolist() == [0, 0, 1]
    assert [str(a.dtype) for a in (r.starts, r.items, r.gains)] == ["int64", "int32", "float32"]


def test_only_renumbers_the_queries_that_still_want_something() -> None:
    r, queries = relevance({1: 1.0}, {2: 1.0, 3: 0.5}, {4: 1.0}).only(np.array([False, False, True, True]))
    assert queries.tolist() == [1, 2]
    assert r.starts.tolist() == [0, 1, 2]
    assert r.items.tolist() == [3, 4]


def test_nothing_may_remain() -> None:
    r, queries = relevance({1: 1.0}).only(np.array([False]))
    assert (len(r), len(queries), r.starts.tolist()) == (0, 0, [0])


@pytest.mark.parametrize(
    ("starts", "items", "gains", "message"),
    [
        ([0, 1], [3, 4], [1, 1], "starts must run from 0 to the number of pairs, 2"),
        ([0, 1, 1], [3], [1], "query 1 has no relevant item"),
        ([0, 1], [3], [1, 1], "1 relevant items, but 2 gains"),
        ([0, 1], [3], [0], "positive and finite"),
        ([0, 1], [3], [np.nan], "positive and finite"),
        ([0, 1], [3], [np.inf], "positive and finite"),
        ([0, 2], [3, 3], [1, 1], "distinct rows in ascending order"),
        ([0, 2], [4, 3], [1, 1], "distinct rows in ascending order"),
        ([0, 1], [-1], [1], "distinct rows in ascending order"),
    ],
)
def test_what_metrics_could_not_stand_is_refused(
    starts: list[int], items: list[int], gains: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Relevance(np.array(starts), np.array(items, np.int32), np.array(gains, np.float32))
