"""What answers for one tenant: its release, its part of the user state, its logs, rules and catalog, and the services over them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from aisle.v1 import admin_pb2_grpc, catalog_pb2_grpc, events_pb2_grpc, recommender_pb2_grpc, users_pb2_grpc
from core.errors import ConfigError
from core.work import Work
from experiments.releases import finder
from serving.admin_service import AdminService, Loaded
from serving.arms.arms import Arms
from serving.arms.at_work import AtWork
from serving.arms.open_releases import OpenReleases
from serving.arms.shadow import Shadows
from serving.arms.watch import ArmWatch
from serving.caller import ForbiddenError
from serving.catalog import Catalog
from serving.catalog_service import CatalogService
from serving.config import PAGE_KEY
from serving.event_store import EventStore
from serving.event_writer import EventWriter
from serving.events_service import EventsService
from serving.experiments import LiveExperiments
from serving.exploration import Exploration
from serving.keys import Keys
from serving.learning import Learning
from serving.method_table import MethodTable
from serving.online_state import OnlineState
from serving.page_tokens import PageTokens, secret_of
from serving.paging import Paging
from serving.process_options import ProcessOptions
from serving.recommender_service import Clock, RecommenderService
from serving.redis_link import RedisLink
from serving.release import Release
from serving.resident import Opened, Resident
from serving.rules.live import LiveRules
from serving.shown import ShownLog
from serving.sight.gauges import Parts
from serving.sight.sight import timed_swap
from serving.spool import Spool
from serving.state_loading import materialize_if_missing
from serving.tally import Tally
from serving.trending import Trending
from serving.turns import Turns
from serving.users_service import UsersService

_LOG = logging.getLogger(__name__)


class TenantParts:
    """The parts of one tenant, connected. `methods` are the calls that it answers.

    Args:
        options: Of the process, with this tenant's release, work directory, board and settings.
        link: To the Redis that all tenants share.
        turns: At the processor, which they share too.
        clock: Microseconds.
        tally: Counts what they do.
    """

    def __init__(
        self, options: ProcessOptions, link: RedisLink, turns: Turns, clock: Clock, tally: Tally | None = None
    ) -> None:
        self._options, self._link, self._turns = options, link, turns
        self._tally, config = tally or Tally(), options.config
        self._catalog = catalog = _catalog(options, clock)
        self.resident = Resident.open(options.release, self._prepare, catalog.over if catalog else None)
        keys = Keys(config.tenant)
        board, kept = options.board, config.experiments
        self._at_work = AtWork(None if board is None else board.folder / f"arms-{board.number}")
        opened = self._open_releases = OpenReleases(
            self.resident, self.open_next, self._lacks, kept.releases, kept.refresh_seconds, self._at_work
        )
        find = finder(Work(options.work).releases, confined=options.confined)
        experiments = LiveExperiments(config.experiments, config.tenant, self._tally, clock, opened, find)
        self._experiments = experiments
        self._learning = Learning(link, config, options.work, lambda: experiments.bandits, self._tally, clock)
        experiments.learn_by(self._learning)
        self._state = OnlineState(link, keys, config.events.live_per_person, lambda: experiments.tags)
        self._store = EventStore(EventWriter(link, keys, config.events, self._learning.feedback), _spool(options))
        self._log = ShownLog(link, keys, config.log, self._tally, config.exploration.features_share)
        self._trending = Trending(link, keys, config.trending, self.resident, clock, opened.every)
        rules = config.rules
        self.rules = LiveRules(rules.path, lambda: self.resident.release, clock, rules.refresh_seconds)
        shadows = ShownLog(link, keys, config.log, self._tally, stream=keys.shadows)
        self._shadows = Shadows(shadows, config.experiments.shadow_queue, self._tally)
        self._watch = ArmWatch(link, keys, experiments)
        self.seen = Parts(self.resident, link, self._store, self._trending, self._catalog, self.rules, experiments)
        self.methods = self._services(keys, clock)

    def _services(self, keys: Keys, clock: Clock) -> MethodTable:
        config, tally = self._options.config, self._tally
        table: Any = MethodTable()
        recommender = RecommenderService(
            self.resident,
            self._state,
            self._turns,
            self._log,
            tally,
            self._trending,
            _paging(self._options),
            clock,
            self.rules,
            exploration=Exploration(config.exploration, config.log.share),
            reply_ms=config.server.reply_ms,
            experiments=self._experiments,
            arms=Arms(self._open_releases, self._watch, self._shadows, self._at_work),
        )
        admin = AdminService(
            self.resident,
            self._state,
            self._link,
            self._store,
            tally,
            self._trending,
            self._catalog,
            self.load,
            embedded=self._options.embedded,
            rules=self.rules,
            experiments=self._experiments,
            metrics_at=config.metrics.listen if config.metrics.on else "",
        )
        events = EventsService(self._store, config.events, tally, clock, self._watch)
        recommender_pb2_grpc.add_RecommenderServicer_to_server(recommender, table)
        events_pb2_grpc.add_EventsServicer_to_server(events, table)
        users_pb2_grpc.add_UsersServicer_to_server(UsersService(self._link, keys), table)
        catalog_pb2_grpc.add_CatalogServicer_to_server(CatalogService(self._catalog, self.resident, clock), table)
        admin_pb2_grpc.add_AdminServicer_to_server(admin, table)
        return table  # type: ignore[no-any-return]

    def start(self) -> None:
        """Begin what runs beside the answers."""
        self._store.start()
        self._log.start()
        self._trending.start()
        self.rules.start()
        if self._options.board is not None:
            self._watch.blame(self._at_work.left, self._options.board.number)
        self._experiments.start()
        self._learning.start()
        if self._experiments.folder is not None:
            self._shadows.start()
            self._watch.start()
        if self._catalog is not None:
            self._catalog.start(lambda: self.resident.live)

    def look_after(self) -> None:
        """What is done once requests are answered: say what an operator should know, hash the release again."""
        self._warn()
        self.resident.check_in_background()

    def stop(self) -> None:
        """End it; requests are over."""
        self._trending.stop()
        self.rules.stop()
        if self._experiments.folder is not None:
            self._watch.stop()
            self._shadows.stop()
        self._experiments.stop()
        self._learning.stop()
        self._log.stop()
        self._store.stop()
        if self._catalog is not None:
            self._catalog.stop()

    def load(self, path: Path) -> Loaded:
        """Swap to the release at `path`; of several workers all do, or none.

        Raises:
            ForbiddenError: This tenant may only load releases of its own work directory.
            AisleError: It does not fit.
        """
        with timed_swap(self._tally):
            return self._load(path)

    def _load(self, path: Path) -> Loaded:
        releases = Work(self._options.work).releases.resolve()
        if self._options.confined and releases not in path.resolve().parents:
            raise ForbiddenError(f"path: is not one of the releases of tenant {self._options.config.tenant}")
        opened, board = self.open_next(path), self._options.board
        if board is None:
            before, workers = self.swap(opened), 1
        else:
            before, workers = board.load(opened.release.path, lambda: self.swap(opened))
        return Loaded(opened.release.name, before.name, workers)

    def open_next(self, path: Path) -> Opened:
        """See serving.resident."""
        return self.resident.open_next(path, self._prepare)

    def swap(self, to: Opened) -> Release:
        """Answer with it; the release before."""
        before = self.resident.swap(to)
        self._trending.publish()  # what trended before does so in the new one, at once
        return before

    def _lacks(self, release: Release) -> str:
        """What a release needs and has not: an arm that knows nobody would be judged for that."""
        if self._state.holds(release):
            return ""
        return f"Redis at {self._link.address} lacks its user state: run `./aisle materialize` with this release"

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
