"""One serving process: opens the release, connects the parts, answers until it is told to stop, and drains."""

from __future__ import annotations

import gc
import logging
import threading
from collections.abc import Callable
from concurrent import futures
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from aisle.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    recommender_pb2,
    recommender_pb2_grpc,
    users_pb2,
    users_pb2_grpc,
)
from core.errors import AisleError, ConfigError, InputError
from core.work import Work
from serving.admin_service import AdminService, Loaded
from serving.board import Board
from serving.catalog import Catalog
from serving.catalog_service import CatalogService
from serving.config import PAGE_KEY, ServingConfig
from serving.event_store import EventStore
from serving.event_writer import EventWriter
from serving.events_service import EventsService
from serving.exploration import Exploration
from serving.health import Health
from serving.keys import Keys
from serving.malformed import Malformed
from serving.materialize import is_materialized, materialize
from serving.online_state import OnlineState
from serving.page_tokens import PageTokens, secret_of
from serving.paging import Paging
from serving.recommender_service import Clock, RecommenderService, wall_clock
from serving.redis_link import RedisLink
from serving.release import Release
from serving.resident import Opened, Resident
from serving.rules.live import LiveRules
from serving.shown import ShownLog
from serving.sight.gauges import Parts
from serving.sight.sight import Sight, timed_swap
from serving.spool import Spool
from serving.stopping import StopSignals
from serving.tally import Tally
from serving.trending import Trending
from serving.users_service import UsersService

_LOG = logging.getLogger(__name__)
_SERVICES = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (recommender_pb2, "Recommender"),
        (events_pb2, "Events"),
        (users_pb2, "Users"),
        (catalog_pb2, "Catalog"),
        (admin_pb2, "Admin"),
    )
)
_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name


@dataclass(frozen=True)
class ProcessOptions:
    """What one process is started with."""

    release: Path
    work: Path
    host: str
    port: int  # 0 picks one
    redis_url: str
    embedded: bool  # the Redis is ours: the user state is loaded into it as needed
    config: ServingConfig
    shared_port: bool = False  # with the other workers
    board: Board | None = None  # where workers agree on the release


