"""The Python client: one connection, a deadline on every call, retries where a second call does no harm, errors as one line for a person.

Requests and answers are the generated messages: they are typed, and say what docs/api.md says.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from aisle.v1 import (
    admin_pb2,
    admin_pb2_grpc,
    catalog_pb2,
    catalog_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    recommender_pb2,
    recommender_pb2_grpc,
    users_pb2,
    users_pb2_grpc,
)
from core.errors import AisleError, InputError
from serving.client_security import ClientSecurity
from serving.sight.metric_list import METRICS_AT

# A call that found no server, or one that could not take it, is made again: those that only read, and those that a second time change nothing. gRPC
# does it, within the deadline of the call. Changes of the catalog and of the release are for the caller to repeat.
_RETRIED: Final = (
    {"service": "aisle.v1.Recommender"},
    {"service": "aisle.v1.Events"},
    {"service": "aisle.v1.Users"},
    {"service": "aisle.v1.Admin", "method": "GetStatus"},
)
_POLICY: Final = {
    "maxAttempts": 4,
    "initialBackoff": "0.05s",
    "maxBackoff": "1s",
    "backoffMultiplier": 3,
    # CANCELLED: what had arrived at a server that stopped, and not begun
    "retryableStatusCodes": ["UNAVAILABLE", "CANCELLED"],
}
_OPTIONS: Final = (
    # a connection of its own: otherwise every client of a process shares one, and with it one worker
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.service_config", json.dumps({"methodConfig": [{"name": _RETRIED, "retryPolicy": _POLICY}]})),
    # a server that restarts is found again before the last attempt
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


class ServerError(AisleError):
    """The server is not there, or refused."""


class Client:
    """Calls one server. Use it in a `with` block, or close it. Many threads may share one.

    Args:
        address: HOST:PORT.
        timeout: Seconds that a call may take, retries included; those that do more work by themselves have longer.
        security: TLS and API key; None: what the environment says (serving.client_security).

    Raises:
        InputError: By any call: a request that the server refuses, field by field.
        ServerError: By any call: no server, none in time, or one that failed.
    """

    def __init__(self, address: str, timeout: float = 5.0, security: ClientSecurity | None = None) -> None:
        self._address, self._timeout = address, timeout
        security = ClientSecurity.of_environment() if security is None else security
        self._metadata = security.metadata
        self._channel = security.channel(address, _OPTIONS)
        self._recommender = recommender_pb2_grpc.RecommenderStub(self._channel)
        self._events = events_pb2_grpc.EventsStub(self._channel)
        self._users = users_pb2_grpc.UsersStub(self._channel)
        self._catalog = catalog_pb2_grpc.CatalogStub(self._channel)
        self._admin = admin_pb2_grpc.AdminStub(self._channel)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connection back."""
        self._channel.close()

    def recommend(self, request: recommender_pb2.RecommendRequest) -> recommender_pb2.RecommendResponse:
        """What this person should see now."""
        return self._call(self._recommender.Recommend, request)  # type: ignore[no-any-return]

    def recommend_batch(
        self, requests: Sequence[recommender_pb2.RecommendRequest]
    ) -> Sequence[recommender_pb2.RecommendResponse]:
        """Several placements of one page, no item twice."""
        asked = recommender_pb2.BatchRecommendRequest(requests=requests)
        return self._call(self._recommender.BatchRecommend, asked).responses  # type: ignore[no-any-return]

    def similar(self, request: recommender_pb2.SimilarItemsRequest) -> recommender_pb2.SimilarItemsResponse:
        """Items that go with others."""
        return self._call(self._recommender.SimilarItems, request)  # type: ignore[no-any-return]

    def rank(self, request: recommender_pb2.RankRequest) -> recommender_pb2.RankResponse:
        """The caller's own list, in order."""
        return self._call(self._recommender.Rank, request)  # type: ignore[no-any-return]

    def explain(self, request: recommender_pb2.ExplainRequest) -> recommender_pb2.ExplainResponse:
        """Why an item is in an answer, or not."""
        return self._call(self._recommender.Explain, request)  # type: ignore[no-any-return]

    def preview_rules(self, request: recommender_pb2.RecommendRequest) -> recommender_pb2.PreviewRulesResponse:
        """A page without and with the rules of the shop."""
        asked = recommender_pb2.PreviewRulesRequest(request=request)
        return self._call(self._recommender.PreviewRules, asked)  # type: ignore[no-any-return]

    def write_events(self, events: Sequence[events_pb2.Event]) -> events_pb2.WriteEventsResponse:
        """Record what happened. An event with neither name nor time gets a name, so that it counts once however often it is sent."""
        request = events_pb2.WriteEventsRequest(events=events)
        for event in request.events:
            if not event.event_id and not event.event_time:  # else its name, or what it says, tells it from others
                event.event_id = uuid.uuid4().hex
        return self._call(self._events.WriteEvents, request)  # type: ignore[no-any-return]

    def delete_user(self, user_id: str = "", visitor_id: str = "") -> users_pb2.DeleteUserResponse:
        """Forget a person; the streams are looked through, which takes its time."""
        request = users_pb2.DeleteUserRequest(user_id=user_id, visitor_id=visitor_id)
        return self._call(self._users.DeleteUser, request, timeout=60.0)  # type: ignore[no-any-return]

    def upsert_items(self, items: Sequence[catalog_pb2.Item]) -> catalog_pb2.UpsertItemsResponse:
        """Put items in the place of what was known of them; vectors are made before it returns."""
        request = catalog_pb2.UpsertItemsRequest(items=items)
        return self._call(self._catalog.UpsertItems, request, timeout=60.0)  # type: ignore[no-any-return]

    def delete_items(self, item_ids: Sequence[str]) -> catalog_pb2.DeleteItemsResponse:
        """Take items out."""
        return self._call(self._catalog.DeleteItems, catalog_pb2.DeleteItemsRequest(item_ids=item_ids))  # type: ignore[no-any-return]

    def set_availability(self, item_ids: Sequence[str], available: bool) -> catalog_pb2.SetAvailabilityResponse:
        """Take items off the shelf, or put them back."""
        request = catalog_pb2.SetAvailabilityRequest(item_ids=item_ids, available=available)
        return self._call(self._catalog.SetAvailability, request)  # type: ignore[no-any-return]

    def status(self) -> admin_pb2.GetStatusResponse:
        """What the server runs."""
        return self._call(self._admin.GetStatus, admin_pb2.GetStatusRequest())  # type: ignore[no-any-return]

    def metrics_at(self) -> str:
        """HOST:PORT of the server's metrics (docs/metrics.md); empty where it has none."""
        _, call = self._call(self._admin.GetStatus.with_call, admin_pb2.GetStatusRequest())
        return str(dict(call.trailing_metadata()).get(METRICS_AT, ""))

    def load_release(self, path: str) -> admin_pb2.LoadReleaseResponse:
        """Swap to another release; it is checked in full first, which takes its time."""
        return self._call(self._admin.LoadRelease, admin_pb2.LoadReleaseRequest(path=path), timeout=120.0)  # type: ignore[no-any-return]

    def _call(self, method: Any, request: Any, timeout: float | None = None) -> Any:
        seconds = timeout or self._timeout
        until = time.monotonic() + seconds
        while True:
            try:
                return method(request, timeout=max(0.0, until - time.monotonic()), metadata=self._metadata)
            except grpc.RpcError as e:
                pause = retry_after(e)
                if pause is None or time.monotonic() + pause >= until:
                    raise self._explained(e, seconds) from None
                time.sleep(pause)

    def _explained(self, error: Any, seconds: float) -> AisleError:
        """`error` is a grpc.RpcError that is a grpc.Call too, which types cannot say."""
        code, text = error.code(), error.details() or ""
        # what one of our servers says has details, and may speak of hosts of its own
        if code == grpc.StatusCode.UNAVAILABLE and rpc_status.from_call(error) is None:
            said = text.lower()
            if "resol" in said:  # of the resolver, which has several wordings
                return ServerError(
                    f"{self._address}: no such host; name the server as HOST:PORT, such as 127.0.0.1:50051, with --server"
                )
            if "ssl" in said or "handshak" in said:
                return ServerError(f"{self._address}: no TLS connection, see --tls-ca, --cert and --key: {text}")
            if "failed to connect" in said:
                return ServerError(
                    f"no server answers at {self._address}: start one with `./aisle serve`, or name another with --server"
                )
        if code == grpc.StatusCode.UNAUTHENTICATED:
            return ServerError(f"{self._address}: {text}; a key is taken from AISLE_API_KEY or AISLE_API_KEY_FILE")
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            return ServerError(f"{self._address} did not answer within {seconds:g} s")
        if fields := violations(error):
            return InputError("; ".join(f"{where}: {what}" for where, what in fields))
        return ServerError(f"{self._address}: {code.name}: {text}")


def violations(error: Any) -> list[tuple[str, str]]:
    """The fields at fault that a grpc.RpcError names: (path, what is wrong)."""
    status: Any = rpc_status.from_call(error)
    found: list[tuple[str, str]] = []
    for detail in status.details if status else ():
        bad = error_details_pb2.BadRequest()
        if detail.Unpack(bad):
            found += [(v.field, v.description) for v in bad.field_violations]
    return found


def retry_after(error: Any) -> float | None:
    """Seconds after which a call that a server did not take may be made again, if it says so; up to as much again is added, so that not all come at once.

    `error` is a grpc.RpcError. UNAVAILABLE with such a word is left to gRPC's own retries.
    """
    if error.code() != grpc.StatusCode.RESOURCE_EXHAUSTED:
        return None
    status: Any = rpc_status.from_call(error)
    retry = error_details_pb2.RetryInfo()
    if not any(detail.Unpack(retry) for detail in (status.details if status else ())):
        return None
    return float(retry.retry_delay.ToTimedelta().total_seconds()) * (1 + random.random())
