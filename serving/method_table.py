"""The methods of some services under their full names: what the generated `add_..._to_server` functions fill instead of a server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from serving.malformed import readable

Handler = Any  # grpc.RpcMethodHandler, whose fields the types do not know


class MethodTable:
    """Methods by name, such as `/aisle.v1.Recommender/Recommend`. Each refuses requests that are no message of it.

    Those functions take it for a server, which it is not: type it as Any where they are called.
    """

    def __init__(self) -> None:
        self.handlers: Final[dict[str, Handler]] = {}

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Handler]) -> None:
        """See grpc.Server."""
        self.handlers.update((f"/{service}/{name}", readable(handler)) for name, handler in handlers.items())

    def add_generic_rpc_handlers(self, handlers: Sequence[Any]) -> None:
        """See grpc.Server; the same methods are added by name."""
