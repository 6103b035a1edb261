"""The interceptor that sees every call of ours from its arrival to its answer. It is the first, so that it sees what others refuse."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import grpc

from serving.caller import caller
from serving.sight import observation
from serving.sight.observation import Observation, usable_id
from serving.tally import Tally

Handler = Any  # grpc.RpcMethodHandler, whose fields the types do not know
_OURS: Final = "/aisle.v1."
# by which gRPC knows methods that have a thread of their own
_ASIDE: Final = ("experimental_non_blocking", "experimental_thread_pool")
_REQUEST_ID, _PARENT = "x-request-id", "traceparent"
OK: Final = "OK"


@dataclass(frozen=True)
class Ended:
    """A call that is over."""

    seen: Observation
    tenant: str
    code: str
    arrived: float  # time.perf_counter of its arrival,
    began: float  # of the moment a thread took it,
    ended: float  # and of its end
    at: float  # seconds since the epoch of its end

    @property
    def seconds(self) -> float:
        """From arrival to end."""
        return self.ended - self.arrived


class Report(Protocol):
    """What is told of every call: a log, a trace."""

    def __call__(self, call: Ended) -> None:
        """Must not raise."""


class Watching(grpc.ServerInterceptor):
    """Put before every other interceptor of a server."""

    def __init__(self, tallies: Mapping[str, Tally], common: str, reports: Sequence[Report] = ()) -> None:
        """`tallies`: by tenant; `common`: whose calls of nobody that we know are."""
        self._tallies, self._common, self._reports = tallies, common, reports
        self._running: dict[int, float] = {}  # by thread

    @property
    def running(self) -> int:
        """Calls that are answered now."""
        return len(self._running)

    def intercept_service(self, continuation: Callable[[Any], Handler], details: Any) -> Handler:
        """See grpc.ServerInterceptor. It is called when a call arrives; a thread may take it later."""
        arrived = time.perf_counter()
        handler = continuation(details)
        if handler is None or handler.unary_unary is None or not details.method.startswith(_OURS):
            return handler
        method, metadata, who = handler.unary_unary, details.invocation_metadata, caller()
        tenant = self._common if who is None or who.tenant not in self._tallies else who.tenant

        def call(request: Any, context: grpc.ServicerContext) -> Any:
            return self._answer(method, _observation(details.method, metadata), tenant, arrived, request, context)

        for name in _ASIDE:
            if hasattr(method, name):
                setattr(call, name, getattr(method, name))
        return grpc.unary_unary_rpc_method_handler(call, handler.request_deserializer, handler.response_serializer)

    def _answer(
        self,
        method: Callable[..., Any],
        one: Observation,
        tenant: str,
        arrived: float,
        request: Any,
        context: grpc.ServicerContext,
    ) -> Any:
        thread, began = threading.get_ident(), time.perf_counter()
        self._running[thread] = began
        observation.begin(one)
        failed = True
        try:
            answer = method(request, context)
            failed = False
            return answer
        finally:
            observation.end()
            self._running.pop(thread, None)
            self._end(one, tenant, context, arrived, began, failed)

    def _end(self, one: Observation, tenant: str, context: Any, arrived: float, began: float, failed: bool) -> None:
        tally = self._tallies[tenant]
        if not (tally.detailed or self._reports):
            return
        ended, code = time.perf_counter(), _code(context, failed)
        if tally.detailed:
            calls, wait = (one.rpc, code), (one.rpc, "wait")
            tally.note((), (("calls", calls, ended - arrived), ("stages", wait, began - arrived)))
        if self._reports:
            call = Ended(one, tenant, code, arrived, began, ended, time.time())
            for report in self._reports:
                report(call)


def _observation(path: str, metadata: Any) -> Observation:
    given = parent = ""
    for key, value in metadata or ():
        if key == _REQUEST_ID:
            given = usable_id(value)
        elif key == _PARENT:
            parent = value
    return Observation(path.rpartition("/")[2], given, parent)


def _code(context: Any, failed: bool) -> str:
    """The status that the caller gets; CANCELLED where it no longer waits."""
    code = context.code()
    if code is not None:
        return str(getattr(code, "name", code))
    if failed:
        return "UNKNOWN"
    return OK if context.is_active() else "CANCELLED"
