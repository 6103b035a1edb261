"""Runs a command and watches its whole process tree: wall seconds, CPU seconds of the tree, peak of its resident memory."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import psutil

from core.errors import AisleError

_EVERY_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Cost:
    """What a command took."""

    seconds: float
    cpu_seconds: float  # user and system, of all processes of the tree
    peak_gb: float  # most resident memory of all processes of the tree at one moment
    stdout: str


def run(command: Sequence[str]) -> Cost:
    """Run `command` to its end; its standard error goes where ours goes.

    Raises:
        AisleError: It failed.
    """
    start, cpu = time.perf_counter(), _children_cpu()
    with tempfile.TemporaryFile("w+") as out:
        child = subprocess.Popen(command, stdout=out)
        ended, peaks = threading.Event(), [0.0]

        def watch() -> None:
            while not ended.wait(_EVERY_SECONDS):
                peaks.append(_resident_gb(child.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            code = child.wait()
        finally:
            ended.set()
            watcher.join()
        seconds = time.perf_counter() - start
        out.seek(0)
        stdout = out.read()
    if code:
        raise AisleError(f"{' '.join(command)}: ended with {code}")
    return Cost(round(seconds, 2), round(_children_cpu() - cpu, 1), round(max(peaks), 2), stdout)


def aisle(*arguments: object) -> list[str]:
    """The command line of one of our own commands, in this environment."""
    return [sys.executable, "-m", "cli", *map(str, arguments)]


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _resident_gb(pid: int) -> float:
    try:
        root = psutil.Process(pid)
        processes = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0.0
    total = 0
    for process in processes:
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total / 1e9
