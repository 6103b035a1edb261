"""A circuit breaker: after a few failures in a row only one call per pause tries; the others are refused at once, with what the last one found.

    closed --(failures in a row)--> open --(pause over: one call tries)--> closed, or open again

(Nygard, Release It!, 2018, section 5.2; here a half-open breaker is one whose pause was extended by the call that tries.)
"""

from __future__ import annotations

import time
from collections.abc import Callable

from serving.failures import Failure, StoreError


class Breaker:
    """For many threads: a race costs one more try, or one less.

    Args:
        failures: In a row, after which it opens.
        pause: Seconds.
        clock: Seconds, monotonic.
    """

    def __init__(self, failures: int, pause: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._pause, self._clock = failures, pause, clock
        self._failures = 0
        self._until = 0.0
        self.failure: Failure | None = None  # of the newest call; None: it went well

    @property
    def is_open(self) -> bool:
        """Whether calls are refused but for one per pause."""
        return self._failures >= self._most

    def check(self) -> None:
        """Raise if this call should not try.

        Raises:
            StoreError: What the last call found.
        """
        if self._failures < self._most:
            return
        now = self._clock()
        if now < self._until and self.failure is not None:
            raise StoreError(self.failure, "")
        self._until = now + self._pause  # the others wait for what this call finds

    def failed(self, failure: Failure) -> None:
        """A call that tried found this."""
        self._failures += 1
        self._until = self._clock() + self._pause
        self.failure = failure

    def worked(self) -> None:
        """A call that tried went well."""
        self._failures, self.failure = 0, None

    def expect(self) -> None:
        """Nothing is known yet, but the first call may as well be alone."""
        self._failures = self._most
