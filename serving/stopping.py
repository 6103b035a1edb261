"""Being told to stop: SIGTERM and SIGINT as items of a queue.

Not an Event: its `set` takes a lock that the very thread which the signal interrupts may hold in `wait`, and then neither ends.
A SimpleQueue may be put into from a signal handler, whatever the thread was doing. But the handler runs in the main thread when that next runs
Python, and one that sleeps without end is not always woken for it (a signal just before the sleep, or one that the kernel gave to another thread):
so no sleep is long.
"""

from __future__ import annotations

import queue
import signal
import time
from collections.abc import Sequence

_NUMBERS = (signal.SIGTERM, signal.SIGINT)
_SLEEP_SECONDS = 0.25


class StopSignals:
    """From now on the signals do nothing but end `wait`. Make it in the main thread."""

    def __init__(self, numbers: Sequence[signal.Signals] = _NUMBERS) -> None:
        self._told: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in numbers:
            signal.signal(number, lambda told, _: self._told.put(told))

    def wait(self, seconds: float | None = None) -> bool:
        """Whether there was a signal; wait for one, at most `seconds`."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while True:
            left = _SLEEP_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                self._told.get(timeout=min(left, _SLEEP_SECONDS))
            except queue.Empty:
                if deadline is not None and time.monotonic() >= deadline:
                    return False
            else:
                return True
