"""Who calls: which tenant's data a request may touch, and what it may do there.

gRPC finds a method's handler and runs it in the same context of `contextvars`, one for each call: what the gate says of a caller when the call
arrives (serving.gate) is there when a thread answers it, and nowhere else.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum

from core.errors import AisleError


class Role(IntEnum):
    """What a caller may do; a higher role may do what the lower ones may."""

    READ = 1  # ask for pages
    WRITE = 2  # say what happened, change items, forget people
    ADMIN = 3  # see how the server fares, load releases


@dataclass(frozen=True)
class Caller:
    """One caller."""

    tenant: str
    role: Role
    key: str = ""  # id of the API key; empty: the service is open


class UnauthenticatedError(AisleError):
    """No API key, or none that holds."""

    grpc_status = "UNAUTHENTICATED"


class ForbiddenError(AisleError):
    """The key is good, but not for this."""

    grpc_status = "PERMISSION_DENIED"


class TooMuchError(AisleError):
    """More than this caller, or this server, may be asked now; `retry_seconds` says when to try again (google.rpc.RetryInfo)."""

    grpc_status = "RESOURCE_EXHAUSTED"

    def __init__(self, message: str, retry_seconds: float) -> None:
        super().__init__(message)
        self.retry_seconds = retry_seconds


class NotOpenError(AisleError):
    """The tenant's release is being opened; `retry_seconds` as for TooMuchError."""

    grpc_status = "UNAVAILABLE"
    retry_seconds = 1.0


_CALLER: ContextVar[Caller] = ContextVar("caller")


def set_caller(caller: Caller) -> None:
    """For the call that is being handled."""
    _CALLER.set(caller)


def caller() -> Caller | None:
    """Of the call that is being handled; None: it came through no gate, as in a test of one service alone."""
    return _CALLER.get(None)
