"""`serve` as a process of its own, for tests."""

# bazel: imports=[cli.*]

import json
import os
import signal
import subprocess
import sys

import psutil


class Served:
    """`serve` as a process of its own."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "cli", "serve", "--listen", "127.0.0.1:0", *arguments]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.communicate()[1]
        self.ready = json.loads(line)
        self.address = self.ready["listening"]

    def stop(self) -> str:
        """SIGTERM to the group, as a service manager does; what it said on stderr."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
        _, said = self.process.communicate(timeout=30)
        return said


def children(pid: int) -> list[int]:
    """Process ids below `pid`."""
    return [below.pid for below in psutil.Process(pid).children(recursive=True)]
