"""Plackett-Luce: exact chances against a sum over all orders, and what is drawn against its chances."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.columns import Array
from serving.plackett_luce import chances, drawn, table, uniforms, worths

some_worths = st.lists(st.floats(0.01, 100), min_size=1, max_size=6).map(np.array)


def by_orders(worth: Array, places: int) -> Array:
    """The definition: every order of the first places, each with its probability."""
    found = np.zeros((len(worth), places))
    for order in itertools.permutations(range(len(worth)), places):
        probability = math.prod(worth[i] / (worth.sum() - sum(worth[list(order[:j])])) for j, i in enumerate(order))
        found[list(order), range(places)] += probability
    return found


def test_two_items_by_hand() -> None:
    # worth 2 and 1: the first is first with 2/3, and else last
    assert chances(np.array([2.0, 1.0]), 2) == pytest.approx(np.array([[2 / 3, 1 / 3], [1 / 3, 2 / 3]]), abs=1e-13)


def test_three_items_by_hand() -> None:
    # worth 3, 2, 1. Item 0 is second after item 1 (2/6 x 3/4) or after item 2 (1/6 x 3/5): 1/4 + 1/10
    assert chances(np.array([3.0, 2.0, 1.0]), 2)[0] == pytest.approx([1 / 2, 0.35], abs=1e-13)


@settings(deadline=None, max_examples=60)
@given(some_worths, st.data())
def test_chances_are_the_sum_over_all_orders(worth: Array, data: st.DataObject) -> None:
    places = data.draw(st.integers(1, len(worth)))
    assert chances(worth, places) == pytest.approx(by_orders(worth, places), abs=1e-11)


@pytest.mark.parametrize("steepness", [1, 3, 6])
def test_rare_chances_are_as_exact_as_frequent_ones(steepness: int) -> None:
    """Against fractions, relative to each: with steepness 6 the rarest of seven items' is 1e-15."""
    worth = [Fraction(1, place**steepness) for place in range(1, 8)]
    exact = [[Fraction(0)] * 5 for _ in worth]
    for order in itertools.permutations(range(7), 5):
        probability, left = Fraction(1), sum(worth)
        for i in order:
            probability, left = probability * worth[i] / left, left - worth[i]
        for place, i in enumerate(order):
            exact[i][place] += probability
    expected = np.array([[float(p) for p in row] for row in exact])
    assert chances(worths(7, float(steepness)), 5) == pytest.approx(expected, rel=1e-12, abs=0)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 60), st.integers(1, 20), st.floats(0, 4))
def test_every_place_is_somebodys_and_nobody_has_two(n: int, places: int, steepness: float) -> None:
    places = min(n, places)
    found = chances(worths(n, steepness), places)
    assert found.shape == (n, places)
    assert (found >= 0).all()
    assert found.sum(axis=0) == pytest.approx(np.ones(places), abs=1e-11)
    assert (found.sum(axis=1) <= 1 + 1e-11).all()
    if places == n:
        assert found.sum(axis=1) == pytest.approx(np.ones(n), abs=1e-11)


def test_equal_items_have_equal_chances() -> None:
    assert chances(worths(5, 0.0), 3) == pytest.approx(np.full((5, 3), 0.2), abs=1e-13)


def test_nothing_to_draw_from() -> None:
    assert chances(np.empty(0), 0).shape == (0, 0)
    assert table(4, 0, 1.0).shape == (4, 0)


@pytest.mark.parametrize("steepness", [0.5, 1.5, 3.0])
def test_what_is_drawn_has_its_chances(steepness: float) -> None:
    """Chi-square over 6,000 draws of 4 of 6 items: one statistic a place, 5 degrees of freedom, and every one below the 1 - 1e-5 quantile."""
    n, places, draws = 6, 4, 6_000
    worth, counts = worths(n, steepness), np.zeros((n, places))
    for seed in range(draws):
        counts[drawn(worth, uniforms(seed, n))[:places], range(places)] += 1
    expected = draws * table(n, places, steepness)
    statistic = ((counts - expected) ** 2 / expected).sum(axis=0)
    assert (statistic < 30.9).all(), statistic  # chi-square, 5 degrees of freedom: P(> 30.9) = 1e-5


def philox(key: int, counter: int) -> list[int]:
    """Philox-4x64-10 as published (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011): the four numbers of one counter."""
    mask = 2**64 - 1
    c, k = [counter, 0, 0, 0], [key, 0]
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(right >> 64) ^ c[1] ^ k[0], right & mask, (left >> 64) ^ c[3] ^ k[1], left & mask]
        k = [(k[0] + 0x9E3779B97F4A7C15) & mask, (k[1] + 0xBB67AE8584CAA73B) & mask]
    return c


def test_numbers_are_those_of_the_published_generator() -> None:
    # the first counter is 1; of each number the high 53 bits, in the middle of their cell
    assert uniforms(7, 4).tolist() == [((raw >> 11) + 0.5) * 2.0**-53 for raw in philox(7, 1)]


def test_a_draw_is_a_function_of_its_seed_alone() -> None:
    assert uniforms(7, 2).tolist() == uniforms(7, 5)[:2].tolist() != uniforms(8, 2).tolist()
    assert ((uniforms(1, 1000) > 0) & (uniforms(1, 1000) < 1)).all()
