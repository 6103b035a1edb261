"""Time's law: nothing at or after the moment of the request is ever in a history."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.columns import Columns
from core.history import Histories, user_starts

events = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 20)), max_size=60)


def store(rows: list[tuple[int, int]], limit: int | None = None) -> Histories:
    user, time = (np.array([r[i] for r in sorted(rows)], np.int64) for i in (0, 1))
    n = len(user)
    columns = Columns(
        {
            "user": user.astype(np.int32),
            "item": np.arange(n, dtype=np.int32),
            "time": time,
            "type": np.zeros(n, np.int8),
            "gain": np.ones(n, np.float32),
        }
    )
    return Histories(columns, user_starts(columns.numbers("user"), 5), limit)


@given(events, st.integers(-1, 6), st.integers(-1, 21), st.none() | st.integers(1, 5))
def test_exactly_the_events_before(rows: list[tuple[int, int]], user: int, time: int, limit: int | None) -> None:
    expected = [t for u, t in sorted(rows) if u == user and t < time]
    expected = expected if limit is None else expected[-limit:]
    assert store(rows, limit).before(user, time).times.tolist() == expected


def test_a_planted_leak_is_seen() -> None:
    # the event at the moment of the request is the target: side="right" would let it in, and this is what catches it
    history = store([(0, 5), (0, 6)]).before(0, 6)
    assert history.times.tolist() == [5]


def test_newest_keeps_the_order() -> None:
    assert store([(0, 1), (0, 2), (0, 3)]).before(0).newest(2).times.tolist() == [2, 3]