class ServingProcess:
    """The parts of a serving process, connected."""

    def __init__(self, options: ProcessOptions, clock: Clock = wall_clock) -> None:
        self._options, config = options, options.config
        self._tally = tally = Tally(detailed=config.metrics.on)
        board = options.board
        self.sight = Sight(config, tally, None if board is None else board.folder, 0 if board is None else board.number)
        self._catalog = catalog = _catalog(options, clock)
        self.resident = Resident.open(options.release, self._prepare, catalog.over if catalog else None)
        self._link = link = RedisLink(options.redis_url, config.redis, tally)
        link.warm()
        keys = Keys(config.tenant)
        self._state = state = OnlineState(link, keys, config.events.live_per_person)
        self._health = Health(_SERVICES)
        self._store = store = EventStore(EventWriter(link, keys, config.events), _spool(options))
        self._log = ShownLog(link, keys, config.log, tally, config.exploration.features_share)
        exploration = Exploration(config.exploration, config.log.share)
        self._trending = Trending(link, keys, config.trending, self.resident, clock)
        rules = config.rules
        self._rules = LiveRules(rules.path, lambda: self.resident.release, clock, rules.refresh_seconds)
        self._server, self.port = _bind(options, self.sight)
        recommender_pb2_grpc.add_RecommenderServicer_to_server(
            RecommenderService(
                self.resident,
                state,
                self._log,
                tally,
                self._trending,
                _paging(options),
                clock,
                self._rules,
                exploration=exploration,
                reply_ms=config.server.reply_ms,
            ),
            self._server,
        )
        events_pb2_grpc.add_EventsServicer_to_server(EventsService(store, config.events, tally, clock), self._server)
        users_pb2_grpc.add_UsersServicer_to_server(UsersService(link, keys), self._server)
        catalog_pb2_grpc.add_CatalogServicer_to_server(CatalogService(catalog, self.resident, clock), self._server)
        admin = AdminService(
            self.resident,
            state,
            link,
            store,
            tally,
            self._trending,
            catalog,
            self.load,
            embedded=options.embedded,
            rules=self._rules,
            metrics_at=lambda: self.sight.address,
        )
        admin_pb2_grpc.add_AdminServicer_to_server(admin, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((*_SERVICES, _HEALTH, reflection.SERVICE_NAME), self._server)

    def start(self) -> None:
        """Begin to answer."""
        threads = self._options.config.server.threads
        self.sight.start(
            Parts(self.resident, self._link, self._store, self._trending, self._catalog, self._rules, threads)
        )
        self._store.start()
        self._log.start()
        self._trending.start()
        self._rules.start()
        if self._catalog is not None:
            self._catalog.start(lambda: self.resident.live)
        # what is there now stays: no collection need look at it again while somebody waits
        gc.collect()
        gc.freeze()
        self._server.start()
        self._health.say(health_pb2.HealthCheckResponse.SERVING)
        self.sight.ready(yes=True)
        self._warn()
        self.resident.check_in_background()
        if self._options.board is not None:
            self._options.board.follow(_Swaps(self._open_next, self._swap))

    def stop(self) -> None:
        """Take no more requests; let the running ones end."""
        config = self._options.config.server
        self._health.say(health_pb2.HealthCheckResponse.NOT_SERVING)
        self.sight.ready(yes=False)
        # gRPC cancels what has arrived and not begun when its server stops: nothing should arrive any more
        threading.Event().wait(config.lame_duck_seconds)
        self._server.stop(config.drain_seconds).wait()
        self._trending.stop()
        self._rules.stop()
        self._log.stop()
        self._store.stop()
        if self._catalog is not None:
            self._catalog.stop()
        self.sight.stop()

    def load(self, path: Path) -> Loaded:
        """Swap to the release at `path`; of several workers all do, or none."""
        with timed_swap(self._tally):
            return self._load(path)

    def _load(self, path: Path) -> Loaded:
        opened, board = self._open_next(path), self._options.board
        if board is None:
            before, workers = self._swap(opened), 1
        else:
            before, workers = board.load(opened.release.path, lambda: self._swap(opened))
        return Loaded(opened.release.name, before.name, workers)

    def _open_next(self, path: Path) -> Opened:
        return self.resident.open_next(path, self._prepare)

    def _swap(self, to: Opened) -> Release:
        before = self.resident.swap(to)
        self._trending.publish()  # what trended before does so in the new one, at once
        return before

    def _prepare(self, release: Release) -> None:
        if self._options.embedded:
            materialize_if_missing(
                self._options.redis_url, self._options.config.tenant, Work(self._options.work), release
            )

    def _warn(self) -> None:
        """Say what an operator would want to know of the Redis."""
        release = self.resident.base
        if not self._state.holds(release):
            _LOG.warning(
                "Redis at %s lacks the user state of %s (%s): answers are degraded",
                self._link.address,
                release.name,
                self._link.failure or "run `./aisle materialize`",
            )
        elif not self._link.durable():
            _LOG.warning(
                "Redis at %s confirms events before they are on disk (set appendonly yes, appendfsync always): %s",
                self._link.address,
                "writing events is refused" if _spool_folder(self._options) is None else "they go to the spool first",
            )


class _Swaps:
    """What the board asks of this process."""

    def __init__(self, open_next: Callable[[Path], Opened], swap: Callable[[Opened], Release]) -> None:
        self._open_next, self._swap = open_next, swap
        self._opened: Opened | None = None

    def prepare(self, path: Path) -> None:
        """See serving.board.Swaps."""
        self._opened = None  # never two of them beside the one that answers
        self._opened = self._open_next(path)

    def swap(self) -> None:
        """See serving.board.Swaps."""
        assert self._opened is not None
        self._swap(self._opened)
        self._opened = None

    def drop(self) -> None:
        """See serving.board.Swaps."""
        self._opened = None


def materialize_if_missing(url: str, tenant: str, work: Work, release: Release) -> None:
    """Load the user state of `release` into our own Redis when it is not there. Without it answers are degraded, so nothing here is fatal."""
    window_end, events = release.window_end, release.settings.history_events
    try:
        if not is_materialized(url, tenant, window_end, release.state_id, events):
            done = materialize(url, tenant, work.user_state(window_end), window_end, release.state_id, events)
            _LOG.warning("loaded the histories of %d people into Redis in %.1f s", done.users, done.seconds)
    except AisleError as e:
        _LOG.warning("answers do without the histories of %s: %s", release.name, e)


def run(options: ProcessOptions, ready: Callable[[int], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the port once requests are answered."""
    signals = StopSignals()
    process = ServingProcess(options)
    process.start()
    ready(process.port)
    signals.wait()
    process.stop()


def _spool_folder(options: ProcessOptions) -> Path | None:
    return options.config.events.spool_folder(options.work)


def _spool(options: ProcessOptions) -> Spool | None:
    folder = _spool_folder(options)
    return None if folder is None else Spool(folder, round(options.config.events.spool_mb * 1_000_000))


def _catalog(options: ProcessOptions, clock: Clock) -> Catalog | None:
    config = options.config.catalog
    folder = config.log_folder(options.work)
    return None if folder is None else Catalog(folder, config, clock)


def _paging(options: ProcessOptions) -> Paging:
    """Lists whose tokens every worker of this server opens, and every server with the same key file."""
    config = options.config.paging
    ours = None if options.board is None else options.board.folder / PAGE_KEY
    try:
        secret = secret_of(config.key_file(options.work) or ours)
    except ConfigError as e:
        if config.key != "work":
            raise
        _LOG.warning("%s; lists of several pages end with this server", e)
        secret = secret_of(ours)
    return Paging(PageTokens(secret, options.config.tenant, config.hours))


def _bind(options: ProcessOptions, sight: Sight) -> tuple[grpc.Server, int]:
    """A server on its port, not yet answering."""
    pool = futures.ThreadPoolExecutor(options.config.server.threads, "rpc")
    # without this option gRPC lets two servers share a port by accident, and each gets half of the requests
    server = grpc.server(
        pool, interceptors=[sight.watching, Malformed()], options=[("grpc.so_reuseport", int(options.shared_port))]
    )
    try:
        return server, server.add_insecure_port(f"{options.host}:{options.port}")
    except RuntimeError:
        raise InputError(
            f"--listen {options.host}:{options.port}: cannot listen there: taken, not of this machine, or not allowed"
        ) from None
