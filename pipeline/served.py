"""`./aisle serve` in a process of its own: how the demo and the benchmarks start it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from core.errors import AisleError
from serving.tether import tied

_STOP_SECONDS = 60.0


class Served:
    """A running service on a port of its own, with its own Redis unless told otherwise. Use it in a `with` block, or stop it."""

    def __init__(self, release: Path, *options: object, stderr: IO[Any] | int | None = None) -> None:
        """Start it, and return when requests are answered.

        Args:
            release: A release directory, or WORK/releases/current.
            options: More of the command line, such as "--workers", 2.
            stderr: Where its words go; None: where ours go.

        Raises:
            AisleError: It ended before it was ready.
        """
        command = [sys.executable, "-m", "cli", "serve", "--release", release, "--listen", "127.0.0.1:0", *options]
        # tied: it ends with us, however we end
        self.process = subprocess.Popen(
            tied([str(c) for c in command]), stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait()
            raise AisleError(f"the server ended with exit code {code} before it was ready; its words are above")
        said: dict[str, Any] = json.loads(line)
        self.address, self.release = str(said["listening"]), str(said["release"])
        self.ready_seconds = float(said["ready_seconds"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> int:
        """SIGTERM, and its exit code once it has ended; running requests end first."""
        self.process.terminate()
        try:
            return self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()
