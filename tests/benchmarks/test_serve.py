"""The load generator of `bench serve` against a real gRPC server that holds answers back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
import numpy as np
import pytest

from aisle.v1.recommender_pb2 import RecommendRequest, RecommendResponse, Result
from aisle.v1.recommender_pb2_grpc import RecommenderServicer, RecommenderStub, add_RecommenderServicer_to_server
from benchmarks.serve import Asking
from core.errors import AisleError

FULL = RecommendResponse(results=[Result(item_id=str(n)) for n in range(20)])


class Held(RecommenderServicer):
    """Holds the first answer back until so many calls have come; of the other calls none comes."""

    BatchRecommend = SimilarItems = Rank = Explain = PreviewRules = None  # type: ignore[assignment]

    def __init__(self, until: int, answer: RecommendResponse = FULL) -> None:
        self._until, self._answer, self.users = until, answer, list[str]()
        self._enough = asyncio.Event()

    async def Recommend(self, request: RecommendRequest, context: Any) -> RecommendResponse:  # noqa: N802
        self.users.append(request.user_id)
        if len(self.users) >= self._until:
            self._enough.set()
        if len(self.users) == 1:
            await self._enough.wait()
        return self._answer


@asynccontextmanager
async def asking(servicer: Held, users: list[str]) -> AsyncIterator[Asking]:
    server = grpc.aio.server()
    add_RecommenderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Asking(RecommenderStub(channel), users)
    await server.stop(None)


def run(servicer: Callable[[], Held], load: Callable[[Asking], Any], users: list[str]) -> tuple[Any, Held]:
    async def inside() -> tuple[Any, Held]:
        held = servicer()
        async with asking(held, users) as ask:
            return await load(ask), held

    return asyncio.run(inside())


def test_calls_on_a_schedule_do_not_wait_for_slow_answers_and_count_the_wait() -> None:
    # 10 calls, one every 5 ms; the one that comes first is answered only once all have come. A closed loop would never send a second.
    people = [str(n) for n in range(10)]
    found, held = run(lambda: Held(until=10), lambda ask: ask.scheduled(200.0, 0.05), people)
    assert sorted(held.users) == people
    first = int(held.users[0])
    assert found[first] >= 5 * (9 - first)


def test_one_by_one_asks_for_each_person_in_turn() -> None:
    found, held = run(lambda: Held(until=1), lambda ask: ask.one_by_one(5), ["a", "b", "c"])
    assert (len(found), held.users) == (5, ["a", "b", "c", "a", "b"])
    assert np.all(found > 0)


def test_a_short_page_is_no_answer() -> None:
    short = RecommendResponse(results=[Result(item_id="only")])
    with pytest.raises(AisleError, match="1 items for a, expected 20"):
        run(lambda: Held(1, short), lambda ask: ask.one_by_one(1), ["a"])
