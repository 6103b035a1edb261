"""Being told to stop: SIGTERM and SIGINT as items of a queue.

Not an Event: its `set` takes a lock that the very thread which the signal interrupts may hold in `wait`, and then neither ends.
A SimpleQueue may be put into from a signal handler, whatever the thread was doing.
"""

from __future__ import annotations

import queue
import signal
from collections.abc import Sequence

_NUMBERS = (signal.SIGTERM, signal.SIGINT)


class StopSignals:
    """From now on the signals do nothing but end `wait`. Make it in the main thread."""

    def __init__(self, numbers: Sequence[signal.Signals] = _NUMBERS) -> None:
        self._told: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in numbers:
            signal.signal(number, lambda told, _: self._told.put(told))

    def wait(self, seconds: float | None = None) -> bool:
        """Whether there was a signal; wait for one, at most `seconds`."""
        try:
            self._told.get(timeout=seconds)
        except queue.Empty:
            return False
        return True
