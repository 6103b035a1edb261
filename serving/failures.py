"""Which failure degrades an answer and which aborts a call: the one table that says so.

An answer that is degraded does without the thing that failed and carries the failure's name as `fallback_reason`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from core.errors import AisleError


class Failure(StrEnum):
    """What can go wrong while a request is answered; the value is what responses and metrics say."""

    REDIS_UNREACHABLE = "redis-unreachable"
    REDIS_TIMEOUT = "redis-timeout"
    REDIS_ERROR = "redis-error"
    STATE_MISSING = "user-state-missing"
    STATE_UNREADABLE = "user-state-unreadable"
    STREAM_FULL = "event-stream-full"
    NOT_DURABLE = "redis-not-durable"
    SPOOL_FULL = "event-spool-full"
    CATALOG_LOG = "catalog-log-unwritable"
    UNCALIBRATED = "uncalibrated"
    ARM_FAILED = "arm-failed"
    DEADLINE_STATE = "deadline-state"
    DEADLINE_RANKER = "deadline-ranker"
    DEADLINE_SOURCES = "deadline-sources"
    DEADLINE_POPULAR = "deadline-popular"


class Effect(StrEnum):
    """What a failure does to a call."""

    DEGRADE = "degrade"
    ABORT = "abort"


@dataclass(frozen=True)
class Policy:
    """What one failure does to each kind of call."""

    reading: Effect  # of Recommend
    writing: str  # the gRPC status of WriteEvents, or of the catalog's calls
    means: str  # for people


POLICIES: Final[dict[Failure, Policy]] = {
    Failure.REDIS_UNREACHABLE: Policy(Effect.DEGRADE, "UNAVAILABLE", "no connection to Redis, or it was cut"),
    Failure.REDIS_TIMEOUT: Policy(Effect.DEGRADE, "UNAVAILABLE", "Redis did not answer within the deadline"),
    Failure.REDIS_ERROR: Policy(
        Effect.DEGRADE, "UNAVAILABLE", "Redis answered with an error (loading, out of memory, no permission)"
    ),
    Failure.STATE_MISSING: Policy(
        Effect.DEGRADE, "UNAVAILABLE", "Redis lacks the user state of this release; run `./aisle materialize`"
    ),
    Failure.STATE_UNREADABLE: Policy(
        Effect.DEGRADE, "UNAVAILABLE", "a stored value is of another version or cut short"
    ),
    Failure.STREAM_FULL: Policy(
        Effect.ABORT, "UNAVAILABLE", "the stream of events to be logged is full; nothing was stored"
    ),
    Failure.NOT_DURABLE: Policy(
        Effect.ABORT,
        "UNAVAILABLE",
        "Redis confirms writes before they are on disk (it needs appendonly yes, appendfsync always), and there is no spool",
    ),
    Failure.SPOOL_FULL: Policy(
        Effect.ABORT, "UNAVAILABLE", "Redis does not take events, and neither does the spool on this server's disk"
    ),
    Failure.UNCALIBRATED: Policy(
        Effect.DEGRADE, "UNAVAILABLE", "the ranker of this release gives no probabilities: min_score was not applied"
    ),
    Failure.CATALOG_LOG: Policy(
        Effect.ABORT, "UNAVAILABLE", "the catalog's log does not reach the disk; nothing was stored"
    ),
    Failure.ARM_FAILED: Policy(
        Effect.DEGRADE,
        "UNAVAILABLE",
        "the release of an experiment's arm could not answer; the release that answers everybody did",
    ),
    Failure.DEADLINE_STATE: Policy(
        Effect.DEGRADE, "UNAVAILABLE", "the caller's deadline left no time to read what is known of the person"
    ),
    Failure.DEADLINE_RANKER: Policy(
        Effect.DEGRADE, "UNAVAILABLE", "the caller's deadline left no time for the ranker; the blend ordered the page"
    ),
    Failure.DEADLINE_SOURCES: Policy(
        Effect.DEGRADE, "UNAVAILABLE", "the caller's deadline left no time for every source; some were not asked"
    ),
    Failure.DEADLINE_POPULAR: Policy(
        Effect.DEGRADE, "UNAVAILABLE", "the caller's deadline left no time for any source; popular items are the page"
    ),
}
# Everything else aborts: an AisleError with its own status (a bad request, a release that does not fit), any other exception as INTERNAL, a bug.


def failures_of(*found: Failure | None) -> list[Failure]:
    """Those that there are, each once, in this order: the first is the `fallback_reason`."""
    return list(dict.fromkeys(f for f in found if f is not None))


class StoreError(AisleError):
    """Redis failed. `failure` says how; POLICIES says what follows."""

    grpc_status = "UNAVAILABLE"
    retry_seconds = 1.0  # when the caller may try again: google.rpc.RetryInfo

    def __init__(self, failure: Failure, detail: str) -> None:
        super().__init__(f"{failure}: {detail or POLICIES[failure].means}")
        self.failure = failure
        self.grpc_status = POLICIES[failure].writing
