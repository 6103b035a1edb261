"""One serving process: opens the release, connects the parts, answers until it is told to stop, and drains."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from aisle.v1 import (
    admin_pb2,
    catalog_pb2,
    events_pb2,
    recommender_pb2,
    users_pb2,
)
from core.errors import InputError
from serving.admin_service import Loaded
from serving.gate import Router
from serving.health import Health
from serving.method_table import MethodTable
from serving.process_options import ProcessOptions as ProcessOptions  # its users find it here
from serving.protection import Protection
from serving.recommender_service import Clock, wall_clock
from serving.redis_link import RedisLink
from serving.resident import Resident
from serving.sight.sight import Sight
from serving.stopping import StopSignals
from serving.tenants import Tenants, options_of
from serving.turns import Turns

_SWITCH_SECONDS: Final = 0.0002  # a 25th of Python's own
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


class ServingProcess:
    """The parts of a serving process, connected: one server, and behind it what answers for each tenant."""

    def __init__(self, options: ProcessOptions, clock: Clock = wall_clock) -> None:
        names = [spec.name for spec in options.tenants] or [options.config.tenant]
        self.sight = Sight(options.config, names, options.board)
        self._options = options = replace(options, config=self.sight.config)
        config = options.config
        link = RedisLink(options.redis_url, config.redis, self.sight.shared)
        self._tenants = Tenants(
            options_of(options, config.tenant),
            link,
            Turns(config.server.computing),
            clock,
            config.protection.open_tenants,
            self.sight.tallies,
        )
        link.warm()
        self._health = Health(_SERVICES)
        rates = {spec.name: spec.requests_per_second for spec in options.tenants} or {config.tenant: None}
        self._protection = Protection(options, rates, link)
        common: Any = MethodTable()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, common)
        reflection.enable_server_reflection((*_SERVICES, _HEALTH, reflection.SERVICE_NAME), common)
        self._server, self.port = _bind(options, self._protection, self.sight)
        self._server.add_generic_rpc_handlers((Router(self._tenants, common.handlers),))

    @property
    def resident(self) -> Resident:
        """The release that answers, of a server without a list of tenants."""
        return self._tenants.alone.resident

    def start(self) -> None:
        """Begin to answer."""
        self.sight.start(self._tenants.seen, self._options.config.server.threads)
        self._tenants.start()
        self._protection.start()
        # what is there now stays: no collection need look at it again while somebody waits
        gc.collect()
        gc.freeze()
        self._server.start()
        self._health.say(health_pb2.HealthCheckResponse.SERVING)
        self.sight.ready(yes=True)
        self._tenants.look_after()

    def stop(self) -> None:
        """Take no more requests; let the running ones end."""
        config = self._options.config.server
        self._health.say(health_pb2.HealthCheckResponse.NOT_SERVING)
        self.sight.ready(yes=False)
        # gRPC cancels what has arrived and not begun when its server stops: nothing should arrive any more
        threading.Event().wait(config.lame_duck_seconds)
        self._server.stop(config.drain_seconds).wait()
        self._protection.stop()
        self._tenants.stop()
        self.sight.stop()

    def load(self, path: Path) -> Loaded:
        """Swap to the release at `path`; of several workers all do, or none. Of a server without a list of tenants."""
        return self._tenants.alone.load(path)


def run(options: ProcessOptions, ready: Callable[[int], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the port once requests are answered."""
    signals = StopSignals()
    # the thread that takes calls in competes with the one that computes: it waits so long for the interpreter, with each of its steps
    sys.setswitchinterval(_SWITCH_SECONDS)
    process = ServingProcess(options)
    process.start()
    ready(process.port)
    signals.wait()
    process.stop()


def _bind(options: ProcessOptions, protection: Protection, sight: Sight) -> tuple[grpc.Server, int]:
    """A server on its port, not yet answering."""
    settings = [
        # without this option gRPC lets two servers share a port by accident, and each gets half of the requests
        ("grpc.so_reuseport", int(options.shared_port)),
        ("grpc.max_receive_message_length", 1024 * options.config.protection.message_kb),
    ]
    server = grpc.server(protection.pool, interceptors=[sight.watching, protection.gate], options=settings)
    try:
        return server, protection.add_port(server, f"{options.host}:{options.port}")
    except RuntimeError:
        raise InputError(
            f"--listen {options.host}:{options.port}: cannot listen there: taken, not of this machine, or not allowed"
        ) from None
