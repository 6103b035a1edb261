"""How many requests may be inside a process at once: as many as keep the wait short, found by trying.

Additive increase, multiplicative decrease (Chiu and Jain 1989, section 3; as a limit of concurrency: `AIMDLimit` of Netflix's concurrency-limits). The
signal is the delay of a request: how long it stood in line, for a thread and for its turn to compute. So neither a costly request nor a slow Redis is a
sign of overload.
"""

from __future__ import annotations

import threading
from typing import Final

_WINDOW_SECONDS: Final = 0.1
_SAMPLES: Final = 5  # a window with fewer says nothing yet
_QUANTILE: Final = 0.9
_DECREASE: Final = 0.9


class AdaptiveLimit:
    """The limit, for many threads.

    Args:
        delay: Seconds; nine of ten requests shall be delayed by less.
        least: The limit never falls below.
        first: It begins here, and comes back here when nobody is late.
        most: It never rises above.
        now: time.monotonic() of the start.
    """

    def __init__(self, delay: float, least: int, first: int, most: int, now: float) -> None:
        self._delay, self._least, self._first, self._most = delay, least, first, most
        self._limit = float(first)
        self.over = False  # in the newest window more than one in ten was late
        self._lock = threading.Lock()
        self._delays: list[float] = []
        self._reached = False
        self._peak = 0
        self._until = now + _WINDOW_SECONDS

    @property
    def limit(self) -> int:
        """Requests that may be inside."""
        return int(self._limit)

    def reached(self) -> None:
        """Somebody was refused: more might do no harm."""
        self._reached = True

    def sample(self, delay: float, now: float, inside: int) -> None:
        """A request ended at `now` that was delayed by `delay` seconds, with so many `inside`."""
        with self._lock:
            self._delays.append(delay)
            self._peak = max(self._peak, inside)
            if now >= self._until and len(self._delays) >= _SAMPLES:
                self._decide()
                self._until = now + _WINDOW_SECONDS

    def _decide(self) -> None:
        delays = sorted(self._delays)
        self.over = delays[int(_QUANTILE * len(delays))] > self._delay
        if (
            self.over and 2 * self._peak >= self._limit
        ):  # else it is others who make this machine slow, and refusing would not help
            self._limit = max(self._least, self._limit * _DECREASE)
        elif not self.over and (self._reached or self._limit < self._first):
            self._limit = min(self._most, self._limit + 1)
        self._delays, self._reached, self._peak = [], False, 0
