"""What holds in a process now: read when somebody looks, never on the path of a request."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from serving.catalog import Catalog
from serving.event_store import EventStore
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
    threads: int


class Gauges:
    """Of one process."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._started = time.time()
        self._release, self._loaded = parts.resident.base, self._started
        self._ready = threading.Event()

    def ready(self, *, yes: bool) -> None:
        """Whether requests are answered."""
        if yes:
            self._ready.set()
        else:
            self._ready.clear()

    def read(self, running: int) -> list[Gauge]:
        """All of them; `running`: calls under way."""
        p = self._parts
        return [
            ("ready", (), float(self._ready.is_set())),
            ("start_time_seconds", (), self._started),
            ("requests_running", (), running),
            ("threads_serving", (), p.threads),
            *self._of_release(),
            ("redis_up", (), float(p.link.failure is None)),
            ("redis_paused", (), float(p.link.paused)),
            ("spool_bytes", (), p.store.spool_bytes),
            ("trending_items", (), p.trending.items),
            *([("trending_age_seconds", (), p.trending.age_seconds)] if p.trending.runs else []),
            *self._of_catalog(),
            *self._of_rules(),
            *of_process(),
        ]

    def _of_release(self) -> list[Gauge]:
        release, now = self._parts.resident.base, time.time()
        if release is not self._release:
            self._release, self._loaded = release, now
        return [
            ("release_info", (release.name,), 1),
            ("release_window_end_seconds", (), release.window_end / 1e6),
            ("release_loaded_seconds", (), self._loaded),
            ("release_intact", (), float(self._parts.resident.integrity in ("stamp", "verified"))),
            ("items", (), int(np.count_nonzero(self._parts.resident.release.available))),
        ]

    def _of_catalog(self) -> list[Gauge]:
        live, catalog = self._parts.resident.live, self._parts.catalog
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
        live = self._parts.rules
        if live.folder is None:
            return []
        off = len(live.off())
        return [
            ("rules_readable", (), float(not live.problem)),
            ("rules", ("on",), len(live.rules.set.rules) - off),
            ("rules", ("off",), off),
        ]


def of_process() -> list[Gauge]:
    """Memory and CPU time, as the kernel says."""
    status = Path("/proc/self/status").read_text().splitlines()
    memory = [line.split() for line in status if line.split()[0] in _KINDS]
    used = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return [
        *(("memory_bytes", (_KINDS[name],), 1024.0 * int(kb)) for name, kb, _ in memory),
        ("cpu_seconds", (), (int(used[11]) + int(used[12])) / _TICKS),
    ]
