"""TLS of the server: certificate and key from files, taken up when they change, without a restart and without touching connections that stand."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from core.errors import ConfigError
from serving.followed import Followed


@dataclass(frozen=True)
class Certificates:
    """As PEM: what the server shows, and who may have signed what callers show."""

    chain: bytes
    key: bytes
    client_ca: bytes | None


def load_certificates(cert: Path, key: Path, client_ca: Path | None) -> Certificates:
    """Read and check them.

    Raises:
        ConfigError: A file that is not there or no PEM, or a key of another certificate.
    """
    try:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # an encrypted key would ask for its password on the terminal
        context.load_cert_chain(cert, key, password=lambda: "")
        if client_ca is not None:
            context.load_verify_locations(client_ca)
        return Certificates(cert.read_bytes(), key.read_bytes(), None if client_ca is None else client_ca.read_bytes())
    except ssl.SSLError as e:
        reason = (e.reason or str(e)).replace("_", " ").lower()
        raise ConfigError(
            f"protection.tls_cert {cert}, tls_key {key}, tls_client_ca {client_ca or 'none'}: not usable for TLS: {reason}; "
            "expected PEM files, the key not encrypted and of the first certificate"
        ) from None
    except OSError as e:
        raise ConfigError(f"protection: {e.filename or cert}: cannot be read: {e.strerror or e}") from None


def server_credentials(followed: Followed[Certificates]) -> grpc.ServerCredentials:
    """Credentials that show what `followed` holds at the time of each handshake. With authorities of callers, a caller without a certificate is refused."""
    shown = followed.value

    def newest() -> grpc.ServerCertificateConfiguration | None:
        nonlocal shown
        if followed.value is shown:
            return None  # what it was
        shown = followed.value
        return _configuration(shown)

    asks = shown.client_ca is not None
    fetch: Any = newest  # its type in the stubs leaves out the None that means: as before
    return grpc.dynamic_ssl_server_credentials(_configuration(shown), fetch, require_client_authentication=asks)


def _configuration(what: Certificates) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(what.key, what.chain)], root_certificates=what.client_ca)
