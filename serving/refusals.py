"""Turns our errors into gRPC statuses: the canonical code, the message, and the fields at fault."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from core.errors import AisleError
from serving.private_logs import stack_of
from serving.shedding import ticket
from serving.validation import BadRequestError

_LOG = logging.getLogger(__name__)
S = TypeVar("S")
Q = TypeVar("Q")
A = TypeVar("A")


def guarded(method: Callable[[S, Q, grpc.ServicerContext], A]) -> Callable[[S, Q, grpc.ServicerContext], A]:
    """A method of a service whose errors become statuses. Anything that is not an AisleError is a bug: INTERNAL, its stack in the log."""

    @functools.wraps(method)
    def call(self: S, request: Q, context: grpc.ServicerContext) -> A:
        admitted = ticket()
        try:
            admitted.begin()
            return method(self, request, context)
        except AisleError as e:
            refuse(context, e)
        except Exception as e:  # noqa: BLE001 - the caller gets a status, the log the stack
            _LOG.error("%s failed\n%s", method.__name__, stack_of(e))
            context.abort(grpc.StatusCode.INTERNAL, "a bug in Aisle; its stack is in the server's log")
        finally:
            admitted.end()

    return call


def refuse(context: grpc.ServicerContext, error: AisleError) -> NoReturn:
    """End the call with the error's status: the fields at fault, or when to try again."""
    details = error_details_pb2.BadRequest()
    for where, what in error.violations if isinstance(error, BadRequestError) else ():
        details.field_violations.add(field=where, description=what)
    more = [details] if details.field_violations else []
    context.abort_with_status(refusal(error.grpc_status, str(error), getattr(error, "retry_seconds", None), more))


def refusal(code: str, message: str, retry_seconds: float | None, details: Iterable[Message] = ()) -> grpc.Status:
    """A status as gRPC sends it, with google.rpc.RetryInfo where it may be tried again."""
    status = status_pb2.Status(code=code_pb2.Code.Value(code), message=message)
    for detail in details:
        _attach(status, detail)
    if retry_seconds is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(1e3 * retry_seconds))
        _attach(status, retry)
    return rpc_status.to_status(status)


def _attach(status: status_pb2.Status, detail: Message) -> None:
    packed: Any = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)
