"""Everything that is seen of one serving process, connected as the settings say."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from serving.board import Board
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
    """Of one process, which answers for one tenant or several.

    Args:
        config: The settings.
        tenants: Their names.
        board: Of the workers that share a port, whose folder takes what each has to say; None where this process answers scrapes itself.

    Raises:
        InputError: It cannot listen where metrics are to be.
    """

    def __init__(self, config: ServingConfig, tenants: Sequence[str], board: Board | None) -> None:
        self.tallies: dict[str, Tally] = {name: Tally(detailed=config.metrics.on) for name in tenants}
        # of what tenants share: Redis, calls of nobody that we know
        self._common = tenants[0] if len(tenants) == 1 else ""
        self.shared = self.tallies.get(self._common) or Tally(detailed=config.metrics.on)
        self._traces = Traces(config.traces) if config.traces.on else None
        reports: list[Report] = [] if self._traces is None else [self._traces]
        if config.logging.calls:
            reports.append(CallLog(config.logging.calls))
        self.watching = Watching({**self.tallies, self._common: self.shared}, self._common, reports)
        self._worker = "0" if board is None else str(board.number)
        self._folder = None if board is None else board.folder
        self._gauges: Gauges | None = None
        self._exporter: Exporter | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        if config.metrics.on and board is None:
            self._exporter = Exporter(config.metrics.listen, self.snapshots)
            config = config.with_metrics(self._exporter.address)
        self.config = config
        """The settings, with the port that metrics have."""

    def start(self, parts: Callable[[], dict[str, Parts]], threads: int) -> None:
        """Look at the parts of the tenants that are open, and write what there is to say for whoever answers scrapes."""
        if not self.config.metrics.on:
            return
        self._gauges = Gauges(parts, threads)
        for tally in self.tallies.values():
            tally.expect(_BEGIN, _BEGIN_TIMED)
        if self._folder is not None:
            file = SnapshotFile(self._folder, self._worker, self.snapshots)
            self._thread = threading.Thread(target=self._write, args=(file,), name="metrics", daemon=True)
            self._thread.start()

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

    def snapshots(self) -> list[Snapshot]:
        """What holds now, one for each tenant; the first has what they share."""
        found, gauges = [], {} if self._gauges is None else self._gauges.read(self._common, self.watching.running)
        for name, tally in {self._common: self.shared, **self.tallies}.items():
            counts, times = tally.copy()
            found.append(Snapshot(self._worker, name, time.time(), counts, times, gauges.get(name, [])))
        return found

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
