"""Copies of requests, answered by the release of a shadow beside those that are served: logged with what was answered, seen by nobody.

One thread makes them, one at a time, from a bounded queue; what finds the queue full is dropped and counted. After each copy the thread rests four
times as long as it took: it never has more than a fifth of a core, and no more of the interpreter, whatever is asked of the server. It keeps the
priority of the process: a thread that ran at a lower one could be put aside while it holds the interpreter, and every answer would wait for it.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from serving.arms.chosen import Copy
from serving.placed import Placed
from serving.private_logs import stack_of
from serving.shown import Shown, ShownLog
from serving.tally import Tally

_LOG = logging.getLogger(__name__)
_REST: Final = 4.0
_POLL_SECONDS: Final = 0.2


class Shadows:
    """Of one tenant.

    Args:
        log: Takes the copies.
        most: That may wait.
        tally: Counts them: copied, dropped, failed, by experiment and arm; and how long they took.
    """

    def __init__(self, log: ShownLog, most: int, tally: Tally) -> None:
        self.make: Callable[[Placed, Copy], Shown] | None = None
        self._log, self._tally = log, tally
        self._queue: queue.Queue[tuple[Placed, Copy]] = queue.Queue(most)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadows", daemon=True)

    def start(self) -> None:
        """Begin to make copies."""
        self._log.start()
        self._thread.start()

    def stop(self) -> None:
        """Make no more; what waits is dropped."""
        self._stopping.set()
        self._thread.join()
        self._log.stop()

    def offer(self, one: Placed) -> None:
        """A page was answered of which shadows make copies. Never waits."""
        for copy in one.given.copies:
            try:
                self._queue.put_nowait((one, copy))
            except queue.Full:
                self._count(copy, "dropped")

    def _run(self) -> None:
        rest = 0.0
        while not self._stopping.wait(rest):
            rest = 0.0
            try:
                one, copy = self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                continue
            began = time.perf_counter()
            self._copy(one, copy)
            rest = _REST * (time.perf_counter() - began)

    def _copy(self, one: Placed, copy: Copy) -> None:
        if self.make is None:
            return
        began = time.perf_counter()
        try:
            shown = self.make(one, copy)
        except Exception as e:  # noqa: BLE001 - nobody waits for it; it is counted
            _LOG.error("a shadow could not answer\n%s", stack_of(e))
            self._count(copy, "failed")
            return
        self._log.offer(shown)
        took = (f"{copy.assignment.experiment}={copy.assignment.arm}",)
        self._count(copy, "copied")
        self._tally.note((), (("shadow_seconds", took, time.perf_counter() - began),))

    def _count(self, copy: Copy, outcome: str) -> None:
        arm = f"{copy.assignment.experiment}={copy.assignment.arm}"
        self._tally.note((("shadows", (arm, outcome), 1),))
