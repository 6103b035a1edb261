from math import log2

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.ids import NO_ROW
from evaluation import exposure
from tests.evaluation.cases import answers


def test_shown_cuts_and_empties_repetitions_keeping_first_places() -> None:
    items = exposure.shown(answers([3, 1, 3, 2], [5, 5], [2, 1, 1, 1]), 3)
    assert items.tolist() == [[3, 1, NO_ROW], [5, NO_ROW, NO_ROW], [2, 1, NO_ROW]]


def test_counts_and_coverage_by_hand() -> None:
    shows = exposure.counts(answers([0, 1], [1], []), 4)
    assert shows.tolist() == [1, 2, 0, 0]
    assert exposure.coverage(shows) == 2 / 4


@pytest.mark.parametrize(
    ("shows", "expected"),
    [
        ([3, 3, 3], 0),  # all alike
        ([0, 0, 9], 1),  # one takes all
        ([1, 3], 1 / 2),  # (2*1-2-1) * 1/4 + (2*2-2-1) * 3/4 = -1/4 + 3/4, divided by 2 - 1
        ([2, 1, 0], 2 / 3),  # ascending 0, 1/3, 2/3: -2*0 + 0*1/3 + 2*2/3 = 4/3, divided by 3 - 1
        ([0, 0], 0),  # nothing shown
        ([5], 0),  # one item cannot be unequal
        ([], 0),
    ],
)
def test_gini_by_hand(shows: list[int], expected: float) -> None:
    assert exposure.gini(np.array(shows, np.int64)) == pytest.approx(expected)


@given(st.lists(st.integers(0, 1000), max_size=20))
def test_gini_is_in_0_to_1_and_blind_to_order_and_scale(shows: list[int]) -> None:
    counts = np.array(shows, np.int64)
    value = exposure.gini(counts)
    assert 0 <= value <= 1 + 1e-12
    assert exposure.gini(counts[::-1]) == pytest.approx(value)
    assert exposure.gini(3 * counts) == pytest.approx(value)


def test_self_information_by_hand() -> None:
    # 7 people: (7 + 1) / (7 + 1) = 1 -> 0 bits; (7 + 1) / (1 + 1) = 4 -> 2 bits; (7 + 1) / (0 + 1) = 8 -> 3 bits
    assert exposure.self_information(np.array([7, 1, 0]), 7).tolist() == [0, 2, 3]


def test_percentiles_share_the_middle_of_equal_ranks() -> None:
    # ascending 0, 2, 2, 9: ranges of rank [0,1), [1,3), [1,3), [3,4) of 4; middles 1/8, 4/8, 4/8, 7/8
    assert exposure.percentiles(np.array([2, 9, 0, 2])).tolist() == [4 / 8, 7 / 8, 1 / 8, 4 / 8]
    assert exposure.percentiles(np.array([])).tolist() == []


def test_mean_of_shown_leaves_out_pads_and_empty_answers() -> None:
    means = exposure.mean_of_shown(answers([0, 2], [1], []), np.array([1.0, 5.0, log2(8)]))
    assert means[:2].tolist() == [2, 5]
    assert np.isnan(means[2])
    assert np.isnan(exposure.mean_of_shown(answers([]), np.empty(0))).all()
