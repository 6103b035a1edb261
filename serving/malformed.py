"""Requests that are no message of their kind: what gRPC by itself answers with INTERNAL, as if the server were at fault, is INVALID_ARGUMENT."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError

Handler = Any  # grpc.RpcMethodHandler, whose fields the types do not know
_TEXT = "the request is not a message of this method: broken wire format, or text that is not UTF-8"


class _Broken:
    """Stands for a request that could not be read."""


def readable(handler: Handler) -> Handler:
    """The same method, which refuses what its deserializer cannot read."""

    def read(data: bytes) -> Any:
        try:
            return handler.request_deserializer(data)
        except (DecodeError, UnicodeDecodeError):
            return _Broken()

    def one(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(request: Any, context: grpc.ServicerContext, *more: Any) -> Any:
            if isinstance(request, _Broken):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, _TEXT)
            return method(request, context, *more)

        return call

    def many(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
            def readable() -> Iterator[Any]:
                for request in requests:
                    if isinstance(request, _Broken):
                        context.abort(grpc.StatusCode.INVALID_ARGUMENT, _TEXT)
                    yield request

            return method(readable(), context)

        return call

    kinds: dict[tuple[bool, bool], tuple[Any, Any, Any]] = {
        (False, False): (grpc.unary_unary_rpc_method_handler, one, handler.unary_unary),
        (False, True): (grpc.unary_stream_rpc_method_handler, one, handler.unary_stream),
        (True, False): (grpc.stream_unary_rpc_method_handler, many, handler.stream_unary),
        (True, True): (grpc.stream_stream_rpc_method_handler, many, handler.stream_stream),
    }
    make, around, method = kinds[handler.request_streaming, handler.response_streaming]
    wrapped = around(method)
    # the health service answers Watch from its own threads, and says so by attributes of its methods
    for name in ("experimental_non_blocking", "experimental_thread_pool"):
        if hasattr(method, name):
            setattr(wrapped, name, getattr(method, name))
    return make(wrapped, read, handler.response_serializer)
