"""How a client reaches a protected server: whose certificate it trusts, which it shows, its API key, its tenant. Secrets come from files or the environment.

| variable             | holds                                                                                      |
|----------------------|--------------------------------------------------------------------------------------------|
| `AISLE_TLS_CA`       | PEM file of the authority that signed the server's certificate, or `system` for this machine's |
| `AISLE_TLS_CERT`     | PEM file of our certificate, for a server that asks for one                                |
| `AISLE_TLS_KEY`      | PEM file of its key                                                                        |
| `AISLE_API_KEY`      | the API key itself                                                                         |
| `AISLE_API_KEY_FILE` | or a file that holds it                                                                    |
| `AISLE_TENANT`       | the tenant, where a server answers for several without keys                                |
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import grpc

from core.errors import InputError
from serving.access import TENANT_HEADER

SYSTEM: Final = "system"
TLS_CA, TLS_CERT, TLS_KEY = "AISLE_TLS_CA", "AISLE_TLS_CERT", "AISLE_TLS_KEY"
API_KEY, API_KEY_FILE, TENANT = "AISLE_API_KEY", "AISLE_API_KEY_FILE", "AISLE_TENANT"


@dataclass(frozen=True)
class ClientSecurity:
    """Empty: no TLS, no key, the server's one tenant."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    api_key: str = field(default="", repr=False)
    tenant: str = ""

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """What the variables say.

        Raises:
            InputError: A file that is not there, or two keys.
        """
        api_key, file = environment.get(API_KEY, ""), environment.get(API_KEY_FILE, "")
        if api_key and file:
            raise InputError(f"{API_KEY} and {API_KEY_FILE} are both set: leave one out")
        if file:
            api_key = _read(API_KEY_FILE, file).decode().strip()
        ca, cert, key = (environment.get(name, "") for name in (TLS_CA, TLS_CERT, TLS_KEY))
        return cls(ca, cert, key, api_key, environment.get(TENANT, ""))

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Of every call."""
        key = (("authorization", f"Bearer {self.api_key}"),) if self.api_key else ()
        return (*key, (TENANT_HEADER, self.tenant)) if self.tenant else key

    def channel(self, address: str, options: Sequence[tuple[str, Any]]) -> grpc.Channel:
        """To a server.

        Raises:
            InputError: A file that cannot be read, or half of a certificate.
        """
        if bool(self.cert) != bool(self.key):
            raise InputError(f"{TLS_CERT} (--cert) and {TLS_KEY} (--key) go together: name both, or neither")
        if not self.ca:
            if self.cert:
                raise InputError(
                    f"--cert without --tls-ca: name the authority that signed the server's certificate, or {SYSTEM}"
                )
            return grpc.insecure_channel(address, options)
        credentials = grpc.ssl_channel_credentials(
            None if self.ca == SYSTEM else _read("--tls-ca", self.ca),
            _read("--key", self.key) if self.key else None,
            _read("--cert", self.cert) if self.cert else None,
        )
        return grpc.secure_channel(address, credentials, options)


def _read(what: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as e:
        raise InputError(f"{what} {path}: cannot be read: {e.strerror or e}") from None
