"""The section `protection` of `configs/serving.yaml`: who may call, and how much (docs/security.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from core.config import Section, checked


class ProtectionConfig(Section):
    """Files are named by path, or `none`."""

    tls_cert: str = Field(min_length=1)
    tls_key: str = Field(min_length=1)
    tls_client_ca: str = Field(min_length=1)
    keys: str = Field(min_length=1)
    reflection: Literal["open", "admin"]
    refresh_seconds: float = Field(gt=0)
    message_kb: int = Field(ge=1)
    requests_per_second: float = Field(ge=0)
    burst_seconds: float = Field(gt=0)
    lease_ms: float = Field(ge=10)
    shed: bool
    delay_ms: float = Field(gt=0)
    open_tenants: int = Field(ge=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if (self.tls_cert == "none") != (self.tls_key == "none"):
            raise ValueError("tls_cert and tls_key go together: name both, or neither")
        if self.tls_client_ca != "none" and self.tls_cert == "none":
            raise ValueError("tls_client_ca asks callers for certificates, which needs tls_cert and tls_key")
        return self

    @property
    def tls(self) -> tuple[Path, Path, Path | None] | None:
        """Certificate, key, and the authorities of callers' certificates where those are wanted; None: no TLS."""
        if self.tls_cert == "none":
            return None
        return Path(self.tls_cert), Path(self.tls_key), _path(self.tls_client_ca)

    @property
    def keys_file(self) -> Path | None:
        """Of API keys; None: everyone may do everything."""
        return _path(self.keys)

    def with_files(self, **files: Path | None) -> ProtectionConfig:
        """The same, with those of the named files that are given; checked again."""
        given = {name: str(path.absolute()) for name, path in files.items() if path is not None}
        return checked(ProtectionConfig, self.model_dump() | given, "protection")


def _path(text: str) -> Path | None:
    return None if text == "none" else Path(text)
