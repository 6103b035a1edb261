"""A Redis of our own under WORK/redis: started when none runs there, watched, started again when it dies, stopped with the server.

Two servers on one work directory share it: the one that holds the lock owns the Redis; when that one ends, the other takes over and starts it
again from its files. It listens on a Unix socket only. `appendonly yes` with `appendfsync always`: a write is confirmed when it is on disk.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

import redis

from core.errors import EnvironmentGapError
from core.programs import redis_server
from serving.redis_link import client
from serving.tether import tied

_LOCK = "lock"
_START_SECONDS = 30.0  # a large file takes a while to load
_STOP_SECONDS = 15.0
_WATCH_SECONDS = 0.05
_SHORT_LIFE_SECONDS = 1.0
_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
_SOCKET_PATH_LIMIT = 100  # the kernel allows 107 bytes


class EmbeddedRedis:
    """Keeps a Redis running on the files in `folder` from `start` to `stop`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.socket = _socket_path(self.folder)
        self.url = f"unix://{self.socket}"
        self._lock: IO[str] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="redis-keeper", daemon=True)

    def launch(self) -> None:
        """Begin; `wait` says when it answers.

        Raises:
            OSError: Nothing can be written to the folder.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / _LOCK).touch()  # here, where the caller hears of it: the thread could only die of it
        self._keeper.start()

    def wait(self) -> None:
        """Return once it answers.

        Raises:
            EnvironmentGapError: There is no program, or it does not come up.
        """
        redis_server()  # says how to get one
        probe, deadline = client(self.url, 1.0, retries=0), time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            try:
                probe.ping()
                return
            except redis.RedisError:
                self._stopping.wait(0.005)
        raise EnvironmentGapError(
            f"{self.folder}: Redis did not start within {_START_SECONDS:.0f} s; its log says: {self._last_line()}"
        )

    @property
    def pid(self) -> int | None:
        """Process id, where this process owns it."""
        return self._server.pid if self._server else None

    def stop(self) -> None:
        """Stop it, if this process owns it."""
        self._stopping.set()
        if self._keeper.is_alive():  # else it never began
            self._keeper.join()
        if self._server is not None:
            self._server.terminate()
            try:
                self._server.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        if self._lock is not None:
            self._lock.close()

    def _keep(self) -> None:
        """Own the Redis as soon as nobody else does, and start it whenever it is not running.

        Runs in a thread that lives as long as the process does, because the Redis is tied to its thread.
        """
        started, short_lives = 0.0, 0
        while not self._stopping.is_set():
            if self._server is not None and self._server.poll() is not None:
                self._server = None
                # at once after a good life; ever later when it dies as soon as it is started
                short_lives = short_lives + 1 if time.monotonic() - started < _SHORT_LIFE_SECONDS else 0
                self._stopping.wait(min(short_lives * _PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS))
            if self._server is None and not self._stopping.is_set() and self._owned():
                self._server, started = self._spawn(), time.monotonic()
            self._stopping.wait(_WATCH_SECONDS)

    def _owned(self) -> bool:
        if self._lock is None:
            lock = open(self.folder / _LOCK, "a")  # noqa: SIM115 - held as long as the process lives
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.close()
                return False
            self._lock = lock
        return True

    def _spawn(self) -> subprocess.Popen[bytes] | None:
        try:
            program = str(redis_server().resolve())
        except EnvironmentGapError:
            return None  # `wait` tells
        self.socket.parent.mkdir(mode=0o700, exist_ok=True)
        settings = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            "appendfsync": "always",
            # as commands alone: a snapshot at its beginning would hold the bytes of deleted stream entries (serving.forget)
            "aof-use-rdb-preamble": "no",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": str(self.folder / "redis.log"),
            "loglevel": "notice",
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        # a session of its own: Ctrl-C is for the server, which lets running requests end first
        # and the lock with it: who takes over after our end waits until this Redis is gone, too; two on the same files lose writes
        assert self._lock is not None
        return subprocess.Popen(
            tied([program, *arguments]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[self._lock.fileno()],
        )

    def _last_line(self) -> str:
        try:
            return (self.folder / "redis.log").read_text(errors="replace").strip().splitlines()[-1]
        except (OSError, IndexError):
            return "nothing"


def _socket_path(folder: Path) -> Path:
    """`folder/redis.sock`, or one under the temporary directory where that path is too long for a socket."""
    path = folder / "redis.sock"
    if len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT:
        return path
    short = hashlib.blake2b(os.fsencode(folder), digest_size=8).hexdigest()
    return Path(tempfile.gettempdir()) / f"aisle-redis-{os.getuid()}-{short}" / "redis.sock"
