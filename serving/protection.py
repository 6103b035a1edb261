"""What stands between the network and the services of one process: TLS, keys, limits, room. Made from the section `protection` of the configuration."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Mapping

import grpc

from serving.access import Access
from serving.api_keys import ApiKeys, load_keys
from serving.caller import Caller, Role
from serving.followed import Followed, files_sign
from serving.gate import Gate
from serving.leases import Budget, Leases
from serving.process_options import ProcessOptions
from serving.protection_config import ProtectionConfig
from serving.redis_link import RedisLink
from serving.shedding import CountedPool, Shedding
from serving.tls import Certificates, load_certificates, server_credentials

_LOG = logging.getLogger(__name__)


class Protection:
    """The gate of one process, and what it follows.

    Args:
        options: Of the process.
        tenants: That it answers for, each with its limit of requests a second where it has one of its own.
        link: To Redis, for the limits.
    """

    def __init__(self, options: ProcessOptions, tenants: Mapping[str, float | None], link: RedisLink) -> None:
        config = self._config = options.config.protection
        self._options, threads = options, options.config.server.threads
        self._keys, self._tls = _keys(config), _tls(config)
        self._rates = {name: rate or config.requests_per_second for name, rate in tenants.items()}
        workers = 1 if options.board is None else options.board.workers
        self._leases = Leases(link.writes, config.lease_ms / 1e3, workers)
        self.pool = CountedPool(threads)
        keys = self._keys
        access = Access(
            None if keys is None else lambda: keys.value, tenants, None if config.reflection == "open" else Role.ADMIN
        )
        self.gate = Gate(
            access, self._take, Shedding(self.pool, threads, config.delay_ms / 1e3) if config.shed else None
        )

    def add_port(self, server: grpc.Server, address: str) -> int:
        """Have `server` listen, with TLS where it is configured. RuntimeError: it cannot."""
        if self._tls is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, server_credentials(self._tls))

    def start(self) -> None:
        """Begin to follow files and to lease; say what is open that perhaps should not be."""
        for followed in self._followed():
            followed.start()
        self._leases.start()
        self._warn()

    def stop(self) -> None:
        """End it."""
        for followed in self._followed():
            followed.stop()
        self._leases.stop()

    def _followed(self) -> list[Followed[ApiKeys] | Followed[Certificates]]:
        return [f for f in (self._keys, self._tls) if f is not None]

    def _take(self, who: Caller) -> None:
        rate = self._rates.get(who.tenant, 0.0)
        if rate:
            self._leases.take(self._budget(who.tenant, "", rate))
        if who.key and self._keys is not None:
            _, own = self._keys.value.limited.get(who.key, ("", None))
            if own:
                self._leases.take(self._budget(who.tenant, who.key, own))

    def _budget(self, tenant: str, name: str, rate: float) -> Budget:
        return Budget(tenant, name, rate, max(1.0, rate * self._config.burst_seconds))

    def _warn(self) -> None:
        if self._keys is None:
            if not is_loopback(self._options.host):
                _LOG.warning(
                    "%s is not of this machine alone, and the service is open: whoever reaches it may read, write and load "
                    "releases. Name a file of API keys with --keys (docs/security.md)",
                    self._options.host,
                )
            return
        if self._tls is None and not is_loopback(self._options.host):
            _LOG.warning("API keys cross the network as they are: set --tls-cert and --tls-key (docs/security.md)")
        if strangers := self._keys.value.tenants - set(self._rates):
            _LOG.warning("API keys of tenants that this server does not answer for: %s", ", ".join(sorted(strangers)))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it.

    >>> is_loopback("127.0.0.1"), is_loopback("[::1]"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _keys(config: ProtectionConfig) -> Followed[ApiKeys] | None:
    path = config.keys_file
    return (
        None
        if path is None
        else Followed("API keys", files_sign([path]), lambda: load_keys(path), config.refresh_seconds)
    )


def _tls(config: ProtectionConfig) -> Followed[Certificates] | None:
    if config.tls is None:
        return None
    cert, key, ca = config.tls
    files = [cert, key] if ca is None else [cert, key, ca]
    return Followed("certificates", files_sign(files), lambda: load_certificates(cert, key, ca), config.refresh_seconds)
