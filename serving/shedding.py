"""Overload: what cannot be answered soon is refused at once, so that what is answered is answered in time.

gRPC's thread pool queues without bound. A call is refused when it arrives while the process has as much inside as its limit allows
(serving.adaptive_limit); and, while delays stand, when no thread has begun it for too long. One late moment is no overload: a queue that a pause of the
machine has left is answered (so does CoDel tell a burst from a standing queue: Nichols and Jacobson 2012).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent import futures
from contextvars import ContextVar
from typing import Any, Final

from serving.adaptive_limit import AdaptiveLimit
from serving.caller import TooMuchError

RETRY_SECONDS: Final = 0.25
"""When a call that was shed may be made again: a burst is over by then."""
_LEAST: Final = 3
"""Calls inside: one that computes, one that is next, and one that is nearly over or has just come."""
_MOST_PER_THREAD: Final = 8


class CountedPool(futures.ThreadPoolExecutor):
    """Threads that answer, and how many calls they have or that wait for them."""

    def __init__(self, threads: int) -> None:
        super().__init__(threads, "rpc")
        self._counting = threading.Lock()
        self.inside = 0

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """See Executor. gRPC submits every call, also one that is cancelled before it begins."""
        with self._counting:
            self.inside += 1
        return super().submit(self._counted, fn, *args, **kwargs)

    def _counted(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return fn(*args, **kwargs)
        finally:
            with self._counting:
                self.inside -= 1


class Ticket:
    """Lets one call in, whatever happens."""

    def begin(self) -> None:
        """A thread has taken the call up."""

    def waited(self, seconds: float) -> None:
        """It stood in line for so long since."""

    def end(self) -> None:
        """It is answered, or refused."""


class _Timed(Ticket):
    """Of a call that has waited since `arrived` (time.monotonic())."""

    def __init__(self, shedding: Shedding, sampled: bool, queued: bool) -> None:
        self._shedding, self._sampled, self._arrived, self._queued = shedding, sampled, time.monotonic(), queued
        self._waited = 0.0

    def begin(self) -> None:
        """See Ticket.

        Raises:
            TooMuchError: It has waited too long in a line: its caller has better use for a quick no.
        """
        self._waited = time.monotonic() - self._arrived
        if self._queued and self._shedding.limit.over and self._waited > self._shedding.delay:
            raise overloaded()

    def waited(self, seconds: float) -> None:
        """See Ticket."""
        self._waited += seconds

    def end(self) -> None:
        """See Ticket."""
        if self._sampled:
            self._shedding.sample(self._waited, time.monotonic())


class Shedding:
    """Lets calls in as long as they would not wait.

    Args:
        pool: Where they are answered.
        threads: Of the pool.
        delay: Seconds; nine of ten calls shall wait less in all, and under overload none waits longer to begin.
    """

    def __init__(self, pool: CountedPool, threads: int, delay: float) -> None:
        self._pool, self.delay = pool, delay
        self._threads = threads
        self.limit = AdaptiveLimit(
            delay, _LEAST, max(_LEAST, threads), max(_LEAST, _MOST_PER_THREAD * threads), time.monotonic()
        )

    def admit(self, sampled: bool) -> Ticket:
        """Let a call in that arrives now. `sampled`: how it fares says how busy the process is; calls that wait for a disk do not.

        Raises:
            TooMuchError: There is too much inside already.
        """
        inside = self._pool.inside
        if inside >= self.limit.limit:
            self.limit.reached()
            raise overloaded()
        return _Timed(self, sampled, queued=inside >= self._threads)

    def sample(self, delay: float, now: float) -> None:
        """A call ended at `now` (time.monotonic()) that was delayed by so many seconds."""
        self.limit.sample(delay, now, self._pool.inside)


def overloaded() -> TooMuchError:
    """The refusal of a call that is shed."""
    return TooMuchError("this server has more to do than it can: try again later", RETRY_SECONDS)


_FREE: Final = Ticket()
_TICKET: ContextVar[Ticket] = ContextVar("ticket", default=_FREE)


def set_ticket(ticket: Ticket) -> None:
    """For the call that is being handled (see serving.caller)."""
    _TICKET.set(ticket)


def ticket() -> Ticket:
    """Of the call that is being handled; one that came through no gate may stay."""
    return _TICKET.get()
