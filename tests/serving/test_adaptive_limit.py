"""The limit of concurrency, step by step."""

from hypothesis import given
from hypothesis import strategies as st

from serving.adaptive_limit import AdaptiveLimit


def made() -> AdaptiveLimit:
    return AdaptiveLimit(delay=0.02, least=2, first=10, most=18, now=0.0)


def window(limit: AdaptiveLimit, at: float, delays: list[float], inside: int = 10) -> int:
    """Samples of one window, the last at `at`."""
    for delay in delays[:-1]:
        limit.sample(delay, at - 0.05, inside)
    limit.sample(delays[-1], at, inside)
    return limit.limit


def test_begins_where_it_is_told() -> None:
    assert made().limit == 10


def test_falls_by_a_tenth_while_more_than_one_in_ten_is_late() -> None:
    limit = made()
    # sorted: 8 in time, 2 late; the one at place int(.9 * 10) = 9 is late: 10 * .9 = 9, then 8.1
    assert window(limit, 0.1, [0.001] * 8 + [0.03] * 2) == 9
    assert window(limit, 0.2, [0.001] * 8 + [0.03] * 2) == 8


def test_delays_of_a_process_that_has_little_to_do_are_not_its_own() -> None:
    limit = made()
    assert window(limit, 0.1, [1.0] * 10, inside=4) == 10  # less than half of what it may have
    assert limit.over
    limit.reached()
    assert window(limit, 0.3, [1.0] * 10, inside=5) == 9


def test_one_late_answer_in_twenty_is_chance() -> None:
    limit = made()
    # place int(.9 * 20) = 18 of 0 to 19: the only late one is at 19
    assert window(limit, 0.1, [0.001] * 19 + [0.5]) == 10
    assert not limit.over
    window(limit, 0.2, [0.001] * 18 + [0.5] * 2)
    assert limit.over
    window(limit, 0.4, [0.001] * 20)
    assert not limit.over


def test_rises_by_one_where_somebody_was_refused_and_nobody_is_late() -> None:
    limit = made()
    assert window(limit, 0.1, [0.001] * 5) == 10  # nobody wanted more
    limit.reached()
    assert window(limit, 0.2, [0.001] * 5) == 11
    assert window(limit, 0.3, [0.001] * 5) == 11


def test_comes_back_to_where_it_began_when_nobody_is_late() -> None:
    """After an overload a small burst is none."""
    limit = made()
    for n in range(1, 4):
        window(limit, n / 5, [1.0] * 5)
    assert limit.limit == 7  # 10 * .9 ** 3 = 7.29
    found = [window(limit, n / 5, [0.001] * 5, inside=1) for n in range(4, 9)]
    assert found == [8, 9, 10, 10, 10]  # 8.29, 9.29, 10.29: it began at 10


def test_few_answers_say_nothing() -> None:
    limit = made()
    for at in (0.2, 0.3, 0.4, 0.5):
        limit.sample(1.0, at, 10)
    assert limit.limit == 10  # four
    limit.sample(1.0, 0.6, 10)
    assert limit.limit == 9  # five


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=400))
def test_stays_within_its_bounds(steps: list[tuple[float, bool]]) -> None:
    limit = made()
    for at, (delay, refused) in enumerate(steps):
        if refused:
            limit.reached()
        limit.sample(delay, at / 10, 10)
        assert 2 <= limit.limit <= 18
