"""Which arm of a bandit a session met first: remembered here at once and in Redis soon after, so that it keeps it. No answer waits for it or fails by it."""

from __future__ import annotations

import queue
import threading
from collections import OrderedDict
from typing import Final

import redis

from experiments.assign import Assignment
from serving.feedback import Exposure, Feedback
from serving.tally import Tally

_MOST_KEPT: Final = 50_000  # sessions in this process; Redis has them all
_QUEUE: Final = 20_000
_BATCH: Final = 200
_LINGER_SECONDS: Final = 0.5  # every write costs Redis a flush to disk: sessions go together
_RETRY_SECONDS: Final = 0.5


class Exposures:
    """Takes first pages from many threads, and gives them to Redis.

    Args:
        store: A client for writing.
        feedback: How they are stored.
        tally: Counts what became of them.
    """

    def __init__(self, store: redis.Redis, feedback: Feedback, tally: Tally) -> None:
        self._store, self._feedback, self._tally = store, feedback, tally
        self._kept: OrderedDict[tuple[str, str], Assignment] = OrderedDict()
        self._lock = threading.Lock()
        self._queue: queue.Queue[Exposure] = queue.Queue(_QUEUE)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="exposures", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, if Redis is there, and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def kept(self, tag: str, session: str) -> Assignment | None:
        """What this process gave a session lately."""
        return self._kept.get((tag, session))

    def note(self, exposure: Exposure) -> None:
        """A session met an arm, now or as Redis remembers it; the first time counts. Never waits; what does not fit is dropped and counted."""
        key = exposure.of.tag, exposure.session
        with self._lock:
            if key in self._kept:
                return
            self._kept[key] = exposure.given
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        try:
            self._queue.put_nowait(exposure)
        except queue.Full:
            self._tally.add("exposures", "dropped")

    def _run(self) -> None:
        while batch := self._next():
            while not (taken := self._taken(batch)) and not self._stopping.wait(_RETRY_SECONDS):
                pass
            self._tally.add("exposures", "stored" if taken else "dropped", len(batch))

    def _next(self) -> list[Exposure]:
        """What came in a while, or a whole batch; empty at the end."""
        batch: list[Exposure] = []
        while not batch:
            last = self._stopping.wait(0 if self._queue.qsize() >= _BATCH else _LINGER_SECONDS)
            while len(batch) < _BATCH and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            if last:
                break
        return batch

    def _taken(self, batch: list[Exposure]) -> bool:
        try:
            self._feedback.expose(self._store, batch)
        except redis.RedisError:
            return False
        return True
