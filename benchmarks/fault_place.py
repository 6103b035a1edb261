"""Where faults happen: a work directory on a small disk of its own, a Redis that goes down when told, and a writer of events that keeps count."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import redis

from aisle.v1.events_pb2 import Event
from benchmarks.event_loop import small_release
from core.errors import AisleError
from core.programs import redis_server
from core.work import Work
from serving.client import Client
from serving.config import load_serving
from serving.failures import Failure
from serving.keys import Keys
from serving.materialize import materialize
from serving.redis_link import client
from serving.release import Release
from serving.tether import tied
from serving.user_state import UserState

_SPARE_MB: Final = 96  # of the small disk, beside the release
_PATIENCE_SECONDS: Final = 60.0


class OwnRedis:
    """A durable Redis on the files in `folder`, on a Unix socket in `sockets`."""

    def __init__(self, folder: Path, sockets: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self.socket = folder, sockets / "redis.sock"
        self.url = f"unix://{self.socket}"
        self._running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return once it answers."""
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "aof-use-rdb-preamble": "no",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        command = tied([str(redis_server().resolve()), *arguments])
        self._running = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        until(self.answers)

    def answers(self) -> bool:
        """Whether it does."""
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def client(self) -> redis.Redis:
        """To look and to set."""
        return client(self.url, 5.0, retries=0)

    def send(self, number: signal.Signals) -> None:
        """A signal; return when it has ended, if it is one that ends it."""
        assert self._running is not None
        self._running.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self._running.wait(_PATIENCE_SECONDS)

    def wait(self) -> None:
        """Until it has ended by itself."""
        assert self._running is not None
        self._running.wait(_PATIENCE_SECONDS)

    def stop(self) -> None:
        """Whatever state it is in."""
        if self._running is not None:
            self._running.send_signal(signal.SIGCONT)
            self._running.kill()
            self._running.wait()


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """`folder` as a file system of its own, so that it can be full; False where this user may not mount one."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def full(folder: Path) -> Iterator[None]:
    """Not a byte is free on its file system within the block."""
    ballast = folder / "ballast"
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(b"\0" * size)
    try:
        yield
    finally:
        ballast.unlink()


@contextlib.contextmanager
def given_or_small(release: Path | None) -> Iterator[Path]:
    """The release, or a small one that is made for the block."""
    if release is not None:
        yield release
        return
    with tempfile.TemporaryDirectory(prefix="aisle-small-") as folder:
        yield small_release(Path(folder))


def copied(release: Path, folder: Path) -> Work:
    """A work directory in `folder` with a copy of `release` and of the user state that was made with it, if that is beside it."""
    release, work = release.resolve(), Work(folder)
    shutil.copytree(release, work.releases / release.name)
    work.current.symlink_to(release.name)
    state = Work(release.parent.parent).user_state(Release.open(release).window_end)
    if state.exists():
        shutil.copytree(state, work.user_state(Release.open(release).window_end))
    return work


def room_for(release: Path) -> int:
    """Megabytes of disk for twice the release, its user state and what a run writes."""
    return _SPARE_MB + 4 * sum(f.stat().st_size for f in release.resolve().rglob("*") if f.is_file()) // 1_000_000


def load_state(work: Work, url: str) -> list[str]:
    """The user state of the current release, into Redis; the users that are in it.

    Raises:
        AisleError: There is no user state of the release in the work directory.
    """
    release = Release.open(work.current)
    state, events = work.user_state(release.window_end), release.settings.history_events
    materialize(url, load_serving().tenant, state, release.window_end, release.state_id, events)
    users = UserState.open(state)
    ids = [users.ids[row] for row in range(len(users.ids))]
    return [i.removeprefix("u:") for i in ids if i.startswith("u:")]


class EventWriter:
    """Writes batches of clicks in a thread, each event with an id of its own, and keeps count of what the service said."""

    def __init__(self, address: str, items: list[str], pause: float = 0.05, batch: int = 5) -> None:
        self._address, self._items, self._pause, self._batch = address, items, pause, batch
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-writer", daemon=True)
        self.acknowledged: list[str] = []  # event ids
        self.said: list[
            tuple[float, str]
        ] = []  # (time.perf_counter(), "accepted", "spooled" or the refusal) for each call

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Write no more."""
        self._stopping.set()
        self._thread.join()

    def since(self, start: float) -> dict[str, int]:
        """Calls by what was said."""
        return dict(Counter(what for when, what in list(self.said) if when >= start))

    def lost(self, store: redis.Redis) -> tuple[int, int]:
        """Acknowledged events that are not in the stream of Redis, and those that are there more than once."""
        entries: Any = store.xrange(Keys(load_serving().tenant).events)
        there = Counter(json.loads(fields[b"event"]).get("event_id") for _, fields in entries)
        return sum(i not in there for i in self.acknowledged), sum(n > 1 for n in there.values())

    def _run(self) -> None:
        for number in itertools.count():
            if self._stopping.wait(self._pause):
                return
            ids = [f"{os.getpid()}-{number}-{n}" for n in range(self._batch)]
            item = self._items[number % len(self._items)]
            events = [Event(event_type="click", item_id=item, user_id=f"w{number % 50}", event_id=i) for i in ids]
            with Client(self._address, timeout=5) as ask:
                try:
                    taken = ask.write_events(events)
                except AisleError as e:
                    self.said.append((time.perf_counter(), _refusal(str(e))))
                    continue
            self.acknowledged += ids
            self.said.append((time.perf_counter(), "spooled" if taken.spooled else "accepted"))


def _refusal(text: str) -> str:
    """The failure that an error of the client names, else all of it."""
    return next((f for f in Failure if f": {f}: " in text), text.partition(": ")[0])


def until(what: Any, seconds: float = _PATIENCE_SECONDS) -> None:
    """Look again and again until `what()` holds.

    Raises:
        AisleError: It does not within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            raise AisleError(f"waited {seconds:.0f} s in vain")
        time.sleep(0.02)
