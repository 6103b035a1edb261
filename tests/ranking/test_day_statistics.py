"""Sums as of a day, against a sum over the entries written out."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ranking.day_statistics import DaySeries, changes, daily

entry = st.tuples(st.integers(0, 4), st.integers(-400, 400), st.integers(-3, 5))


def series(entries: list[tuple[int, int, int]], half_life: float = 7.0) -> DaySeries:
    table = np.array(entries, np.int64).reshape(-1, 3)
    return DaySeries(*daily(table[:, 0], table[:, 1], table[:, 2:]), half_life)


def test_windows_and_decay_by_hand() -> None:
    # row 3 has 4 on day 10 and 2 on day 17; row 5 has 1 on day 12
    s = series([(3, 10, 3), (3, 10, 1), (3, 17, 2), (5, 12, 1)])
    # as of day 10 nothing of that day is known; as of 11 the 4; as of 24 the last 7 days are 17..23: the 2; row 4 is unknown
    asked = s.as_of(np.array([3, 3, 3, 5, 4]), np.array([10, 11, 24, 24, 24]))
    assert asked.total[:, 0].tolist() == [0, 4, 6, 1, 0]
    assert asked.window(7)[:, 0].tolist() == [0, 4, 2, 0, 0]
    # half-life 7 d: as of 24, 4 * 2^-(14/7) + 2 * 2^-(7/7) = 1 + 1
    np.testing.assert_allclose(asked.faded[:3, 0], [0, 4 * 2 ** (-1 / 7), 2])
    assert asked.last_days[2] == 17
    assert asked.first_days[2] == 10


@given(
    st.lists(entry, max_size=40),
    st.lists(st.tuples(st.integers(-1, 5), st.integers(-410, 410)), min_size=1, max_size=20),
)
def test_sums_are_those_of_the_entries_before_the_day(
    entries: list[tuple[int, int, int]], questions: list[tuple[int, int]]
) -> None:
    rows, days = np.array(questions).T
    asked = series(entries).as_of(rows, days)
    for q, (row, day) in enumerate(questions):
        before = [(d, v) for r, d, v in entries if r == row and d < day]
        assert asked.total[q, 0] == sum(v for _, v in before)
        assert asked.window(30)[q, 0] == sum(v for d, v in before if d >= day - 30)
        np.testing.assert_allclose(asked.faded[q, 0], sum(v * 2.0 ** ((d - day) / 7) for d, v in before), atol=1e-12)


@given(st.lists(entry, min_size=1, max_size=40), st.integers(-400, 400))
def test_an_entry_on_or_after_the_day_changes_no_bit(entries: list[tuple[int, int, int]], day: int) -> None:
    rows = np.arange(5)
    full, known = (series(e).as_of(rows, np.full(5, day)) for e in (entries, [e for e in entries if e[1] < day]))
    for a, b in ((full.total, known.total), (full.window(7), known.window(7)), (full.faded, known.faded)):
        np.testing.assert_array_equal(a, b)


def test_decay_survives_a_century_between_rows() -> None:
    # one prefix sum anchored at day 0 would add row 1's 1.0 to row 0's 2^(36500 / 7), and lose it
    s = series([(0, 36_500, 1), (1, 0, 1)])
    np.testing.assert_allclose(s.as_of(np.array([1]), np.array([7])).faded, [[0.5]])


def test_a_snapshot_changes_after_an_entry_and_when_it_leaves_a_window() -> None:
    # row 2: entries of days 5 and 6. Known from 6 and 7; out of the last 1 d from 7 and 8, out of the last 7 d from 13 and 14
    s = series([(2, 5, 1), (2, 6, 1)])
    rows, days = changes(s.index, (1, 7), 13)
    assert days.tolist() == [6, 7, 8, 13]
    assert rows.tolist() == [2, 2, 2, 2]


@given(st.lists(entry, max_size=20))
def test_between_changes_windows_hold(entries: list[tuple[int, int, int]]) -> None:
    s = series(entries)
    rows, days = changes(s.index, (1, 7, 30), 500)
    changed = set(zip(rows.tolist(), days.tolist(), strict=True))
    every = np.arange(-402, 440)
    for row in {r for r, _, _ in entries}:
        asked = s.as_of(np.full(len(every), row), every)
        for width in (1, 7, 30):
            moved = np.flatnonzero(np.diff(asked.window(width)[:, 0]))
            assert {(row, int(every[m + 1])) for m in moved} <= changed


def test_no_entries_at_all() -> None:
    s = series([])
    asked = s.as_of(np.array([0, -1]), np.array([1, 2]))
    assert asked.total.tolist() == [[0], [0]]
    assert asked.faded.tolist() == [[0], [0]]
    assert len(changes(s.index, (1,), 10)[0]) == 0
