from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.schema import DAY, HOUR, MINUTE, SECOND
from data_prep.sessions import resolution, session_numbers, window_for


def numbers(users: list[int], minutes: list[int], given: list[int], first: int = 0) -> list[int]:
    found: list[int] = session_numbers(
        np.array(users), np.array(minutes) * MINUTE, np.array(given), 30 * MINUTE, first
    ).tolist()
    return found


def test_a_pause_longer_than_the_gap_begins_a_session() -> None:
    # pauses of 30 and 31 minutes: only the second is longer than the gap
    assert numbers([0, 0, 0], [0, 30, 61], [0, 0, 0]) == [0, 0, 1]


def test_another_person_begins_a_session() -> None:
    assert numbers([0, 1], [0, 0], [0, 0], first=5) == [5, 6]


def test_given_sessions_hold_whatever_lies_between() -> None:
    # user 0 in session 9 at 0 and 500, another tab without a session at 1 and 20; user 1 also sends 9: theirs is another
    assert numbers([0, 0, 0, 0, 1], [0, 1, 20, 500, 0], [9, 0, 0, 9, 9]) == [0, 1, 1, 0, 2]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 200), st.integers(0, 2)), min_size=1, max_size=40))
def test_numbers_are_dense_and_open_in_order(rows: list[tuple[int, int, int]]) -> None:
    rows = sorted(rows)
    users, minutes, sessions = (list(c) for c in zip(*rows, strict=True))
    found = numbers(users, minutes, sessions)
    firsts = list(dict.fromkeys(found))
    assert firsts == list(range(len(firsts)))
    assert all(len({rows[i][0] for i, s in enumerate(found) if s == session}) == 1 for session in firsts)


def windowed(users: list[int], hours: list[int], given: list[int] | None = None) -> list[int]:
    found: list[int] = session_numbers(
        np.array(users), np.array(hours) * HOUR, np.array(given or [0] * len(users)), 30 * MINUTE, 0, window=24 * HOUR
    ).tolist()
    return found


def test_on_a_coarse_clock_a_session_lasts_a_window_from_its_first_event() -> None:
    # 0 opens; 23 is within its 24 hours, 24 is not and opens the next, which holds 47; 48 is 24 after 24
    assert windowed([0] * 5, [0, 23, 24, 47, 48]) == [0, 0, 1, 1, 2]
    # a day each: the days are the sessions, however many events stand at midnight
    assert windowed([0] * 5, [0, 0, 24, 24, 48]) == [0, 0, 1, 1, 2]


def test_windows_are_each_persons_own() -> None:
    # user 1 begins at 1, within user 0's window; the shop's own session (9) is not cut at 24 hours
    assert windowed([0, 0, 1, 1, 1], [0, 10, 1, 30, 60], [0, 0, 0, 9, 9]) == [0, 0, 1, 2, 2]


@pytest.mark.parametrize(
    ("times", "step"),
    [
        ([0, 3 * DAY, DAY], DAY),
        ([22 * HOUR, 22 * HOUR + DAY], DAY),  # midnight of a zone two hours ahead
        ([22 * HOUR, 23 * HOUR + DAY], HOUR),  # and its summer time
        ([0, 5 * MINUTE], MINUTE),
        ([SECOND, 3 * SECOND], SECOND),
        ([0, 1], 1),
        ([7], DAY),  # one event: its clock says nothing
        ([], DAY),
    ],
)
def test_the_step_of_the_clock(times: list[int], step: int) -> None:
    assert resolution(np.array(times, np.int64)) == step
    assert window_for(np.array(times, np.int64), 5) == (5 if step >= HOUR else None)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), min_size=1, max_size=40))
def test_windows_are_as_counted_one_by_one(rows: list[tuple[int, int]]) -> None:
    """The plain loop that the definition says, on any log."""
    rows = sorted(rows)
    expected: list[int] = []
    open_user, opened = -1, 0
    for user, hour in rows:
        if user != open_user or hour - opened >= 24:
            open_user, opened = user, hour
            expected.append(expected[-1] + 1 if expected else 0)
        else:
            expected.append(expected[-1])
    assert windowed([u for u, _ in rows], [h for _, h in rows]) == expected
