"""Before every call: who it is, whether they may, whether they ask too much, whether there is room. And where it goes: to the parts of its tenant.

gRPC asks for a method's handler in the thread that takes calls from the network, before anything waits. What is refused is refused there and then: it never
stands in the line that it is about, wakes no other thread, and its request is not even received.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from functools import lru_cache
from typing import Any, Final, NoReturn

import grpc

from core.errors import AisleError
from serving.access import Access
from serving.caller import Caller, Role, caller, set_caller
from serving.method_table import Handler, MethodTable
from serving.refusals import refusal
from serving.shedding import Shedding, set_ticket
from serving.tally import Tally
from serving.tenants import Tenants

REFUSED: Final = "refused"
"""What the gate's tally counts, by the gRPC status."""


class Gate(grpc.ServerInterceptor):
    """Refuses, or says who calls (serving.caller) and lets in.

    Args:
        access: Who may.
        take: Counts a call against the limits of its caller; TooMuchError: it is beyond them. None: there are none.
        shedding: Whether there is room; None: there always is.
    """

    def __init__(
        self, access: Access, take: Callable[[Caller], None] | None = None, shedding: Shedding | None = None
    ) -> None:
        self._access, self._take, self._shedding = access, take, shedding
        self.tally = Tally()

    def intercept_service(self, continuation: Callable[[Any], Handler], details: Any) -> Handler:
        """See grpc.ServerInterceptor."""
        need = self._access.needs(details.method)
        try:
            if need is not None:
                self._let_in(need, details.invocation_metadata)
            return continuation(details)
        except AisleError as e:
            self.tally.add(REFUSED, e.grpc_status)
            return _refusing(e.grpc_status, str(e), getattr(e, "retry_seconds", None))

    def _let_in(self, need: Role, metadata: Any) -> None:
        who = self._access.check(need, metadata)
        set_caller(who)
        if need is Role.ADMIN:  # whoever looks after a server that is overrun
            return
        if self._take is not None:
            self._take(who)
        if self._shedding is not None:
            set_ticket(self._shedding.admit(sampled=need is Role.READ))


class Router(grpc.GenericRpcHandler):
    """Gives a call to the parts of its tenant; `common` are methods that belong to none."""

    def __init__(self, tenants: Tenants, common: Mapping[str, Handler]) -> None:
        self._tenants, self._common = tenants, common

    def service(self, details: Any) -> Handler:
        """See grpc.GenericRpcHandler. AisleError: the gate says it."""
        found = self._common.get(details.method)
        who = caller()
        if found is not None or who is None:
            return found
        table: MethodTable = self._tenants.of(who.tenant).methods
        return table.handlers.get(details.method)


class _AtOnce(futures.ThreadPoolExecutor):
    """Runs what it is given in the thread that gives it. gRPC wants a pool of this class; no thread of it is ever started."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """See Executor."""
        done: futures.Future[Any] = futures.Future()
        done.set_result(fn(*args, **kwargs))
        return done


_AT_ONCE: Final = _AtOnce(1)


@lru_cache(maxsize=256)
def _refusing(code: str, message: str, retry_seconds: float | None) -> Handler:
    """A handler that refuses. Kept: under overload most calls end here, for the same few reasons."""
    status = refusal(code, message, retry_seconds)

    def refuse(requests: Iterator[bytes], context: grpc.ServicerContext) -> NoReturn:
        context.abort_with_status(status)

    refuse.experimental_thread_pool = _AT_ONCE  # type: ignore[attr-defined]
    # as of a stream of requests, whatever the method: of those none is awaited
    return grpc.stream_unary_rpc_method_handler(refuse)
