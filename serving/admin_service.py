"""aisle.v1.Admin: what this server runs and how it fares; loading another release."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from os import getpid
from pathlib import Path

import grpc

from aisle.v1 import admin_pb2 as pb
from aisle.v1 import admin_pb2_grpc
from serving.catalog import Catalog
from serving.event_store import EventStore
from serving.experiments import LiveExperiments
from serving.online_state import OnlineState
from serving.redis_link import RedisLink
from serving.refusals import guarded
from serving.resident import Resident
from serving.rules.live import LiveRules
from serving.sight.metric_list import METRICS_AT
from serving.tally import Tally
from serving.trending import Trending
from serving.validation import Problems

# None of these is in the dependencies of a serving host.
HEAVY_MODULES = ("tensorflow", "tensorflow_recommenders", "tf_keras", "pyspark", "pandas", "feast", "pyarrow", "duckdb")
_PATH_BYTES = 4_095  # the kernel's limit


@dataclass(frozen=True)
class Loaded:
    """What came of loading a release."""

    release: str
    previous: str
    workers: int


class AdminService(admin_pb2_grpc.AdminServicer):
    """For operators."""

    def __init__(
        self,
        resident: Resident,
        state: OnlineState,
        link: RedisLink,
        store: EventStore,
        tally: Tally,
        trending: Trending,
        catalog: Catalog | None,
        load: Callable[[Path], Loaded],
        *,
        embedded: bool,
        rules: LiveRules | None = None,
        experiments: LiveExperiments | None = None,
        metrics_at: str = "",
    ) -> None:
        self._resident, self._state, self._link, self._store, self._tally = resident, state, link, store, tally
        self._load, self._embedded, self._started = load, embedded, time.monotonic()
        self._trending, self._catalog, self._rules, self._experiments = trending, catalog, rules, experiments
        self._metrics_at = metrics_at

    @guarded
    def GetStatus(self, request: pb.GetStatusRequest, context: grpc.ServicerContext) -> pb.GetStatusResponse:  # noqa: N802
        """See the proto."""
        context.set_trailing_metadata(((METRICS_AT, self._metrics_at),))
        release = self._resident.release
        window_start, window_end = release.manifest.about["window"]
        user_state = self._state.holds(release)  # asked first: it tries the connection that `state` speaks of
        redis = pb.RedisStatus(
            state=self._link.failure or "up",
            address=self._link.address,
            embedded=self._embedded,
            durable=self._link.durable(),
            user_state=user_state,
        )
        events = self._tally.of("events")
        return pb.GetStatusResponse(
            release=release.name,
            release_path=str(release.path),
            window_start=window_start,
            window_end=window_end,
            integrity=self._resident.integrity,
            levels=self._tally.of("answers", 1),
            degraded=self._tally.of("degraded"),
            events_accepted=events.get("accepted", 0),
            events_duplicate=events.get("duplicate", 0),
            redis=redis,
            uptime_seconds=time.monotonic() - self._started,
            pid=getpid(),
            heavy_modules=[m for m in HEAVY_MODULES if m in sys.modules],
            events_spooled=events.get("spooled", 0),
            spool_bytes=self._store.spool_bytes,
            pages=self._tally.of("pages"),
            trending=pb.TrendingStatus(items=self._trending.items, age_seconds=self._trending.age_seconds),
            catalog=self._catalog_status(),
            rules=self._rules_status(),
            exploration=self._tally.of("exploration"),
            experiments=None if self._experiments is None else self._experiments.status(),
        )

    def _rules_status(self) -> pb.RulesStatus:
        live = self._rules
        if live is None or live.folder is None:
            return pb.RulesStatus()
        held = live.rules.set
        return pb.RulesStatus(
            id=held.id,
            folder=str(live.folder),
            rules=len(held.rules),
            files=held.files,
            problem=live.problem,
            off=[str(problem) for problem in live.off()],
        )

    def _catalog_status(self) -> pb.CatalogStatus:
        live = self._resident.live
        if self._catalog is None or live is None:
            return pb.CatalogStatus(state="none")
        counts = live.counts()
        return pb.CatalogStatus(
            state=self._catalog.failure or "up",
            sequence=counts.sequence,
            release_sequence=live.seen,
            new_items=counts.new,
            changed_items=counts.changed,
            deleted_items=counts.deleted,
            waiting_items=counts.waiting,
            log_bytes=self._catalog.log_bytes,
        )

    @guarded
    def LoadRelease(self, request: pb.LoadReleaseRequest, context: grpc.ServicerContext) -> pb.LoadReleaseResponse:  # noqa: N802
        """See the proto."""
        problems, start = Problems(), time.perf_counter()
        problems.text("path", request.path, required=True, most=_PATH_BYTES)
        if "\0" in request.path:
            problems.add("path", "has a NUL character, which no path has")
        problems.refuse()
        loaded = self._load(Path(request.path))
        return pb.LoadReleaseResponse(
            release=loaded.release,
            previous=loaded.previous,
            seconds=time.perf_counter() - start,
            workers=loaded.workers,
        )
