from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import TimeConfig
from core.errors import InputError
from core.schema import DAY, HOUR
from data_prep.cuts import find_cuts, global_folds, has_synthetic_time, last_folds

TIME = TimeConfig(ranker=0.75, validation=0.85, test=0.9)


def cuts_of(times: list[int]) -> tuple[int, int, int]:
    cuts = find_cuts(np.array(times), min(times), max(times) + 1, TIME)
    return cuts.ranker, cuts.validation, cuts.test


def test_cuts_are_the_nearest_events() -> None:
    # 21 events at 0..20: places .75*20=15, .85*20=17, .9*20=18
    assert cuts_of(list(range(21))) == (15, 17, 18)


def test_colliding_quantiles_move_back_to_distinct_times() -> None:
    # 10 people with one event a day on days 1 to 5: places 36.75, 41.65 and 44.1 of 49 are days 4 (30 to 39), 5 and 5
    times = sorted([1, 2, 3, 4, 5] * 10)
    assert cuts_of(times) == (3, 4, 5)


def test_a_test_boundary_too_early_moves_on() -> None:
    # nearly everything at time 1: the quantiles are all 1, but three times must lie before the test window
    assert cuts_of([1] * 100 + [2, 3, 4]) == (2, 3, 4)


def test_a_log_too_short_says_so() -> None:
    with pytest.raises(InputError, match="fall on 3 distinct times, at least 4 are needed"):
        cuts_of([1, 1, 2, 3])


@given(st.lists(st.integers(0, 50), min_size=4, max_size=60).filter(lambda t: len(set(t)) >= 4))
def test_cuts_are_event_times_and_every_window_holds_an_event(times: list[int]) -> None:
    ranker, validation, test = cuts_of(times)
    assert min(times) < ranker < validation < test <= max(times)
    assert {ranker, validation, test} <= set(times)


@given(st.lists(st.integers(0, 10**6), min_size=50, max_size=200, unique=True))
def test_the_test_cut_is_pandas_nearest_quantile(times: list[int]) -> None:
    assert cuts_of(times)[2] == pd.Series(times).quantile(0.9, interpolation="nearest")


@given(st.lists(st.integers(0, 50), min_size=4, max_size=60).filter(lambda t: len(set(t)) >= 4))
def test_global_folds_are_half_open_windows(times: list[int]) -> None:
    cuts = find_cuts(np.array(times), min(times), max(times) + 1, TIME)
    for time, fold in zip(times, global_folds(np.array(times), cuts), strict=True):
        low = (cuts.start, cuts.ranker, cuts.validation, cuts.test)[fold]
        high = (cuts.ranker, cuts.validation, cuts.test, cuts.end)[fold]
        assert low <= time < high


def test_last_folds_by_hand() -> None:
    # user 0: purchases p at places 1 3 4 6, views v at 0 2 5 7. p folds: 0 0 1 2.
    #   v0 goes with p1 (0), v2 with p3 (0), v5 with p6 (2), v7 has none after it: with p6 (2)
    # user 1: two purchases are too few. user 2: three purchases, but a visitor.
    users = np.array([0] * 8 + [1] * 2 + [2] * 3)
    gains = np.array([0, 1, 0, 1, 1, 0, 1, 0, 1, 1, 1, 1, 1], np.float32)
    cut = users != 2
    assert last_folds(users, gains, cut).tolist() == [0, 0, 0, 0, 1, 2, 2, 2, 0, 0, 0, 0, 0]


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=60))
def test_last_folds_hold_one_success_of_each_long_sequence(rows: list[tuple[int, bool]]) -> None:
    users = np.array(sorted(u for u, _ in rows), np.int32)
    gains = np.array([g for _, g in rows], np.float32)
    folds = last_folds(users, gains, np.ones(len(rows), bool))
    for u in range(5):
        own = folds[users == u]
        labels = own[gains[users == u] > 0]
        assert np.all(np.diff(own) >= 0)
        assert labels.tolist()[-2:] == ([1, 2] if len(labels) >= 3 else [0] * len(labels))


def test_one_event_a_day_at_one_hour_is_a_synthetic_clock() -> None:
    users = np.repeat(np.arange(50), 4)
    days = np.tile(np.arange(4), 50) * DAY + 7 * HOUR
    assert has_synthetic_time(users, days)
    assert not has_synthetic_time(users, days + np.arange(200) * HOUR)  # another hour for each event
    assert not has_synthetic_time(users, np.tile([0, 1, 3, 7], 50) * DAY)  # dates without a clock, but real gaps
    assert not has_synthetic_time(np.arange(3), np.zeros(3, np.int64))  # nothing to tell from
