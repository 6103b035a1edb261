"""What one process has to say to whoever reads the metrics, as a value and as a file; and several of these as one.

Workers write theirs into the folder that they share once a second, and the process that started them answers scrapes from the files: whichever worker
a scrape would reach, it shows all. A worker that is started again goes on from the counts of the one before it, so sums never fall: what it loses is the
last second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from serving.tally import Counts, Labels, Times

Gauge = tuple[str, Labels, float]
_STALE_SECONDS: Final = 10.0


@dataclass
class Snapshot:
    """Counts, times and gauges of one process (or of several)."""

    worker: str
    tenant: str
    at: float  # seconds since the epoch
    counts: Counts = field(default_factory=dict)
    times: Times = field(default_factory=dict)
    gauges: list[Gauge] = field(default_factory=list)

    def add(self, other: Snapshot) -> None:
        """Sum up its counts and times."""
        for name, of in other.counts.items():
            mine = self.counts.setdefault(name, {})
            for labels, n in of.items():
                mine[labels] = mine.get(labels, 0) + n
        for name, held in other.times.items():
            ours = self.times.setdefault(name, {})
            for labels, values in held.items():
                known = ours.get(labels)
                ours[labels] = list(values) if known is None else [a + b for a, b in zip(known, values, strict=True)]

    @property
    def fresh(self) -> bool:
        """Whether its process said this lately."""
        return time.time() - self.at < _STALE_SECONDS

    def plain(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "worker": self.worker,
            "tenant": self.tenant,
            "at": self.at,
            "counts": [[n, k, v] for n, of in self.counts.items() for k, v in of.items()],
            "times": [[n, k, v] for n, of in self.times.items() for k, v in of.items()],
            "gauges": self.gauges,
        }

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Snapshot:
        """What `plain` said."""
        one = cls(plain["worker"], plain["tenant"], plain["at"])
        for name, labels, n in plain["counts"]:
            one.counts.setdefault(name, {})[tuple(labels)] = n
        for name, labels, values in plain["times"]:
            one.times.setdefault(name, {})[tuple(labels)] = values
        one.gauges = [(name, tuple(labels), value) for name, labels, value in plain["gauges"]]
        return one


class SnapshotFile:
    """The file of one worker in the folder that all share."""

    def __init__(self, folder: Path, worker: str, take: Callable[[], Sequence[Snapshot]]) -> None:
        self._path, self._take = folder / f"metrics-{worker}.json", take
        # of the worker whose place this one takes
        self._before = {one.tenant: one for one in (_read(self._path) if self._path.exists() else ())}

    def write(self) -> None:
        """Put what holds now in place of what is there. A reader sees one or the other; nothing here outlives a crash of the machine."""
        now = self._take()
        for one in now:
            if one.tenant in self._before:
                one.add(self._before[one.tenant])
        beside = self._path.with_suffix(".new")
        beside.write_bytes(orjson.dumps([one.plain() for one in now]))
        os.replace(beside, self._path)


def read_all(folder: Path) -> list[Snapshot]:
    """Of every worker that wrote some, by its number."""
    return [one for path in sorted(folder.glob("metrics-*.json")) for one in _read(path)]


def _read(path: Path) -> list[Snapshot]:
    return [Snapshot.of(plain) for plain in orjson.loads(path.read_bytes())]


def by_tenant(snapshots: Iterable[Snapshot]) -> dict[str, Snapshot]:
    """Counts and times summed over the workers, for each tenant; no gauges."""
    found: dict[str, Snapshot] = {}
    for one in snapshots:
        if one.tenant not in found:
            found[one.tenant] = Snapshot("", one.tenant, one.at)
        found[one.tenant].add(one)
    return found
