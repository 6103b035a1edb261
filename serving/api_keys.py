"""API keys: a file says which hold, for which tenant and what; of each it has only a hash.

    keys:
      - id: 5f0c2a91b3d4e6f7
        sha256: 9d1c...          # of the whole key, as it is sent
        tenant: acme
        role: read               # read, write or admin
        expires: 2027-01-31T00:00:00Z    # optional
        requests_per_second: 50          # optional: of this key's own, beside the tenant's

A key is `aisle_<id>_<secret>`: the id finds the entry and may be spoken of, the secret is 256 random bits. No guess at so many is worth slowing down,
so a plain hash protects them at rest; passwords would need scrypt.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import AwareDatetime, Field

from core.config import Section, checked, read_yaml
from core.errors import ConfigError
from serving.caller import Role
from serving.tenants_file import TENANT

_SCHEME: Final = "aisle"
_ID_BYTES: Final = 8
_SECRET_BYTES: Final = 32
_NOBODY: Final = bytes(32)  # the hash that an unknown id is compared with; no text has it


class KeyEntry(Section):
    """One key of the file."""

    id: str = Field(pattern=r"^[0-9a-f]{16}$")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    tenant: str = Field(pattern=TENANT)
    role: Literal["read", "write", "admin"]
    expires: AwareDatetime | None = None
    requests_per_second: float | None = Field(default=None, gt=0)


class _KeysFile(Section):
    keys: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class ApiKey:
    """One key, without its secret."""

    id: str
    hash: bytes
    tenant: str
    role: Role
    expires: float  # seconds since the epoch; inf: never
    requests_per_second: float | None


class ApiKeys:
    """Those that hold."""

    def __init__(self, entries: Iterable[KeyEntry] = ()) -> None:
        self._by_id = {e.id: _key(e) for e in entries}
        self.tenants = frozenset(k.tenant for k in self._by_id.values())
        self.limited = {k.id: (k.tenant, k.requests_per_second) for k in self._by_id.values() if k.requests_per_second}

    def __len__(self) -> int:
        return len(self._by_id)

    def find(self, text: str, now: float) -> ApiKey | None:
        """The key that `text` is, if it holds at `now` (seconds since the epoch). Takes as long for a wrong secret as for a right one."""
        scheme, _, rest = text.partition("_")
        found = self._by_id.get(rest.partition("_")[0]) if scheme == _SCHEME else None
        same = hmac.compare_digest(sha256(text.encode()).digest(), _NOBODY if found is None else found.hash)
        return found if found is not None and same and now < found.expires else None


def load_keys(path: Path) -> ApiKeys:
    """The keys of a file.

    Raises:
        ConfigError: It is not there, does not fit, or has an id twice.
    """
    return ApiKeys(entries_of(path))


def entries_of(path: Path) -> tuple[KeyEntry, ...]:
    """See `load_keys`."""
    try:
        listed = checked(_KeysFile, read_yaml(path), path).keys
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror or e}") from None
    entries = tuple(checked(KeyEntry, values, f"{path}: keys[{n}]") for n, values in enumerate(listed))
    seen: set[str] = set()
    for entry in entries:
        if entry.id in seen:
            raise ConfigError(f"{path}: key {entry.id} is there twice")
        seen.add(entry.id)
    return entries


def new_key(
    tenant: str, role: str, expires: datetime | None = None, requests_per_second: float | None = None
) -> tuple[str, KeyEntry]:
    """A new key: its text, which is shown once, and its entry for the file."""
    name = secrets.token_hex(_ID_BYTES)
    text = f"{_SCHEME}_{name}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    about = {"tenant": tenant, "role": role, "expires": expires, "requests_per_second": requests_per_second}
    entry = {"id": name, "sha256": sha256(text.encode()).hexdigest(), **about}
    return text, checked(KeyEntry, entry, "keys new")


def _key(entry: KeyEntry) -> ApiKey:
    expires = float("inf") if entry.expires is None else entry.expires.timestamp()
    role = Role[entry.role.upper()]
    return ApiKey(entry.id, bytes.fromhex(entry.sha256), entry.tenant, role, expires, entry.requests_per_second)
