"""Takes events so that an acknowledged one is on disk: straight into a durable Redis, else into the spool, which a thread hands over to Redis."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from serving.event_writer import EventWriter, Stored, WrittenEvent
from serving.failures import Failure, StoreError
from serving.spool import Segment, Spool

_LOG = logging.getLogger(__name__)
_TICK_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0
_ADOPT_SECONDS = 1.0
_AVOID_SECONDS = 0.2


@dataclass(frozen=True)
class Taken:
    """What became of a call's events, all of which are on disk."""

    accepted: int
    duplicates: int
    spooled: int  # of the accepted, those that Redis has yet to take


class EventStore:
    """Stores events, each once. `spool`: None refuses while Redis cannot make them durable."""

    def __init__(self, writer: EventWriter, spool: Spool | None) -> None:
        self._writer, self._spool = writer, spool
        self._avoid_until = 0.0
        self._replay = None if spool is None else Replay(writer, spool)

    def start(self) -> None:
        """Begin to hand over what is in the spool, that of processes before this one too."""
        if self._replay is not None:
            self._replay.start()

    def stop(self) -> None:
        """Stop handing over; what is in the spool stays for the next process."""
        if self._replay is not None:
            self._replay.stop()

    @property
    def spool_bytes(self) -> int:
        """On this process's disk."""
        return 0 if self._spool is None else self._spool.size

    def write(self, events: Sequence[WrittenEvent]) -> Taken:
        """Store those that are new, all or none.

        Raises:
            StoreError: Nothing is known to be stored. The same call may be made again.
        """
        # just after a failure nobody waits for the next one; events of the spool may then come after newer ones, which readers order by time
        if self._spool is None or time.monotonic() >= self._avoid_until:
            try:
                accepted = self._writer.write(events)
                return Taken(accepted, len(events) - accepted, 0)
            except StoreError as e:
                if self._spool is None or e.failure is Failure.STREAM_FULL:
                    raise
                self._avoid_until = time.monotonic() + _AVOID_SECONDS
        self._spool.append(json.dumps([e.columns for e in events], ensure_ascii=False).encode())
        return Taken(len(events), 0, len(events))


class Replay:
    """Gives Redis what is in the spool, in order, again and again until it is safe there.

    A durable Redis has it once it says so. Of another one nothing is believed but that an entry has left the stream, which the sink takes out when
    it is in the log: until then the file stays, and is given again to a Redis that restarted. Events that Redis still knows are not stored twice.
    """

    def __init__(self, writer: EventWriter, spool: Spool) -> None:
        self._writer, self._spool = writer, spool
        self._given: dict[Segment, Stored] = {}  # to a Redis that is not durable
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool-replay", daemon=True)

    def start(self) -> None:
        """In a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and let go of the files."""
        self._stopping.set()
        self._thread.join()
        self._spool.close()

    def _run(self) -> None:
        pause, down, adopt_at = _TICK_SECONDS, "", 0.0
        while not self._stopping.wait(pause):
            try:
                if time.monotonic() >= adopt_at:
                    self._spool.adopt()
                    adopt_at = time.monotonic() + _ADOPT_SECONDS
                for segment in self._spool.segments:
                    self._hand_over(segment)
            except StoreError as e:
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                if e.failure != down:
                    _LOG.warning("%d bytes of events wait in the spool: %s", self._spool.size, e)
                down = e.failure
            except OSError as e:
                pause = _LONGEST_PAUSE_SECONDS
                _LOG.error("the spool cannot be read: %s", e)
            else:
                if down:
                    _LOG.warning("Redis has the events of the spool")
                pause, down = _TICK_SECONDS, ""

    def _hand_over(self, segment: Segment) -> None:
        given = self._given.get(segment)
        if given is not None and (logged := self._writer.logged(given)) is not False:
            self._given.pop(segment)
            if logged is None:
                segment.replayed = 0  # that Redis may have lost it
            given = None
        for end, payload in segment.frames():
            stored = self._writer.store([WrittenEvent.of(columns) for columns in json.loads(payload)])
            if given is not None and stored.run != given.run:  # it restarted in between
                self._given.pop(segment)
                segment.replayed = 0
                return
            segment.replayed = end
            if given is not None or not stored.durable:
                self._given[segment] = given = stored  # what was given earlier lies before its newest id
            if self._stopping.is_set():
                return
        if given is None:
            self._spool.release(segment)
