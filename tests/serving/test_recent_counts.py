"""The buckets of the hour, against arithmetic by hand and against counting everything again."""

from __future__ import annotations

import tracemalloc
from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from core.schema import HOUR, MINUTE, SECOND, EventType
from serving.recent_counts import WINDOW_MINUTES, RecentCounts

BUY, VIEW = EventType.PURCHASE_COMPLETE.code, EventType.DETAIL_PAGE_VIEW.code
NOON = 472_200 * HOUR  # a whole hour, so that minutes can be told by eye


def held(counts: RecentCounts) -> dict[tuple[str, int], int]:
    """What is counted, by item and type."""
    return {(counts.ids[row], code): int(counts.counts[row, code]) for row, code in np.argwhere(counts.counts).tolist()}


def test_an_event_counts_from_its_minute_until_the_sixtieth_after() -> None:
    counts = RecentCounts(10)
    assert counts.add("tea", BUY, NOON + 30 * SECOND, NOON + 30 * SECOND)
    assert counts.add("tea", VIEW, NOON + MINUTE, NOON + MINUTE)
    # 12:59:59 has 12:00 to 12:59 in its window, 13:00:00 has 12:01 to 13:00, 13:01 has 12:02 to 13:01
    assert not counts.advance(NOON + HOUR - 1)
    assert held(counts) == {("tea", BUY): 1, ("tea", VIEW): 1}
    assert counts.advance(NOON + HOUR)
    assert held(counts) == {("tea", VIEW): 1}
    assert counts.advance(NOON + HOUR + MINUTE)
    assert held(counts) == {}


def test_late_events_count_in_their_own_minute_and_early_ones_now() -> None:
    counts, now = RecentCounts(10), NOON
    assert counts.add("late", BUY, now - 59 * MINUTE, now)  # 11:01, the oldest minute of the window
    assert not counts.add("later", BUY, now - 59 * MINUTE - 1, now)
    assert counts.add("ahead", BUY, now + 30 * MINUTE, now)
    counts.advance(now + MINUTE)
    assert held(counts) == {("ahead", BUY): 1}
    counts.advance(now + HOUR)  # and not half an hour later
    assert held(counts) == {}


def test_what_comes_for_a_minute_long_past_leaves_with_it() -> None:
    counts = RecentCounts(10)
    counts.add("tea", BUY, NOON, NOON)
    counts.advance(NOON + 5 * MINUTE)
    assert counts.add("tea", BUY, NOON, NOON + 6 * MINUTE)
    counts.advance(NOON + 7 * MINUTE)
    assert held(counts) == {("tea", BUY): 2}
    counts.advance(NOON + HOUR)
    assert held(counts) == {}


def test_an_hour_of_a_busy_shop_takes_few_bytes_an_item() -> None:
    """100,000 counts of an item in a minute: 8 bytes each and two open minutes, where a dict would take about 100."""
    counts, items = RecentCounts(100_000), [f"i-{n}" for n in range(2_000)]
    for item in items:
        counts.add(item, VIEW, NOON, NOON)
    tracemalloc.start()
    for minute in range(50):
        for item in items:
            counts.add(item, VIEW, NOON + minute * MINUTE, NOON + minute * MINUTE)
        counts.advance(NOON + minute * MINUTE)
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes / (50 * len(items)) < 20
    counts.advance(NOON + HOUR + 49 * MINUTE)
    assert held(counts) == {}


def test_one_item_too_many_waits_until_others_have_left() -> None:
    counts = RecentCounts(2_000)
    for n in range(2_000):
        assert counts.add(f"i-{n}", VIEW, NOON + (n % 2) * MINUTE, NOON + MINUTE)
    assert not counts.add("more", VIEW, NOON + MINUTE, NOON + MINUTE)
    assert counts.add("i-0", VIEW, NOON + MINUTE, NOON + MINUTE)  # one that is there
    # at 13:00 those of 12:00 have left but i-0: 1,001 of 2,000, which is not less than half
    counts.advance(NOON + HOUR)
    assert (len(counts.ids), counts.tidied) == (2_000, 0)
    counts.advance(NOON + HOUR + MINUTE)
    assert (counts.ids, counts.tidied, counts.counts.shape[0]) == ([], 1, 0)
    assert counts.add("more", VIEW, NOON + HOUR, NOON + HOUR + MINUTE)
    assert held(counts) == {("more", VIEW): 1}


def test_tidying_keeps_what_is_in_the_window() -> None:
    counts = RecentCounts(10_000)
    for n in range(3_000):
        counts.add(f"i-{n}", BUY if n % 3 else VIEW, NOON + (MINUTE if n % 10 == 0 else 0), NOON + MINUTE)
    counts.add("i-20", BUY, NOON + MINUTE, NOON + MINUTE)
    counts.advance(NOON + HOUR)  # 300 of 3,000 are left
    assert (len(counts.ids), counts.tidied) == (300, 1)
    expected = Counter((f"i-{n}", BUY if n % 3 else VIEW) for n in range(0, 3_000, 10))
    assert held(counts) == expected | {("i-20", BUY): 2}
    counts.add("i-30", BUY, NOON + HOUR, NOON + HOUR)  # the rows are told apart afterwards, too
    assert held(counts)["i-30", BUY] == 1
    counts.advance(NOON + HOUR + MINUTE)
    assert held(counts) == {("i-30", BUY): 1}


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcde"),
            st.sampled_from([BUY, VIEW]),
            st.integers(0, 90 * 60),  # seconds that pass before the event comes
            st.integers(-30 * 60, 80 * 60),  # seconds that it is old by then; negative: ahead
        ),
        max_size=60,
    )
)
def test_the_sums_are_those_of_counting_again(events: list[tuple[str, int, int, int]]) -> None:
    counts, now, seen = RecentCounts(100), NOON, list[tuple[str, int, int]]()
    for item, code, passed, old in events:
        now += passed * SECOND
        counts.advance(now)
        counts.add(item, code, now - old * SECOND, now)
        seen.append((item, code, min(now - old * SECOND, now) // MINUTE))
        oldest = now // MINUTE - (WINDOW_MINUTES - 1)
        assert held(counts) == Counter((item, code) for item, code, minute in seen if minute >= oldest)
