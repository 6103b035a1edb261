"""May this caller call this method? The table of what each method needs, and the check of a call's metadata against it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Final

from serving.api_keys import ApiKeys
from serving.caller import Caller, ForbiddenError, Role, UnauthenticatedError

Metadata = Iterable[tuple[str, Any]]

_RECOMMENDER: Final = ("Recommend", "BatchRecommend", "SimilarItems", "Rank", "Explain", "PreviewRules")
NEEDS: Final[dict[str, Role | None]] = {
    **{f"/aisle.v1.Recommender/{name}": Role.READ for name in _RECOMMENDER},
    "/aisle.v1.Events/WriteEvents": Role.WRITE,
    "/aisle.v1.Users/DeleteUser": Role.WRITE,
    **{f"/aisle.v1.Catalog/{name}": Role.WRITE for name in ("UpsertItems", "DeleteItems", "SetAvailability")},
    "/aisle.v1.Admin/GetStatus": Role.ADMIN,
    "/aisle.v1.Admin/LoadRelease": Role.ADMIN,
    # load balancers have no keys, and learn nothing but whether the server answers
    **{f"/grpc.health.v1.Health/{name}": None for name in ("Check", "List", "Watch")},
}
"""The role that each method needs; None: everyone may call it. A method that is not here needs the role of an administrator."""
REFLECTION: Final = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

TENANT_HEADER: Final = "x-aisle-tenant"
_KEY_HEADERS: Final = ("authorization", "x-api-key")
_BEARER: Final = "bearer "


class Access:
    """Says who calls.

    Args:
        keys: Those of now; None: the service is open, and the header `x-aisle-tenant` chooses the tenant.
        tenants: That this server answers for.
        reflection: Who may ask the service to describe itself; None: everyone.
    """

    def __init__(
        self, keys: Callable[[], ApiKeys] | None, tenants: Iterable[str], reflection: Role | None = None
    ) -> None:
        self._keys, self._tenants = keys, frozenset(tenants)
        self._needs = {**NEEDS, REFLECTION: reflection}
        self._alone = next(iter(self._tenants)) if len(self._tenants) == 1 else None

    def needs(self, method: str) -> Role | None:
        """The role that a method needs; None: none."""
        return self._needs.get(method, Role.ADMIN)

    def check(self, need: Role, metadata: Metadata) -> Caller:
        """Who calls a method that needs a role.

        Raises:
            UnauthenticatedError: No key where one is needed, or one that does not hold.
            ForbiddenError: A key of another tenant, or without the right.
        """
        text, wanted = _said(metadata)
        if self._keys is None:
            return Caller(self._chosen(wanted), Role.ADMIN)
        if not text:
            raise UnauthenticatedError(
                "an API key is needed: send it as `authorization: Bearer KEY` or `x-api-key: KEY`"
            )
        key = self._keys().find(text, time.time())
        if key is None:
            raise UnauthenticatedError("this API key does not hold: unknown, revoked or expired")
        if key.tenant not in self._tenants or wanted not in ("", key.tenant):
            raise ForbiddenError("this API key is of another tenant")
        if key.role < need:
            raise ForbiddenError(f"this needs the role {need.name.lower()}; the API key has {key.role.name.lower()}")
        return Caller(key.tenant, key.role, key.id)

    def _chosen(self, wanted: str) -> str:
        """The tenant of a call to an open service."""
        if wanted in self._tenants:
            return wanted
        if wanted:
            raise ForbiddenError("this server does not answer for that tenant")
        if self._alone is None:
            raise ForbiddenError(f"this server answers for several tenants: name one with the header {TENANT_HEADER}")
        return self._alone


def _said(metadata: Metadata) -> tuple[str, str]:
    """The API key and the tenant of a call's metadata; empty where there is none."""
    key = tenant = ""
    for name, value in metadata:
        if name in _KEY_HEADERS and isinstance(value, str):
            bearer = name == "authorization" and value[: len(_BEARER)].lower() == _BEARER
            key = value[len(_BEARER) :].strip() if bearer else value
        elif name == TENANT_HEADER:
            tenant = value
    return key, tenant
