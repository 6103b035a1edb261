"""Events are written while the service, the sink and Redis are killed again and again: every acknowledged event is in the log exactly once.

    .venv/bin/python -m benchmarks.event_loop --release WORK/releases/current --events 200000
    .venv/bin/python -m benchmarks.event_loop                                 # makes a small release first

Real processes: `./aisle serve` with its own Redis, `./aisle events sink --follow` on the same work directory, writers that send a batch again, with the
same event ids, until it is acknowledged. Each victim dies by SIGKILL at given shares of the events, while writing goes on; the service and the sink
are started again, the Redis is by whichever of them owns it. Every tenth batch is sent a second time although it was acknowledged. The last line of
stdout is JSON; exit 1 when an event is missing or there twice.
"""

# bazel: imports=[cli.*]

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pyarrow.parquet as pq

from aisle.v1.events_pb2 import Event
from core.errors import AisleError
from core.schema import DAY, Table
from serving.client import Client
from serving.embedded_redis import EmbeddedRedis
from serving.redis_link import client

SERVICE, SINK, REDIS = "service", "sink", "redis"
# When each dies, as shares of the events that are acknowledged by then.
KILLS = ((0.15, SERVICE), (0.3, SINK), (0.42, REDIS), (0.55, SERVICE), (0.68, SINK), (0.8, REDIS))
_PATIENCE_SECONDS = 60.0
_DAYS = 3


