from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.schema import MINUTE
from data_prep.sessions import session_numbers


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
