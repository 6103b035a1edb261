"""Nothing that is true of a moment may depend on what came after it; two planted leaks show that this would be noticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.history import Histories, History
from core.schema import DAY, HOUR
from tests.data_prep.as_of import (
    Facts,
    Log,
    assert_as_of,
    histories,
    history_of,
    item_day_snapshot,
    pairs_snapshot,
    some_log,
)

moments = st.integers(5 * DAY, 38 * DAY)
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, moment=moments)
def test_item_days_before_a_day_never_change(seed: int, moment: int) -> None:
    assert_as_of(item_day_snapshot, some_log(np.random.default_rng(seed)), moment)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, moment=moments)
def test_pairs_below_a_cut_never_change_though_only_the_strongest_are_kept(seed: int, moment: int) -> None:
    assert_as_of(pairs_snapshot, some_log(np.random.default_rng(seed)), moment)


@settings(max_examples=20, deadline=None)
@given(seed=seeds, moment=moments)
def test_histories_end_before_the_moment(seed: int, moment: int) -> None:
    assert_as_of(history_of(histories), some_log(np.random.default_rng(seed)), moment)


def test_a_statistic_that_peeks_one_hour_ahead_is_caught() -> None:
    def popularity(log: Log, moment: int) -> Facts:
        seen = log.time < moment + HOUR
        return {(int(i),): float(n) for i, n in enumerate(np.bincount(log.item[seen]))}

    # one event half an hour after the moment: seen by the leak, unknown to an honest count
    log = Log(*(np.array(a) for a in ([0, 0], [1, 2], [9 * DAY, 10 * DAY + HOUR // 2], [7, 7])))
    with pytest.raises(
        AssertionError, match=r"a leak: as of .* 1 values depend on later events; \(2,\) is 1.0, but None without"
    ):
        assert_as_of(popularity, log, 10 * DAY)


def test_a_history_that_includes_its_target_is_caught() -> None:
    class Leaking(Histories):
        def before(self, user: int, time: int | None = None) -> History:
            return super().before(user, None if time is None else time + 1)

    def leaking(log: Log) -> Histories:
        honest = histories(log)
        honest.__class__ = Leaking
        return honest

    log = Log(*(np.array(a) for a in ([0, 0], [1, 2], [9 * DAY, 10 * DAY], [7, 7])))
    with pytest.raises(AssertionError, match="a leak"):
        assert_as_of(history_of(leaking), log, 10 * DAY)  # the event at the moment itself is the target
    assert_as_of(history_of(histories), log, 10 * DAY)
