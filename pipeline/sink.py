"""`events sink`: moves what waits in Redis to the day-partitioned Parquet log, each entry once, whenever either side dies.

A batch is a range of stream ids. The range is on disk before the first of its files (core.event_log.part names them by it), the files are whole or
not there (write beside, fsync, rename), the position after it is on disk before Redis may forget the range. Killed anywhere, the next run finds the
range, writes the files that are missing, and goes on.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import redis

from core import atomic
from core.errors import BusyError, InputError
from core.event_log import RECOMMENDATIONS, SHADOWS, SINK, TRENDING, Page, Snapshot, day, part
from core.schema import Column, Table
from pipeline.log_tables import EVENT_ROWS, PAGE_ROWS, TREND_ROWS, Rows, write_parquet
from serving.keys import Keys

Say = Callable[[str], None]
START: Final = "0-0"
_CHUNK: Final = 200  # entries of one read: pages with features are large
_BATCH_BYTES: Final = 64 << 20
_POLL_SECONDS: Final = 0.25


@dataclass(frozen=True)
class Plan:
    """A batch that is being written."""

    first: str  # stream ids, both of it
    last: str
    entries: int


@dataclass(frozen=True)
class State:
    """How far one stream is: DATA/_sink/<table>.json."""

    stream: str
    position: str = START  # everything up to here is in the log
    plan: Plan | None = None


@dataclass(frozen=True)
class Moved:
    """What a run did."""

    rows: dict[str, int]  # by table, in the files written
    files: int


@contextmanager
def locked(data: Path) -> Iterator[None]:
    """Be the only one who changes the log of `data`.

    Raises:
        BusyError: Another process is.
    """
    folder = data / SINK
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "a+") as f:
        try:
            fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            f.seek(0)
            raise BusyError(
                f"{data}: process {f.read().strip()} moves events here; wait for it to end, or stop it"
            ) from None
        f.seek(0)
        f.truncate()
        f.write(str(os.getpid()))
        f.flush()
        yield


class Sink:
    """All streams of one tenant into one data directory. Make it inside `locked`."""

    def __init__(self, store: redis.Redis, keys: Keys, data: Path, batch: int, say: Say) -> None:
        self._feeds = [
            Feed(store, keys.events, data, Table.EVENTS.value, Column.EVENT_TIME.value, EVENT_ROWS, batch, say),
            Feed(store, keys.shown, data, RECOMMENDATIONS, Page.TIME.value, PAGE_ROWS, batch, say),
            Feed(store, keys.shadows, data, SHADOWS, Page.TIME.value, PAGE_ROWS, batch, say),
            Feed(store, keys.trending, data, TRENDING, Snapshot.TIME.value, TREND_ROWS, batch, say),
        ]
        for feed in self._feeds:
            feed.sweep()

    @property
    def moved(self) -> Moved:
        """By this run so far."""
        return Moved({f.table: f.rows for f in self._feeds}, sum(f.files for f in self._feeds))

    @property
    def positions(self) -> dict[str, str]:
        """By table: the newest stream id that is in the log."""
        return {f.table: f.state.position for f in self._feeds}

    def drain(self) -> None:
        """Move what is there now.

        Raises:
            redis.RedisError: Redis went away; nothing is lost, run it again.
        """
        for feed in self._feeds:
            feed.resume()
            newest = feed.newest()
            while later(newest, feed.state.position) and feed.move():
                pass

    def follow(self, flush_seconds: float, wait: Callable[[float], bool], say: Say) -> None:
        """Move what comes, in batches, none older than `flush_seconds`, until `wait` says so. Waits while Redis is away."""
        away = False
        while True:
            try:
                for feed in self._feeds:
                    feed.resume()
                    while feed.due(flush_seconds) and feed.move():
                        if wait(0):
                            return
                if away:
                    say("Redis is back")
                away = False
            except redis.RedisError as e:
                if not away:
                    say(f"waiting for Redis: {e}")
                away = True
            if wait(_POLL_SECONDS):
                return


class Feed:
    """One stream and its table."""

    def __init__(
        self,
        store: redis.Redis,
        stream: str,
        data: Path,
        table: str,
        time: str,
        rows: Rows,
        batch: int,
        say: Say,
    ) -> None:
        self.table, self.rows, self.files = table, 0, 0
        self._store, self._stream, self._data, self._time, self._parser = store, stream, data, time, rows
        self._batch, self._say = batch, say
        self._path = data / SINK / f"{table}.json"
        self.state = _read_state(self._path, stream)
        self._trimmed = START

    def sweep(self) -> None:
        """Remove what a killed run was writing."""
        for folder in (self._data / self.table).glob("day=*"):
            atomic.sweep(folder)
        atomic.sweep(self._path.parent)

    def resume(self) -> None:
        """Finish what a run before this one began; take out of Redis what is in the log.

        Raises:
            InputError: The stream is not the one that this log is of.
        """
        if later(self.state.position, START) and self._store.exists(self._stream):
            made: Any = self._store.xinfo_stream(self._stream)
            newest = made["last-generated-id"].decode()
            if later(self.state.position, newest):
                raise InputError(
                    f"{self._path}: the log goes up to entry {self.state.position}, but {self._stream} in Redis only to {newest}: "
                    "another Redis, or its clock went back; name the right one, or move the file away to take all of this one"
                )
        if self.state.plan is not None:
            self._finish(self.state.plan, self._planned(self.state.plan))
        self._trim()

    def newest(self) -> str:
        """The newest id in the stream; START when it is empty."""
        found: Any = self._store.xrevrange(self._stream, count=1)
        return found[0][0].decode() if found else START

    def due(self, flush_seconds: float) -> bool:
        """Whether a whole batch waits, or an entry has waited long enough."""
        waiting: Any = self._store.xlen(self._stream)
        if waiting >= self._batch:
            return True
        oldest: Any = self._store.xrange(self._stream, f"({self.state.position}", "+", count=1)
        now: Any = self._store.time()
        return bool(oldest) and now[0] + now[1] / 1e6 - int(oldest[0][0].split(b"-")[0]) / 1e3 >= flush_seconds

    def move(self) -> bool:
        """One batch; whether there was anything."""
        entries = self._next()
        if entries:
            plan = Plan(entries[0][0], entries[-1][0], len(entries))
            self._save(replace(self.state, plan=plan))
            self._finish(plan, entries)
            self._trim()
        return bool(entries)

    def _finish(self, plan: Plan, entries: list[tuple[str, dict[bytes, bytes]]]) -> None:
        days: dict[str, list[dict[str, Any]]] = {}
        for id, fields in entries:
            row = self._row(id, fields)
            days.setdefault(day(row[self._time]), []).append(row)
        for name, rows in sorted(days.items()):
            path = self._data / part(self.table, name, plan.first, plan.last)
            if not path.exists():
                _ensure(path.parent)
                with atomic.new_file(path) as beside:
                    write_parquet(beside, rows, self._parser)
                self.files, self.rows = self.files + 1, self.rows + len(rows)
        self._save(replace(self.state, position=plan.last, plan=None))

    def _row(self, id: str, fields: dict[bytes, bytes]) -> dict[str, Any]:
        try:
            row = self._parser.row(fields)
            row[self._time] = int(row[self._time])
        except (KeyError, ValueError, TypeError) as e:
            raise InputError(
                f"{self._stream} entry {id}: not written by Aisle ({type(e).__name__}: {e}); take it out with "
                f"`redis-cli XDEL {self._stream} {id}`"
            ) from None
        return row

    def _next(self) -> list[tuple[str, dict[bytes, bytes]]]:
        """What comes after the position, up to a batch."""
        entries: list[tuple[str, dict[bytes, bytes]]] = []
        size, after = 0, self.state.position
        while len(entries) < self._batch and size < _BATCH_BYTES:
            found = self._range(f"({after}", "+", min(_CHUNK, self._batch - len(entries)))
            if not found:
                break
            entries += found
            size += sum(len(v) for _, fields in found for v in fields.values())
            after = found[-1][0]
        return entries

    def _planned(self, plan: Plan) -> list[tuple[str, dict[bytes, bytes]]]:
        """The entries of a plan, again."""
        entries: list[tuple[str, dict[bytes, bytes]]] = []
        after = plan.first
        while found := self._range(after, plan.last, _CHUNK):
            entries += found
            after = f"({found[-1][0]}"
        if len(entries) != plan.entries:
            self._say(
                f"{self._stream}: {plan.entries - len(entries)} of the {plan.entries} entries of a batch that was cut short are gone "
                "from Redis (deleted, or lost by a Redis that is not durable)"
            )
        return entries

    def _range(self, first: str, last: str, count: int) -> list[tuple[str, dict[bytes, bytes]]]:
        found: Any = self._store.xrange(self._stream, first, last, count=count)
        return [(id.decode(), fields) for id, fields in found]

    def _trim(self) -> None:
        """Make room in the bounded stream."""
        if later(self.state.position, self._trimmed):
            milliseconds, _, number = self.state.position.partition("-")
            self._store.xtrim(self._stream, minid=f"{milliseconds}-{int(number) + 1}", approximate=False)
            self._trimmed = self.state.position

    def _save(self, state: State) -> None:
        atomic.write_bytes(self._path, json.dumps(asdict(state)).encode())
        self.state = state


def later(a: str, b: str) -> bool:
    """Whether stream id `a` comes after `b`.

    >>> later("10-0", "9-5"), later("9-5", "9-5")
    (True, False)
    """
    (am, _, an), (bm, _, bn) = a.partition("-"), b.partition("-")
    return (int(am), int(an)) > (int(bm), int(bn))


def _read_state(path: Path, stream: str) -> State:
    if not path.exists():
        return State(stream)
    try:
        found = json.loads(path.read_bytes())
        state = State(found["stream"], found["position"], Plan(**found["plan"]) if found["plan"] else None)
        later(state.position, START)
    except (ValueError, KeyError, TypeError) as e:
        raise InputError(f"{path}: not the state of a sink ({type(e).__name__}: {e}); restore it from a copy") from None
    if state.stream != stream:
        raise InputError(
            f"{path}: this log is of {state.stream}, not of {stream}; give every tenant a data directory of its own"
        )
    return state


def _ensure(folder: Path) -> None:
    """Make a folder that survives a crash."""
    missing = list(itertools.takewhile(lambda p: not p.exists(), [folder, *folder.parents]))
    folder.mkdir(parents=True, exist_ok=True)
    for made in missing:
        atomic.fsync_path(made.parent)
