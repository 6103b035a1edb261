"""Turns our errors into gRPC statuses: the canonical code, the message, and the fields at fault."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2
from grpc_status import rpc_status

from core.errors import AisleError
from serving.failures import StoreError
from serving.validation import BadRequestError

_LOG = logging.getLogger(__name__)
S = TypeVar("S")
Q = TypeVar("Q")
A = TypeVar("A")


def guarded(method: Callable[[S, Q, grpc.ServicerContext], A]) -> Callable[[S, Q, grpc.ServicerContext], A]:
    """A method of a service whose errors become statuses. Anything that is not an AisleError is a bug: INTERNAL, its stack in the log."""

    @functools.wraps(method)
    def call(self: S, request: Q, context: grpc.ServicerContext) -> A:
        try:
            return method(self, request, context)
        except AisleError as e:
            refuse(context, e)
        except Exception:  # noqa: BLE001 - the caller gets a status, the log the stack
            _LOG.exception("%s failed", method.__name__)
            context.abort(grpc.StatusCode.INTERNAL, "a bug in Aisle; its stack is in the server's log")

    return call


def refuse(context: grpc.ServicerContext, error: AisleError) -> NoReturn:
    """End the call with the error's status: the fields at fault, or when to try again."""
    status = status_pb2.Status(code=code_pb2.Code.Value(error.grpc_status), message=str(error))
    if isinstance(error, BadRequestError):
        details = error_details_pb2.BadRequest()
        for where, what in error.violations:
            details.field_violations.add(field=where, description=what)
        _attach(status, details)
    if isinstance(error, StoreError):
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(round(1e3 * error.retry_seconds))
        _attach(status, retry)
    context.abort_with_status(rpc_status.to_status(status))


def _attach(status: status_pb2.Status, detail: Message) -> None:
    packed: Any = any_pb2.Any()
    packed.Pack(detail)
    status.details.append(packed)
