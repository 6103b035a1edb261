"""Turns to compute: never more than so many at once, nobody forgotten, and no waiting beyond a deadline."""

from __future__ import annotations

import threading
from concurrent import futures

import pytest

from serving.caller import TooMuchError
from serving.deadline import Costs, Deadline
from serving.shedding import Ticket, set_ticket
from serving.turns import Turns


@pytest.mark.parametrize("most", [1, 3])
def test_never_more_than_so_many_compute(most: int) -> None:
    turns, lock, now, seen = Turns(most), threading.Lock(), [0], []

    def compute() -> None:
        with turns.one():
            with lock:
                now[0] += 1
                seen.append(now[0])
            met.wait()  # until as many as may are here together
            with lock:
                now[0] -= 1

    met = threading.Barrier(most, timeout=20)
    with futures.ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(compute) for _ in range(6 * most)]:
            done.result(20)
    assert len(seen) == 6 * most
    assert max(seen) == most


def test_a_turn_ends_with_an_error() -> None:
    turns = Turns(1)
    with pytest.raises(ZeroDivisionError), turns.one():
        _ = 1 // 0
    with turns.one():
        pass


def test_who_waits_is_counted_as_waiting_and_gives_up_with_the_deadline() -> None:
    class Noted(Ticket):
        seconds = 0.0

        def waited(self, seconds: float) -> None:
            self.seconds += seconds

    turns, noted = Turns(1), Noted()

    def late() -> None:
        set_ticket(noted)
        with turns.one(Deadline(0.02, Costs(), 0.0)):
            raise AssertionError

    with turns.one(), futures.ThreadPoolExecutor(1) as pool, pytest.raises(TooMuchError):
        pool.submit(late).result(20)
    assert 0.015 < noted.seconds < 20
    with turns.one(Deadline(-1.0, Costs(), 0.0)):  # a turn that is free costs no time
        pass
