"""What holds in a process now: read when somebody looks, never on the path of a request."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from experiments.stops import read_stop
from serving.catalog import Catalog
from serving.event_store import EventStore
from serving.experiments import LiveExperiments
from serving.redis_link import RedisLink
from serving.resident import Resident
from serving.rules.live import LiveRules
from serving.sight.snapshot import Gauge
from serving.trending import Trending

_TICKS = os.sysconf("SC_CLK_TCK")
_KINDS = {"VmRSS:": "resident", "RssAnon:": "anonymous"}


@dataclass(frozen=True)
class Parts:
    """What is looked at."""

    resident: Resident
    link: RedisLink
    store: EventStore
    trending: Trending
    catalog: Catalog | None
    rules: LiveRules
    experiments: LiveExperiments | None = None


class Gauges:
    """Of one process; `parts`: of the tenants that are open, by name."""

    def __init__(self, parts: Callable[[], dict[str, Parts]], threads: int) -> None:
        self._parts, self._threads = parts, threads
        self._started = time.time()
        self._of_tenant: dict[str, _OfTenant] = {}
        self._ready = threading.Event()

    def ready(self, *, yes: bool) -> None:
        """Whether requests are answered."""
        if yes:
            self._ready.set()
        else:
            self._ready.clear()

    def read(self, common: str, running: int) -> dict[str, list[Gauge]]:
        """All of them by tenant, those of the process with the one named `common`; `running`: calls under way."""
        found: dict[str, list[Gauge]] = {common: []}
        for name, parts in self._parts().items():
            known = self._of_tenant.get(name)
            if known is None or known.parts is not parts:
                known = self._of_tenant[name] = _OfTenant(parts)
            found[name] = known.read()
        link = next((parts.link for parts in self._parts().values()), None)
        found[common] = [
            ("ready", (), float(self._ready.is_set())),
            ("start_time_seconds", (), self._started),
            ("requests_running", (), running),
            ("threads_serving", (), self._threads),
            *([] if link is None else [("redis_up", (), float(link.failure is None))]),
            *([] if link is None else [("redis_paused", (), float(link.paused))]),
            *of_process(),
            *found[common],
        ]
        return found


class _OfTenant:
    """Of the parts of one tenant."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self._release, self._loaded = parts.resident.base, time.time()

    def read(self) -> list[Gauge]:
        """All of them."""
        p = self.parts
        return [
            *self._of_release(),
            ("spool_bytes", (), p.store.spool_bytes),
            ("trending_items", (), p.trending.items),
            *([("trending_age_seconds", (), p.trending.age_seconds)] if p.trending.runs else []),
            *self._of_catalog(),
            *self._of_rules(),
            *([] if p.experiments is None else of_experiments(p.experiments)),
        ]

    def _of_release(self) -> list[Gauge]:
        release, now = self.parts.resident.base, time.time()
        if release is not self._release:
            self._release, self._loaded = release, now
        return [
            ("release_info", (release.name,), 1),
            ("release_window_end_seconds", (), release.window_end / 1e6),
            ("release_loaded_seconds", (), self._loaded),
            ("release_intact", (), float(self.parts.resident.integrity in ("stamp", "verified"))),
            ("items", (), int(np.count_nonzero(self.parts.resident.release.available))),
        ]

    def _of_catalog(self) -> list[Gauge]:
        live, catalog = self.parts.resident.live, self.parts.catalog
        if live is None or catalog is None:
            return []
        counts = live.counts()
        states = {"new": counts.new, "changed": counts.changed, "deleted": counts.deleted, "waiting": counts.waiting}
        return [
            ("catalog_up", (), float(not catalog.failure)),
            ("catalog_sequence", (), counts.sequence),
            ("catalog_log_bytes", (), catalog.log_bytes),
            *(("catalog_items", (state,), n) for state, n in states.items()),
        ]

    def _of_rules(self) -> list[Gauge]:
        live = self.parts.rules
        if live.folder is None:
            return []
        off = len(live.off())
        return [
            ("rules_readable", (), float(not live.problem)),
            ("rules", ("on",), len(live.rules.set.rules) - off),
            ("rules", ("off",), off),
        ]


def of_experiments(live: LiveExperiments) -> list[Gauge]:
    """Which releases of arms are open, and which experiments a server stopped by itself."""
    found: list[Gauge] = []
    for status in live.status().experiments:
        if status.state in ("running", "opening"):
            found += [("arm_open", (status.name, arm), float(said == "open")) for arm, said in status.releases.items()]
        elif status.state == "stopped" and (stop := read_stop(live.folder, status.name)) is not None:
            found.append(("experiment_stopped", (status.name, stop.arm, stop.guard), 1.0))
    return found


def of_process() -> list[Gauge]:
    """Memory and CPU time, as the kernel says."""
    status = Path("/proc/self/status").read_text().splitlines()
    memory = [line.split() for line in status if line.split()[0] in _KINDS]
    used = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return [
        *(("memory_bytes", (_KINDS[name],), 1024.0 * int(kb)) for name, kb, _ in memory),
        ("cpu_seconds", (), (int(used[11]) + int(used[12])) / _TICKS),
    ]
