"""Page tokens: what comes next in a list, sealed. The token holds the order itself, so that any worker can go on, whatever happened since, without Redis.

    base64url( mac [16] | zlib( JSON ) )

The mac is BLAKE2b with the server's secret over tenant and what follows it: nobody else can make or change a token. Which request it belongs to is a
fingerprint of the request; no id of a person is in it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hmac
import os
import zlib
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import orjson

from core import atomic
from core.errors import ConfigError, InputError
from core.schema import HOUR

_VERSION: Final = 1
_MAC: Final = 16
_SECRET: Final = 32  # bytes
_FINGERPRINT: Final = 8
_OTHERS: Final = "is none that this server gave out"


@dataclass(frozen=True)
class Onward:
    """What is left of a list, in the shop's ids: a later release may have other rows."""

    made: int  # microseconds: when the first page was asked for
    request: bytes  # fingerprint of the request that the list answers
    release: str  # that put it in order
    level: str
    calibrated: bool  # the scores of candidates are that release's calibrated ranker's
    shown: int  # items on the pages before
    item_ids: list[str]  # best first
    scores: list[float]
    sources: list[str]


class PageTokens:
    """Seals and opens them for one tenant.

    Args:
        secret: The same in every process that answers for the shop.
        tenant: Whose they are.
        hours: For how long they hold.
    """

    def __init__(self, secret: bytes, tenant: str, hours: float) -> None:
        self._secret, self._tenant, self._hours = secret, tenant.encode(), hours

    def fingerprint(self, request: bytes) -> bytes:
        """Of what a request says, which its token is bound to. Keyed: it tells nobody else anything of the person."""
        return blake2b(self._tenant + b"\0" + request, digest_size=_FINGERPRINT, key=self._secret).digest()

    def seal(self, onward: Onward) -> str:
        """The token."""
        names = sorted(set(onward.sources))
        place = {name: at for at, name in enumerate(names)}
        sources = [place[s] for s in onward.sources]
        said = [
            _VERSION,
            onward.made,
            onward.request.hex(),
            onward.release,
            onward.level,
            onward.calibrated,
            onward.shown,
        ]
        body = zlib.compress(orjson.dumps([*said, onward.item_ids, onward.scores, names, sources]), 1)
        return base64.urlsafe_b64encode(self._mac(body) + body).decode()

    def open(self, token: str, request: bytes, now: int) -> Onward:
        """What a token of the request with this fingerprint holds, at `now` (microseconds).

        Raises:
            InputError: It is altered, another server's, another request's, or too old.
        """
        said = self._opened(token)
        names = said[9]
        onward = Onward(
            made=said[1],
            request=bytes.fromhex(said[2]),
            release=said[3],
            level=said[4],
            calibrated=said[5],
            shown=said[6],
            item_ids=said[7],
            scores=said[8],
            sources=[names[at] for at in said[10]],
        )
        if not hmac.compare_digest(onward.request, request):
            raise InputError(
                "belongs to another request: every field but page_size, list_size, request_id, labels and validate_only must be as in the first one"
            )
        if now - onward.made > self._hours * HOUR:
            raise InputError(f"is older than {self._hours:g} hours: ask for the first page again")
        return onward

    def _opened(self, token: str) -> list[Any]:
        try:
            sealed = base64.b64decode(token.encode(), altchars=b"-_", validate=True)
        except binascii.Error:
            raise InputError(_OTHERS) from None
        mac, body = sealed[:_MAC], sealed[_MAC:]
        if not hmac.compare_digest(mac, self._mac(body)):
            raise InputError(_OTHERS)
        said: list[Any] = orjson.loads(zlib.decompress(body))
        if said[0] != _VERSION:
            raise InputError("is of another version of Aisle: ask for the first page again")
        return said

    def _mac(self, body: bytes) -> bytes:
        return blake2b(self._tenant + b"\0" + body, digest_size=_MAC, key=self._secret).digest()


def secret_of(file: Path | None) -> bytes:
    """The secret in a file, which is made where it is missing: by one process, whoever comes first. None: one for this process alone.

    Raises:
        ConfigError: There is a file that holds no secret, or cannot be read.
    """
    if file is None:
        return os.urandom(_SECRET)
    try:
        if not file.exists():
            _make(file)
        secret = file.read_bytes()
    except OSError as e:
        raise ConfigError(f"paging.key {file}: cannot be read or made: {e.strerror}") from None
    if len(secret) < _SECRET or len(secret) > 64:
        raise ConfigError(f"paging.key {file}: holds {len(secret)} bytes, expected a secret of {_SECRET} to 64")
    return secret


def _make(file: Path) -> None:
    beside = file.with_name(f".tmp-{os.getpid()}-{file.name}")
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as f:
            f.write(os.urandom(_SECRET))
            f.flush()
            os.fsync(f.fileno())
        with contextlib.suppress(FileExistsError):  # another process was first: theirs counts
            os.link(beside, file)
    finally:
        beside.unlink(missing_ok=True)
    atomic.fsync_path(file.parent)
