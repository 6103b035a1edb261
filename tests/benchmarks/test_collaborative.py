"""EASE and ALS on cases that a reader can do by hand."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.collaborative import MOST_ITEMS, Als, als, ease, ease_weights, gram, ranked
from core.errors import InputError

# who chose what of three items: two people both a and b, one b and c
CHOSEN = sp.csr_matrix(np.array([[1, 1, 0], [1, 1, 0], [0, 1, 1]], np.float32))
NONE = np.empty(0, np.int32)


def test_the_gram_matrix_counts_people_with_both() -> None:
    assert gram(CHOSEN).tolist() == [[2, 2, 0], [2, 3, 1], [0, 1, 1]]


def test_a_catalogue_too_large_for_a_dense_matrix_is_refused() -> None:
    with pytest.raises(InputError, match="expected at most 20,000"):
        gram(sp.csr_matrix((1, MOST_ITEMS + 1), dtype=np.float32))


def test_ease_of_two_items_by_hand() -> None:
    # G + 1 I = [[2, 1], [1, 2]] for two people, one with both items and ... one of each: G = [[1, 1], [1, 1]]
    # its inverse is [[2, -1], [-1, 2]] / 3, so B = 1/3 / (2/3) = 1/2 off the diagonal
    np.testing.assert_allclose(ease_weights(np.ones((2, 2), np.float32), 1.0), [[0, 0.5], [0.5, 0]], atol=1e-6)


def test_ease_of_three_items_is_that_of_numpys_inverse() -> None:
    together = gram(CHOSEN)
    inverse = np.linalg.inv(together.astype(np.float64) + 2 * np.eye(3))
    expected = -inverse / np.diag(inverse)  # column j over P_jj
    np.fill_diagonal(expected, 0)
    weights = ease_weights(together, 2.0)
    np.testing.assert_allclose(weights, expected, atol=1e-6)
    assert together.tolist() == [[2, 2, 0], [2, 3, 1], [0, 1, 1]]  # as it was
    # who has a and c is scored by their rows
    asked = sp.csr_matrix(np.array([[1, 0, 1]], np.float32))
    np.testing.assert_allclose(ease(asked, weights)(np.array([0]))[0], expected[0] + expected[2], atol=1e-6)


@given(st.integers(0, 1000), st.floats(1, 1000))
def test_ease_is_that_of_numpys_inverse_on_any_matrix(seed: int, penalty: float) -> None:
    chosen = (np.random.default_rng(seed).random((12, 7)) < 0.4).astype(np.float32)
    inverse = np.linalg.inv(chosen.T.astype(np.float64) @ chosen + penalty * np.eye(7))
    expected = -inverse / np.diag(inverse)
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(ease_weights(gram(sp.csr_matrix(chosen)), penalty), expected, atol=2e-5)


def test_als_gives_a_person_the_items_of_people_alike() -> None:
    # two tastes, items 0 to 3 and 4 to 7; each person has three of the four items of one taste
    rows = [[t * 4 + i for i in range(4) if i != left] for t in range(2) for left in range(4) for _ in range(5)]
    chosen = sp.lil_matrix((len(rows), 8), dtype=np.float32)
    for person, items in enumerate(rows):
        chosen[person, items] = 1
    scores = als(chosen.tocsr(), Als(2, 0.01, 1.0), seed=1)
    first = ranked(scores, np.arange(len(rows)), np.arange(8), [np.array(r) for r in rows], 1)
    missing = [t * 4 + left for t in range(2) for left in range(4) for _ in range(5)]
    assert [int(a[0]) for a in first] == missing


def test_ranking_leaves_out_what_is_excluded_and_breaks_ties_by_row() -> None:
    fitted = np.array([2, 5, 7, 9])  # catalogue rows of four fitted items
    table = np.array([[1, 3, 3, 2], [1, 3, 3, 2]], np.float32)
    answers = ranked(lambda people: table[people], np.array([0, 1]), fitted, [NONE, np.array([5, 6])], 3)
    assert [a.tolist() for a in answers] == [[5, 7, 9], [7, 9, 2]]


def test_ranking_is_short_where_nothing_is_left() -> None:
    answers = ranked(
        lambda people: np.ones((len(people), 2), np.float32), np.array([0]), np.array([3, 4]), [np.array([3])], 5
    )
    assert [a.tolist() for a in answers] == [[4]]
