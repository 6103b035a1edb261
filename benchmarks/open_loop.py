"""An open loop of `Recommend` calls, in a thread beside whatever else a benchmark does to the service.

Calls begin on a fixed schedule, late or not, over several connections (so that every worker gets some), and their latency counts from the scheduled
moment: a slow answer does not hide the wait it causes. A call that ends with UNAVAILABLE, CANCELLED or RESOURCE_EXHAUSTED is sent again over another
connection, as the retry policy of a storefront's gRPC channel does; `attempts` says how often, and a call counts as failed only when none of them was
answered.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import grpc
import grpc.aio
import numpy as np

from aisle.v1.recommender_pb2 import RecommendRequest
from aisle.v1.recommender_pb2_grpc import RecommenderStub

_WAITS: Final = (0.0, 0.02, 0.1, 0.5)  # seconds before each attempt
_TIMEOUT: Final = 5.0
_SHED_WAIT: Final = 0.25  # what a server that sheds asks for
# gRPC's server cancels what has reached it, but no thread of it, at the moment that it is told to stop
_AGAIN: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
_SHED: Final = grpc.StatusCode.RESOURCE_EXHAUSTED
_PAGE: Final = 10


@dataclass(frozen=True)
class Call:
    """One call, with all its attempts."""

    due: float  # time.perf_counter() at which it was to begin
    seconds: float  # from then to the last answer
    attempts: int
    status: str  # of the last attempt: "OK" or the gRPC code
    reason: str = ""  # fallback_reason; or what the status says
    level: str = ""
    release: str = ""
    items: int = 0
    late: float = 0.0  # seconds after `due` at which this process got round to it: its own lag, not the service's

    @property
    def failed(self) -> bool:
        """Nothing was answered."""
        return self.status != "OK"

    @property
    def clean(self) -> bool:
        """Answered at the first attempt, and not degraded."""
        return not self.failed and self.attempts == 1 and not self.reason


class OpenLoop:
    """Calls for one of `users` after another, `rate` a second; `insists`: again when the server sheds them. Use it in a `with` block."""

    def __init__(
        self, address: str, users: Sequence[str], rate: float, connections: int = 6, *, insists: bool = True
    ) -> None:
        self._again = (*_AGAIN, _SHED) if insists else _AGAIN
        # as our own client, within the deadline of a call and its repetitions (serving.client)
        self._waits = (*_WAITS, *[_SHED_WAIT] * round(_TIMEOUT / _SHED_WAIT)) if insists else _WAITS
        self._address, self._users, self._rate, self._connections = address, users, rate, connections
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="open-loop", daemon=True)
        self.calls: list[Call] = []  # as they end; grows only

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Begin no more calls, and return when the last is answered."""
        self._stopping.set()
        self._thread.join()

    def between(self, start: float, end: float) -> list[Call]:
        """The calls that were due in [start, end) (time.perf_counter())."""
        return [c for c in list(self.calls) if start <= c.due < end]

    async def _run(self) -> None:
        # a connection each: by itself gRPC lets channels to one address share one
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 200)]
        channels = [grpc.aio.insecure_channel(self._address, options=options) for _ in range(self._connections)]
        self._stubs: list[Any] = [RecommenderStub(channel) for channel in channels]
        start, under_way = time.perf_counter() + 0.05, set[asyncio.Task[None]]()
        for number in itertools.count():
            if self._stopping.is_set():
                break
            due = start + number / self._rate
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            task = asyncio.create_task(self._call(number, due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
        for channel in channels:
            await channel.close()

    async def _call(self, number: int, due: float) -> None:
        request = RecommendRequest(user_id=self._users[number % len(self._users)], page_size=_PAGE)
        status, reason, late = "", "", time.perf_counter() - due
        for attempt, wait in enumerate(self._waits, 1):
            await asyncio.sleep(wait)
            stub = self._stubs[(number + attempt) % len(self._stubs)]
            try:
                answer = await stub.Recommend(request, timeout=_TIMEOUT)
            except grpc.aio.AioRpcError as e:
                status, reason = e.code().name, e.details() or ""
                if e.code() not in self._again:
                    break
            else:
                seconds = time.perf_counter() - due
                self.calls.append(
                    Call(
                        due,
                        seconds,
                        attempt,
                        "OK",
                        answer.fallback_reason,
                        answer.level,
                        answer.release,
                        len(answer.results),
                        late,
                    )
                )
                return
        self.calls.append(Call(due, time.perf_counter() - due, attempt, status, reason, late=late))


def summary(calls: Sequence[Call]) -> dict[str, Any]:
    """What became of some calls: counts, reasons, latencies in milliseconds."""
    milliseconds = np.array([1e3 * c.seconds for c in calls if not c.failed] or [np.nan])
    return {
        "calls": len(calls),
        "failed": sum(c.failed for c in calls),
        "sent_again": sum(c.attempts > 1 for c in calls),
        "short_pages": sum(c.items != _PAGE for c in calls if not c.failed),
        "degraded": dict(Counter(c.reason for c in calls if not c.failed and c.reason)),
        "statuses": dict(Counter(f"{c.status}: {c.reason}" for c in calls if c.failed)),
        **{f"p{q:g}_ms": round(float(np.quantile(milliseconds, q / 100)), 1) for q in (50, 99)},
        "max_ms": round(float(milliseconds.max()), 1),
    }
