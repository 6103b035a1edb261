"""The tenants of a process, of which a bounded number have their release open.

The release of another one is opened when it is asked for, and the one that nobody asked for longest is closed.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from concurrent import futures
from dataclasses import replace
from pathlib import Path
from typing import Final

from core.errors import AisleError
from serving.caller import ForbiddenError, NotOpenError
from serving.config import ServingConfig
from serving.private_logs import stack_of
from serving.process_options import ProcessOptions
from serving.recommender_service import Clock
from serving.redis_link import RedisLink
from serving.resident import Opened
from serving.sight.gauges import Parts
from serving.tally import Tally
from serving.tenant_parts import TenantParts
from serving.tenants_file import TenantSpec
from serving.turns import Turns

_LOG = logging.getLogger(__name__)
_GRACE_SECONDS: Final = 1.0  # for requests that have their parts already, before these are closed


class Tenants:
    """Gives out the parts of a tenant; safe for many threads.

    Args:
        options: Of each tenant's parts, by its name.
        link: To the Redis that they share.
        turns: At the processor, which they share too.
        clock: Microseconds.
        most: Tenants whose release is open at once; one more while it is being opened.
        tallies: Count what each tenant's parts do, also across being closed; None: each counts for itself.
    """

    def __init__(
        self,
        options: Mapping[str, ProcessOptions],
        link: RedisLink,
        turns: Turns,
        clock: Clock,
        most: int,
        tallies: Mapping[str, Tally] | None = None,
    ) -> None:
        self._options, self._link, self._clock, self._most = dict(options), link, clock, most
        self._turns = turns
        self._tallies = tallies or {}
        self._open: dict[str, TenantParts] = {}
        self._used: dict[str, float] = {}
        self._opening: set[str] = set()
        self._lock = threading.Lock()
        self._opener = futures.ThreadPoolExecutor(1, "tenant-opener")
        for name in list(self._options)[:most]:
            self._open[name] = TenantParts(self._options[name], link, turns, clock, self._tallies.get(name))
            self._used[name] = time.monotonic()

    @property
    def names(self) -> frozenset[str]:
        """Of all, open or not."""
        return frozenset(self._options)

    @property
    def alone(self) -> TenantParts:
        """Of the one tenant that there is."""
        (parts,) = self._open.values()
        return parts

    def of(self, name: str) -> TenantParts:
        """The parts of a tenant.

        Raises:
            ForbiddenError: There is no such tenant, which is all that a stranger learns.
            NotOpenError: Its release is not open, but will be soon.
        """
        parts = self._open.get(name)
        if parts is None:
            if name not in self._options:
                raise ForbiddenError("this server does not answer for that tenant")
            self._ask_for(name)
            raise NotOpenError(f"the release of tenant {name} is being opened: try again")
        self._used[name] = time.monotonic()
        return parts

    def start(self) -> None:
        """Begin what runs beside the answers."""
        for parts in self._open.values():
            parts.start()

    def look_after(self) -> None:
        """Once requests are answered."""
        for parts in self._open.values():
            parts.look_after()
        for name, options in self._options.items():
            if options.board is not None:
                options.board.follow(_Swaps(self, name))

    def stop(self) -> None:
        """End it; requests are over."""
        self._opener.shutdown(cancel_futures=True)
        for parts in self._open.values():
            parts.stop()

    def open_parts(self, name: str) -> TenantParts | None:
        """The parts of a tenant whose release is open, which does not count as use."""
        return self._open.get(name)

    def seen(self) -> dict[str, Parts]:
        """What is looked at of the tenants that are open (serving.sight)."""
        return {name: parts.seen for name, parts in list(self._open.items())}

    def _ask_for(self, name: str) -> None:
        with self._lock:
            if name not in self._opening and name not in self._open:
                self._opening.add(name)
                self._opener.submit(self._bring, name)

    def _bring(self, name: str) -> None:
        """Open a tenant's release, and close others beyond the bound."""
        try:
            options = self._options[name]
            agreed = None if options.board is None else options.board.announced()
            found = replace(options, release=agreed or options.release)
            parts = TenantParts(found, self._link, self._turns, self._clock, self._tallies.get(name))
            parts.start()
            self._used[name] = time.monotonic()
            self._open[name] = parts
            parts.look_after()
        except AisleError as e:
            _LOG.error("tenant %s cannot be answered for: %s", name, e)
        except Exception as e:  # noqa: BLE001 - the opener goes on for other tenants
            _LOG.error("tenant %s cannot be answered for\n%s", name, stack_of(e))
        finally:
            with self._lock:
                self._opening.discard(name)
        while len(self._open) > self._most:
            self._close(min(self._open, key=lambda n: self._used[n]))

    def _close(self, name: str) -> None:
        parts = self._open.pop(name)
        # what was loaded into it stays loaded when it comes back
        self._options[name] = replace(self._options[name], release=parts.resident.base.path)
        threading.Event().wait(_GRACE_SECONDS)
        parts.stop()


class _Swaps:
    """What the board asks of this process for one tenant. One whose release is not open here agrees: it is opened as the workers have agreed."""

    def __init__(self, tenants: Tenants, name: str) -> None:
        self._tenants, self._name = tenants, name
        self._path: Path | None = None
        self._opened: tuple[TenantParts, Opened] | None = None

    def prepare(self, path: Path) -> None:
        """See serving.board.Swaps."""
        self._path, self._opened = path, None  # never two of them beside the one that answers
        parts = self._tenants.open_parts(self._name)
        if parts is not None:
            self._opened = parts, parts.open_next(path)

    def swap(self) -> None:
        """See serving.board.Swaps."""
        parts, path, ready = self._tenants.open_parts(self._name), self._path, self._opened
        self._path = self._opened = None
        if parts is None or path is None:
            return
        if ready is None or ready[0] is not parts:  # its release was opened since `prepare`
            ready = parts, parts.open_next(path)
        parts.swap(ready[1])

    def drop(self) -> None:
        """See serving.board.Swaps."""
        self._path = self._opened = None


def options_of(options: ProcessOptions, name: str) -> dict[str, ProcessOptions]:
    """What each tenant's parts are made with; a server without a list of tenants has one, `name`."""
    if not options.tenants:
        return {name: options}
    return {spec.name: _options_for(options, spec) for spec in options.tenants}


def _options_for(options: ProcessOptions, spec: TenantSpec) -> ProcessOptions:
    board = options.board
    if board is not None:
        board = board.within(spec.name)
    release = (None if board is None else board.announced()) or spec.release
    return replace(
        options,
        release=release,
        work=spec.work,
        board=board,
        config=_config_for(options.config, spec),
        tenants=(),
        confined=True,
    )


def _config_for(config: ServingConfig, spec: TenantSpec) -> ServingConfig:
    """The settings of all, with folders of this tenant's own."""
    events, catalog = config.events, config.catalog
    if events.spool not in ("none", "work"):
        events = events.model_copy(update={"spool": str(Path(events.spool) / spec.name)})
    if catalog.folder not in ("none", "work"):
        catalog = catalog.model_copy(update={"folder": str(Path(catalog.folder) / spec.name)})
    rules = config.rules.model_copy(update={"folder": "none" if spec.rules is None else str(spec.rules)})
    update = {"tenant": spec.name, "events": events, "catalog": catalog, "rules": rules}
    return config.model_copy(update=update)
