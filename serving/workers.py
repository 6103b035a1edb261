"""A whole server: the embedded Redis where there is no other, and one process or several on one port."""

# bazel: imports=[serving.worker]

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path

from core.errors import InputError
from serving import process
from serving.config import ServingConfig
from serving.embedded_redis import EmbeddedRedis
from serving.process import ProcessOptions
from serving.sight.exporter import Exporter
from serving.sight.snapshot import Gauge, read_all
from serving.stopping import StopSignals
from serving.tenants_file import TenantSpec
from serving.tether import tied

_LOG = logging.getLogger(__name__)
_RESTART_SECONDS = 0.5

Ready = Callable[[int], None]


@dataclass(frozen=True)
class ServeOptions:
    """What `serve` is asked."""

    release: Path
    listen: str
    work: Path
    redis_url: str | None
    workers: int
    config: ServingConfig
    tenants: tuple[TenantSpec, ...] = ()


def serve(options: ServeOptions, ready: Ready) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the port once requests are answered."""
    host, port = parse_listen(options.listen)
    with ExitStack() as stack:
        url = options.redis_url
        if url is None:
            embedded = EmbeddedRedis(options.work / "redis")
            stack.callback(embedded.stop)
            embedded.launch()
            embedded.wait()
            url = embedded.url
        one = ProcessOptions(options.release, options.work, host, port, url, options.redis_url is None, options.config)
        one = replace(one, tenants=options.tenants)
        if options.workers == 1:
            process.run(one, ready)
        else:
            board = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aisle-board-")))
            Supervisor(one, options.workers, board).run(ready)


class Supervisor:
    """Starts the workers, starts those again that die, and stops them all."""

    def __init__(self, options: ProcessOptions, workers: int, board: Path) -> None:
        self._options, self._workers, self._board = options, workers, board
        self._running: dict[int, subprocess.Popen[str]] = {}
        self._restarts = 0

    def run(self, ready: Ready) -> None:
        """Until SIGTERM or SIGINT."""
        signals = StopSignals()
        with closing(_reserved(self._options.host, self._options.port)) as reserved:
            port = reserved.getsockname()[1]
            self._options = replace(self._options, port=port)
            exporter = self._exporter()
            try:
                # the first loads the user state that the others then find
                for some in ([0], range(1, self._workers)):
                    for number in some:
                        self._start(number)
                    for number in some:
                        self._wait_ready(number)
                ready(port)
                while not signals.wait(_RESTART_SECONDS):
                    self._restart_dead()
            finally:
                self._stop()
                if exporter is not None:
                    exporter.stop()

    def _exporter(self) -> Exporter | None:
        """Answers scrapes from what the workers leave beside the board; they are told where."""
        config = self._options.config
        if not config.metrics.on:
            return None
        found = Exporter(config.metrics.listen, lambda: read_all(self._board), self._gauges)
        self._options = replace(self._options, config=config.with_metrics(found.address))
        return found

    def _gauges(self) -> list[Gauge]:
        return [("worker_restarts", (), self._restarts)]

    def _start(self, number: int) -> None:
        about = {
            "release": str(self._options.release.resolve()),
            "work": str(self._options.work),
            "host": self._options.host,
            "port": self._options.port,
            "redis_url": self._options.redis_url,
            "embedded": self._options.embedded,
            "config": self._options.config.model_dump(mode="json"),
            "tenants": [spec.model_dump(mode="json") for spec in self._options.tenants],
            "board": [str(self._board), number, self._workers],
        }
        # the settings go through a pipe: the URL may hold a password, and arguments are for everyone to read
        worker = subprocess.Popen(
            tied([sys.executable, "-m", "serving.worker"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert worker.stdin is not None
        with worker.stdin as pipe:
            pipe.write(json.dumps(about))
        self._running[number] = worker

    def _wait_ready(self, number: int) -> None:
        worker = self._running[number]
        assert worker.stdout is not None
        line = worker.stdout.readline()
        if not line:
            raise InputError(f"worker {number} did not start (exit {worker.wait()}); see above")
        if problem := json.loads(line).get("error"):
            raise InputError(problem)

    def _restart_dead(self) -> None:
        for number, worker in list(self._running.items()):
            if worker.poll() is not None:
                _LOG.error("worker %d ended with %s: starting it again", number, worker.returncode)
                self._restarts += 1
                self._start(number)

    def _stop(self) -> None:
        for worker in self._running.values():
            worker.terminate()
        for worker in self._running.values():
            try:
                config = self._options.config.server
                worker.wait(config.lame_duck_seconds + config.drain_seconds + 5)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def parse_listen(listen: str) -> tuple[str, int]:
    """HOST and PORT.

    >>> parse_listen("127.0.0.1:0"), parse_listen("[::]:50051")
    (('127.0.0.1', 0), ('[::]', 50051))
    """
    host, colon, port = listen.rpartition(":")
    if not (colon and host and port.isdecimal() and int(port) < 65536):
        raise InputError(f"--listen {listen}: expected HOST:PORT, such as 127.0.0.1:50051; port 0 picks one")
    return host, int(port)


def _reserved(host: str, port: int) -> socket.socket:
    """A port that stays ours for the workers to share: bound, never listening, so that no request ever comes here."""
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        found.bind((bare, port))
    except OSError as e:
        found.close()
        raise InputError(f"--listen {host}:{port}: cannot listen there: {os.strerror(e.errno or 0)}") from None
    return found
