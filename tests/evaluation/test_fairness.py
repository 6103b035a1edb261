"""Attention of groups and diversity of pages, by hand; both are shares."""

from __future__ import annotations

from math import log2, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.columns import Coded
from core.ids import NO_ROW
from evaluation.fairness import differing, exposure, wanted
from evaluation.item_groups import NONE, OTHER, Grouping, top_values

KINDS = Grouping("kind", ("a", "b"), np.array([0, 0, 1]))
PAGES = np.array([[0, 2], [2, NO_ROW], [NO_ROW, NO_ROW]], np.int32)


def test_attention_falls_with_the_place_and_each_page_gives_one() -> None:
    # places weigh 1 and 1 / log2(3), of 1 + 1 / log2(3) in all
    first = 1 / (1 + 1 / log2(3))
    assert exposure(PAGES, KINDS) == pytest.approx(np.array([[first, 1 - first], [0, 1], [0, 0]]))


def test_what_is_wanted_is_counted_by_person() -> None:
    # the first wants items 0, 1 and 2: two of three are a; the second wants item 2
    assert wanted(np.array([0, 1, 2, 2]), np.array([0, 0, 0, 1]), KINDS, 2) == pytest.approx(
        np.array([[2 / 3, 1 / 3], [0, 1]])
    )


def test_diversity_is_the_share_of_unlike_pairs() -> None:
    # of the pairs of a, a and b two of three differ; one item makes no pair
    pages = np.array([[0, 1, 2], [2, NO_ROW, NO_ROW]], np.int32)
    assert differing(pages, KINDS.codes) == pytest.approx([2 / 3, nan], nan_ok=True)


@given(st.lists(st.permutations(range(6)), min_size=1, max_size=5), st.integers(1, 6))
def test_attention_adds_up_whatever_the_pages(orders: list[list[int]], k: int) -> None:
    kinds = Grouping("kind", ("a", "b", "c"), np.array([0, 1, 2, 0, 1, 2]))
    given_out = exposure(np.array(orders, np.int32)[:, :k], kinds)
    assert given_out.sum(1) == pytest.approx(1)
    assert (given_out >= 0).all()


def test_groups_of_a_column_are_its_most_frequent_first_levels() -> None:
    column = Coded.of(["A > x", "A > y", "B", None, *(f"c{i}" for i in range(10))])
    groups = top_values("category", column)
    assert groups is not None
    # A twice, then B and c0 to c7 by name: ten with a name; c8 and c9 are others
    assert groups.labels == ("A", "B", *(f"c{i}" for i in range(8)), OTHER, NONE)
    assert [groups.labels[c] for c in groups.codes] == (
        ["A", "A", "B", NONE, *(f"c{i}" for i in range(8)), OTHER, OTHER]
    )
    assert top_values("category", Coded.of([None, ""])) is None
