"""aisle.v1.Users: forgetting people."""

from __future__ import annotations

import grpc
import redis

from aisle.v1 import users_pb2 as pb
from aisle.v1 import users_pb2_grpc
from core.erasure import Forgotten
from serving.failures import Failure, StoreError
from serving.forget import Wishes, forget, start_rewrite
from serving.keys import Keys
from serving.redis_link import RedisLink, failure_of
from serving.refusals import guarded
from serving.validation import Problems

_STREAMS_SECONDS = 10.0  # some millions of entries; what is left is done by `users erase`


class UsersService(users_pb2_grpc.UsersServicer):
    """Takes wishes to be forgotten, and fulfils what can be fulfilled online."""

    def __init__(self, link: RedisLink, keys: Keys) -> None:
        self._link, self._keys = link, keys

    @guarded
    def DeleteUser(self, request: pb.DeleteUserRequest, context: grpc.ServicerContext) -> pb.DeleteUserResponse:  # noqa: N802
        """See the proto."""
        problems = Problems()
        if not request.user_id and not request.visitor_id:
            problems.add("user_id", "is required, or visitor_id")
        for name in ("user_id", "visitor_id"):
            problems.text(name, getattr(request, name))
        problems.refuse()
        store, breaker = self._link.writes, self._link.writing
        breaker.check()
        try:
            store.ping()  # so that a Redis that is not there is not taken for one that forgets
            if not self._link.durable():
                raise StoreError(
                    Failure.NOT_DURABLE, "the wish would not survive it; set appendonly yes, appendfsync always"
                )
            name = Wishes(store, self._keys).add(request.user_id, request.visitor_id)
            gone = Forgotten.of([(request.user_id, request.visitor_id)])
            removed = forget(store, self._keys, gone, _STREAMS_SECONDS)
            start_rewrite(store)
        except redis.RedisError as e:
            breaker.failed(failure_of(e))
            raise StoreError(failure_of(e), str(e)) from None
        breaker.worked()
        return pb.DeleteUserResponse(
            erasure_id=name,
            histories=removed.histories,
            live_lists=removed.live_lists,
            events=removed.events,
            pages=removed.pages,
            streams_done=removed.streams_done,
            pending=True,
        )
