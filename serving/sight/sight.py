"""Everything that is seen of one serving process, connected as the settings say."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from serving.config import ServingConfig
from serving.sight.exporter import Exporter
from serving.sight.gauges import Gauges, Parts
from serving.sight.logs import CallLog
from serving.sight.snapshot import Snapshot, SnapshotFile
from serving.sight.traces import Traces
from serving.sight.watching import Report, Watching
from serving.tally import Tally

_WRITE_SECONDS: Final = 1.0
# What is rare, and what an alert waits for.
_BEGIN: Final = (*(("events", o) for o in ("accepted", "duplicate", "spooled")), ("pages", "logged"), ("pages", "dropped"))  # fmt: skip
_BEGIN_TIMED: Final = (("swaps", "ok"), ("swaps", "refused"))


class Sight:
    """Of one process. `folder`: where workers leave what they have to say; None where this process answers scrapes itself."""

    def __init__(self, config: ServingConfig, tally: Tally, folder: Path | None, worker: int) -> None:
        self._config, self._tally, self._worker = config, tally, str(worker)
        self._folder = folder
        self._traces = Traces(config.traces, config.tenant) if config.traces.on else None
        reports: list[Report] = [] if self._traces is None else [self._traces]
        if config.logging.calls:
            reports.append(CallLog(config.logging.calls, config.tenant))
        self.watching = Watching(tally, reports)
        self._gauges: Gauges | None = None
        self._exporter: Exporter | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, parts: Parts) -> None:
        """Answer scrapes, or begin to write for the one who does.

        Raises:
            InputError: It cannot listen where metrics are to be.
        """
        if not self._config.metrics.on:
            return
        self._gauges = Gauges(parts)
        self._tally.expect(_BEGIN, _BEGIN_TIMED)
        if self._folder is None:
            self._exporter = Exporter(self._config.metrics.listen, lambda: [self.snapshot()])
        else:
            file = SnapshotFile(self._folder, self._worker, self.snapshot)
            self._thread = threading.Thread(target=self._write, args=(file,), name="metrics", daemon=True)
            self._thread.start()

    @property
    def address(self) -> str:
        """Where /metrics is, in this process or in the one that started it; empty where it is not."""
        if self._exporter is not None:
            return self._exporter.address
        return self._config.metrics.listen if self._config.metrics.on else ""

    def ready(self, *, yes: bool) -> None:
        """Whether requests are answered."""
        if self._gauges is not None:
            self._gauges.ready(yes=yes)

    def stop(self) -> None:
        """Write a last time, hand over the last traces, and end."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        if self._exporter is not None:
            self._exporter.stop()
        if self._traces is not None:
            self._traces.stop()

    def snapshot(self) -> Snapshot:
        """What holds now."""
        counts, times = self._tally.copy()
        gauges = [] if self._gauges is None else self._gauges.read(self.watching.running)
        return Snapshot(self._worker, self._config.tenant, time.time(), counts, times, gauges)

    def _write(self, file: SnapshotFile) -> None:
        while True:
            last = self._stopping.wait(_WRITE_SECONDS)
            file.write()
            if last:
                return


@contextmanager
def timed_swap(tally: Tally) -> Iterator[None]:
    """How long the block took is noted, and whether it went well."""
    start, outcome = time.perf_counter(), "refused"
    try:
        yield
        outcome = "ok"
    finally:
        tally.note((), (("swaps", (outcome,), time.perf_counter() - start),))
