"""The circuit breaker, step by step; and that a Redis that hangs does not hold up every thread."""

import pytest

from serving.breaker import Breaker
from serving.failures import Failure, StoreError


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(failures=3, pause=2.0, clock=clock)


def refused(breaker: Breaker) -> bool:
    try:
        breaker.check()
    except StoreError as e:
        assert e.failure is Failure.REDIS_TIMEOUT  # noqa: PT017 - what the last call found
        return True
    return False


def test_opens_after_so_many_failures_in_a_row(breaker: Breaker) -> None:
    for _ in range(2):
        breaker.failed(Failure.REDIS_TIMEOUT)
    breaker.worked()  # not in a row
    for _ in range(2):
        breaker.failed(Failure.REDIS_TIMEOUT)
        assert not refused(breaker)
    breaker.failed(Failure.REDIS_TIMEOUT)
    assert refused(breaker)


def test_lets_one_try_after_each_pause(breaker: Breaker, clock: Clock) -> None:
    for _ in range(3):
        breaker.failed(Failure.REDIS_TIMEOUT)
    clock.now += 1.9
    assert refused(breaker)
    clock.now += 0.2
    assert [refused(breaker) for _ in range(3)] == [False, True, True]  # one tries, the others wait for what it finds
    breaker.failed(Failure.REDIS_TIMEOUT)
    clock.now += 1.9
    assert refused(breaker)  # the pause counts from that failure
    clock.now += 0.2
    assert not refused(breaker)
    breaker.worked()
    assert [refused(breaker) for _ in range(3)] == [False, False, False]
    assert breaker.failure is None


def test_expecting_a_failure_lets_the_first_call_try(breaker: Breaker) -> None:
    breaker.expect()
    assert not refused(breaker)
