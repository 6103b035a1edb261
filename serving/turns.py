"""A few requests compute at a time; the others wait for their turn, outside of the interpreter's lock.

Threads that all want the lock hand it round among themselves, and the thread that takes calls from the network, which needs it several times for each call,
waits behind all of them: with eight threads at work calls stand before the door for seconds, where no limit sees them. With two it has its turn at once. No
answer is later for it: what computes shares the lock anyway, and who waits for Redis or a disk needs no turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from serving.deadline import Deadline
from serving.shedding import overloaded, ticket

_LONGEST_SECONDS: Final = 60.0  # without a deadline; nobody waits for an answer that long


class Turns:
    """Many threads may ask.

    Args:
        most: Requests that compute at a time.
    """

    def __init__(self, most: int) -> None:
        self._free = threading.Semaphore(most)

    @contextmanager
    def one(self, deadline: Deadline | None = None) -> Iterator[None]:
        """Compute within the block.

        Raises:
            TooMuchError: The deadline was over before there was a turn.
        """
        if not self._free.acquire(blocking=False):
            began = time.monotonic()
            got = self._free.acquire(timeout=_LONGEST_SECONDS if deadline is None else max(0.0, deadline.left))
            ticket().waited(time.monotonic() - began)
            if not got:
                raise overloaded()
        try:
            yield
        finally:
            self._free.release()