class Process:
    """One `./aisle` command, started as often as it dies."""

    def __init__(self, log: Path, *arguments: object) -> None:
        self._log, self._command = log, [sys.executable, "-m", "cli", *map(str, arguments)]
        self._running: subprocess.Popen[str] | None = None

    def start(self) -> Self:
        """In the background; what it says on stderr is in the log."""
        with self._log.open("a") as log:
            self._running = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=log, text=True)
        return self

    def line(self) -> dict[str, Any]:
        """The next JSON line of its stdout."""
        assert self._running is not None
        assert self._running.stdout is not None
        line = self._running.stdout.readline()
        if not line:
            raise AisleError(f"{' '.join(self._command[2:])} ended with {self._running.wait()}: see {self._log}")
        return dict(json.loads(line))

    def kill(self) -> None:
        """SIGKILL."""
        assert self._running is not None
        self._running.kill()
        self._running.wait()

    def stop(self) -> None:
        """SIGTERM, and wait."""
        if self._running is not None and self._running.poll() is None:
            self._running.terminate()
            try:
                self._running.wait(_PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()


class Writers:
    """Threads that send numbered events until each is acknowledged."""

    def __init__(self, events: int, threads: int, batch: int) -> None:
        self._starts = iter(range(0, events, batch))
        self._events, self._batch, self._lock = events, batch, threading.Lock()
        self._room = threading.Condition()
        self._limit = 0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        self._giving_up = threading.Event()
        self.address = ""
        self.acknowledged = 0
        self.spooled = 0
        self.refused = 0

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> bool:
        """Whether all is acknowledged, or given up."""
        return not any(t.is_alive() for t in self._threads)

    def allow(self, events: int) -> None:
        """Go on up to the event of this number."""
        with self._room:
            self._limit = events
            self._room.notify_all()

    def give_up(self) -> None:
        """Send nothing again."""
        self._giving_up.set()
        self.allow(self._events)

    def _run(self) -> None:
        while not self._giving_up.is_set():
            with self._lock:
                start = next(self._starts, None)
            if start is None:
                return
            with self._room:
                self._room.wait_for(lambda at=start: at <= self._limit)  # type: ignore[misc]
            events = [_event(n) for n in range(start, min(start + self._batch, self._events))]
            if self._sent(events) and start // self._batch % 10 == 0:
                self._sent(events, again=True)

    def _sent(self, events: list[Event], *, again: bool = False) -> bool:
        """Send until it is acknowledged."""
        while not self._giving_up.is_set():
            with Client(self.address) as ask:
                try:
                    taken = ask.write_events(events)
                except AisleError:
                    with self._lock:
                        self.refused += 1
                    self._giving_up.wait(0.05)
                    continue
            with self._lock:
                self.acknowledged += 0 if again else len(events)
                self.spooled += taken.spooled
            return True
        return False


def _event(n: int) -> Event:
    """The same one whenever it is asked for; over a few days."""
    at = 1_700_000_000_000_000 + n * _DAYS * DAY // 1_000_000
    who = f"user-{n % 997}"
    return Event(event_type="click", event_time=at, item_id=f"item-{n % 311}", user_id=who, event_id=f"e-{n}")


def run(
    release: Path,
    folder: Path,
    events: int,
    *,
    kills: tuple[tuple[float, str], ...] = KILLS,
    threads: int = 4,
    batch: int = 100,
    seconds: float = 600,
) -> dict[str, Any]:
    """One run in `folder`, which must be empty.

    Raises:
        AisleError: A process did not come up, or it took longer than `seconds`.
    """
    start, work, data = time.monotonic(), folder / "work", folder / "data"
    (work / "releases").mkdir(parents=True)
    service = Process(
        folder / "service.log", "serve", "--release", release.resolve(), "--work", work, "--listen", "127.0.0.1:0"
    )
    sink = Process(
        folder / "sink.log", "events", "sink", "--data", data, "--work", work, "--follow", "--flush-seconds", 1
    )
    writers, killed = Writers(events, threads, batch), Counter[str]()
    try:
        writers.address = service.start().line()["listening"]
        sink.start()
        writers.start()
        left = sorted(kills)
        writers.allow(_allowed(left, events))
        while not writers.done:
            if time.monotonic() - start > seconds:
                raise AisleError(f"{writers.acknowledged} of {events} events after {seconds:.0f} s: see {folder}/*.log")
            if left and writers.acknowledged >= left[0][0] * events:
                victim = left.pop(0)[1]
                if victim == REDIS:
                    os.kill(_redis_pid(work), signal.SIGKILL)
                else:
                    (service if victim == SERVICE else sink).kill()
                killed[victim] += 1
                if victim == SERVICE:
                    writers.address = service.start().line()["listening"]
                elif victim == SINK:
                    sink.start()
                writers.allow(_allowed(left, events))
            time.sleep(0.005)
        written = time.monotonic() - start
        with Client(writers.address) as ask:
            _until(lambda: ask.status().spool_bytes == 0)
        service.stop()
        sink.stop()
        last = Process(folder / "sink.log", "events", "sink", "--data", data, "--work", work).start().line()
    finally:
        writers.give_up()
        service.stop()
        sink.stop()
    return {
        "events": events,
        "acknowledged": writers.acknowledged,
        **_compared(data, events),
        "kills": {name: killed[name] for name in (SERVICE, SINK, REDIS)},
        "refused_calls": writers.refused,
        "spooled": writers.spooled,
        "last_sink": last["events"],
        "write_seconds": round(written, 1),
        "seconds": round(time.monotonic() - start, 1),
    }


def _allowed(kills: list[tuple[float, str]], events: int) -> int:
    """How far writing may go while the first of `kills` happens, so that every one of them hits while there is still something to write."""
    if not kills:
        return events
    return round((kills[1][0] if len(kills) > 1 else (kills[0][0] + 1) / 2) * events)


def _redis_pid(work: Path) -> int:
    """Of the Redis of the work directory, as it says itself."""
    found: dict[str, int] = {}
    store = client(EmbeddedRedis(work / "redis").url, 1.0, retries=0)

    def answers() -> bool:
        try:
            info: Any = store.info("server")
        except Exception:  # noqa: BLE001 - it is being started
            return False
        found["pid"] = int(info["process_id"])
        return True

    _until(answers)
    return found["pid"]


def _until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not what():
        if time.monotonic() > deadline:
            raise AisleError(f"waited {_PATIENCE_SECONDS:.0f} s in vain")
        time.sleep(0.05)


def _compared(data: Path, events: int) -> dict[str, int]:
    """The log against what was acknowledged, which is all that was sent when the writers ended."""
    files = sorted((data / Table.EVENTS).rglob("part-*.parquet"))
    logged = Counter(i for f in files for i in pq.read_table(f, columns=["event_id"])["event_id"].to_pylist())
    return {
        "in_log": logged.total(),
        "missing": sum(f"e-{n}" not in logged for n in range(events)),
        "duplicates": logged.total() - len(logged),
        "files": len(files),
    }


def small_release(folder: Path) -> Path:
    """A release of a simulated shop: what is served does not matter here."""
    for arguments in (
        ("simulate", "--users", "400", "--items", "200", "--events", "12000", "--days", "60", "--out", folder / "shop"),
        ("nightly", "--data", folder / "shop", "--work", folder / "work"),
    ):
        subprocess.run([sys.executable, "-m", "cli", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    return folder / "work" / "releases" / "current"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Kill everything while events are written, and count them.")
    parser.add_argument("--release", type=Path, help="a release directory; default: a small one is made")
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--batch", type=int, default=100, help="events of one call")
    parser.add_argument("--seconds", type=float, default=600, help="give up after so long")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aisle-loop-") as folder:
        try:
            release = a.release or small_release(Path(folder) / "small")
            (loop := Path(folder) / "loop").mkdir()
            found = run(release, loop, a.events, threads=a.threads, batch=a.batch, seconds=a.seconds)
        except AisleError as e:
            print(f"error: {e}", file=sys.stderr)
            sys.exit(e.exit_code)
    print(json.dumps(found))
    if found["missing"] or found["duplicates"] or found["in_log"] != found["acknowledged"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
