"""Rate limits: how much several processes take of one budget, and what is left without Redis."""

from __future__ import annotations

import time

import pytest
import redis as redis_py
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.caller import TooMuchError
from serving.leases import Budget, Leases
from serving.redis_link import client

NOBODY = "redis://127.0.0.1:1"  # the port of tcpmux, which nobody has


def taken(leases: Leases, budget: Budget, most: int) -> int:
    """How many of so many calls are let in."""
    done = 0
    for _ in range(most):
        try:
            leases.take(budget)
        except TooMuchError:
            continue
        done += 1
    return done


def test_the_first_lease_is_given_in_advance_the_others_by_what_was_asked(store: redis_py.Redis) -> None:
    leases, budget = Leases(store, seconds=0.2), Budget("default", "", rate=0.001, burst=20)
    # ready = max(1, .001 * .2) = 1
    assert taken(leases, budget, 10) == 1
    leases.renew(0.2)  # 10 asked: 1.5 * 10 = 15 wanted of the 20 in the bucket
    assert taken(leases, budget, 30) == 15
    leases.renew(0.2)  # 30 asked: the bucket has 5 left, and what .001 a second adds
    assert taken(leases, budget, 30) == 5
    leases.renew(0.2)
    assert taken(leases, budget, 30) == 0


def test_a_refusal_says_who_and_when(store: redis_py.Redis) -> None:
    leases = Leases(store, seconds=0.2)
    for budget, who, after in (
        (Budget("acme", "", rate=2.0, burst=4), "tenant acme asks more than its 2 requests a second", 0.5),
        (Budget("acme", "0123", rate=100.0, burst=4), "API key 0123 asks more than its 100 requests", 0.2),
    ):
        taken(leases, budget, 100)
        with pytest.raises(TooMuchError, match=who) as refused:
            leases.take(budget)
        assert refused.value.retry_seconds == after  # a token's time, or until the next lease
        assert refused.value.grpc_status == "RESOURCE_EXHAUSTED"


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(asked=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 30)), max_size=25), burst=st.integers(1, 40))
def test_processes_never_take_more_than_the_budget(
    store: redis_py.Redis, asked: list[tuple[int, int]], burst: int
) -> None:
    store.flushall()
    processes = [Leases(store, seconds=0.2) for _ in range(3)]
    budget, start, total = Budget("default", "", rate=0.5, burst=burst), time.monotonic(), 0
    for who, calls in asked:
        total += taken(processes[who], budget, calls)
        processes[who].renew(0.2)
    # each had one in advance (ready = max(1, .5 * .2)); then what the bucket held, and what came in
    assert total <= 3 + burst + 0.5 * (time.monotonic() - start) + 1e-3


def test_tenants_and_keys_have_budgets_of_their_own(store: redis_py.Redis) -> None:
    leases = Leases(store, seconds=0.2)
    one, other = Budget("one", "", rate=0.001, burst=5), Budget("other", "", rate=0.001, burst=5)
    taken(leases, one, 20)
    leases.renew(0.2)
    assert taken(leases, one, 20) == 5
    assert taken(leases, other, 20) == 1
    leases.renew(0.2)
    assert taken(leases, other, 20) == 5
    names = {key.decode() for key in store.scan_iter()}
    assert names == {f"aisle:{tenant}:{kind}:" for tenant in ("one", "other") for kind in ("tokens", "takers")}


def test_without_redis_a_process_goes_on_with_its_share(
    store: redis_py.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    budget = Budget("default", "", rate=30.0, burst=60)
    here, there, also = (Leases(store, seconds=0.1) for _ in range(3))
    for leases in (here, there, also):
        leases.take(budget)
        leases.renew(0.1)
    leases.take(budget)
    here.take(budget)
    here.renew(0.1)  # sees that three take from it
    here._script = client(NOBODY, 0.2, retries=0).register_script("return 0")
    taken(here, budget, 100)  # empty
    here.renew(1.0)
    # a third of 30 a second, for the second that passed
    assert taken(here, budget, 100) == 10
    assert "rate limits: " in caplog.text


def test_a_budget_that_nobody_asks_for_is_forgotten(store: redis_py.Redis) -> None:
    leases, budget = Leases(store, seconds=0.1), Budget("default", "", rate=5.0, burst=5)
    leases.take(budget)
    leases.renew(0.1)
    for key in ("aisle:default:tokens:", "aisle:default:takers:"):
        assert 0 < store.pttl(key) <= 61_000
