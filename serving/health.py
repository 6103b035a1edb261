"""grpc.health.v1: whether each service answers, once (Check), of all (List), or at every change (Watch).

`grpc_health.v1.health.HealthServicer` of grpcio-health-checking 1.85 can stop a whole server: its Watch sends under a lock that gRPC's own thread asks for
when another watch ends, and sending waits for that thread. Here a single thread of the health service does everything that has to do with watches, one
after another, and gRPC's thread only leaves word there. List is missing from it, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_Answer = health_pb2.HealthCheckResponse
Send = Callable[[Any], None]  # a status to one watch; None ends it
_WATCHES: Final = 1000  # at once: more are refused


class Health(health_pb2_grpc.HealthServicer):
    """What is said of a server and of each of its services; not serving until it is said."""

    def __init__(self, services: Iterable[str]) -> None:
        self._status: dict[str, Any] = dict.fromkeys(("", *services), _Answer.NOT_SERVING)
        self._watching: set[tuple[str, Send]] = set()  # this and all that is sent: only by the one thread
        self._thread = ThreadPoolExecutor(1, "health")

        def watch(request: Any, context: grpc.ServicerContext, send: Send) -> None:
            self._watch(request.service, context, send)

        # gRPC calls it there, so that a watch holds no thread that answers
        watch.experimental_non_blocking = True  # type: ignore[attr-defined]
        watch.experimental_thread_pool = self._thread  # type: ignore[attr-defined]
        self.Watch = watch  # type: ignore[assignment]

    def say(self, status: Any) -> None:
        """The same `ServingStatus` of all services, to whoever asks from now on and to all that watch."""
        self._status = dict.fromkeys(self._status, status)
        self._thread.submit(self._tell, status)

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """See health.proto."""
        status = self._status.get(request.service)
        if status is None:
            context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r}")
        return _Answer(status=status)

    def List(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        """See health.proto."""
        answers = {service: _Answer(status=status) for service, status in self._status.items()}
        return health_pb2.HealthListResponse(statuses=answers)  # type: ignore[attr-defined]

    def _watch(self, service: str, context: grpc.ServicerContext, send: Send) -> None:
        watching = (service, send)
        if len(self._watching) >= _WATCHES:
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{_WATCHES} watches are the most there can be")
        send(_Answer(status=self._status.get(service, _Answer.SERVICE_UNKNOWN)))
        self._watching.add(watching)

        def ended() -> None:
            self._thread.submit(self._end, watching)

        if not context.add_callback(ended):  # it has ended already
            self._end(watching)

    def _tell(self, status: Any) -> None:
        for service, send in list(self._watching):
            if service in self._status:
                send(_Answer(status=status))

    def _end(self, watching: tuple[str, Send]) -> None:
        self._watching.discard(watching)
        watching[1](None)
