"""Random and broken requests to every method of every service that a running server says it has: no crash, no UNKNOWN or INTERNAL, memory flat.

    .venv/bin/python -m benchmarks.fuzz --release WORK/releases/current --requests 100000
    .venv/bin/python -m benchmarks.fuzz --requests 5000                        # makes a small release first

Services, methods and messages come from the server's reflection, requests from benchmarks/fuzz_requests.py. The server is a real one, on a copy of the
release; its memory (without pages of files) is read every 500 requests, and a line through the last four fifths must not rise beyond its 95 %
interval. Requests above gRPC's limit on messages are sent beside them. The same seed sends the same requests to the same protos. The last line of stdout
is JSON; exit 1 when something was wrong, with the first such requests in hexadecimal.
"""

# bazel: imports=[cli.*]

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import grpc
import numpy as np
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from benchmarks.fault_place import copied, given_or_small
from benchmarks.fuzz_requests import Words, requests
from benchmarks.slopes import memory_mb, slope_of_steps
from core.errors import AisleError
from core.schema import EventType
from pipeline.served import Served
from serving.client import Client
from serving.release import Release

_DEADLINE: Final = 20.0  # seconds: none of these requests may take so long
_STREAM_DEADLINE: Final = 0.2  # a stream is left after its first answer
_CHUNK: Final = 500  # requests of one run of hypothesis, which remembers what it tried; then the memory is looked at
_SHOWN: Final = 20
_OVERSIZED: Final = 5 << 20  # bytes; gRPC takes 4 MiB
_RARE: Final = {
    "LoadRelease": 1,
    "DeleteUser": 2,
    "UpsertItems": 5,
    "WriteEvents": 20,
}  # weights: they take long, or fill Redis
_OFTEN: Final = 30
WRONG: Final = frozenset({"UNKNOWN", "INTERNAL", "DATA_LOSS", "DEADLINE_EXCEEDED", "UNAVAILABLE", "CANCELLED"})


@dataclass
class Tally:
    """What came back."""

    statuses: Counter[str] = field(default_factory=Counter)
    by_method: Counter[str] = field(default_factory=Counter)
    wrong: list[dict[str, str]] = field(default_factory=list)
    wrong_count: int = 0
    slowest_ms: float = 0.0
    slowest: str = ""


def methods(channel: grpc.Channel) -> list[MethodDescriptor]:
    """Every method that the server offers, the health check and reflection itself too."""
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    services = [pool.FindServiceByName(name) for name in sorted(database.get_services())]
    return [method for service in services for method in service.methods]


def words_of(release: Release, users: Sequence[str]) -> Words:
    """What means something to a server with this release."""
    items = tuple(i for i in release.item_ids.texts if i)[:50]
    people, new = tuple(users)[:50], tuple(f"new-{n}" for n in range(20))
    filters = (
        'category UNDER "Kitchen"',
        "price IN [1..50)",
        'brand IN ("a", "b") AND NOT available',
        "((",
        "price >",
        "stock = 0",
        "(" * 2_000,
    )
    item_ids = (*items, *new)
    of_field = {
        **dict.fromkeys(("item_id", "item_ids", "context_item_ids", "exclude_item_ids"), item_ids),
        **dict.fromkeys(("user_id", "visitor_id", "session_id"), people or new),
        "event_type": tuple(str(t) for t in EventType),
        "filter": filters,
        "path": (
            str(release.path),
            str(release.path.parent),
            str(release.path / "manifest.json"),
            "/proc/self/mem",
            "/",
            ".",
        ),
    }
    # what the catalog is told stays in memory until the next night, as it should: so it is told of few items
    return Words((*items[:10], *people[:10], "home", "GBP", "2024"), of_field, frozenset({"aisle/v1/catalog.proto"}))


def send(channel: grpc.Channel, method: MethodDescriptor, data: bytes) -> tuple[str, str]:
    """The name of the status that came back, and what it says."""
    name, calls = f"/{method.containing_service.full_name}/{method.name}", cast(Any, channel)  # bytes go as they are
    try:
        if method.server_streaming:
            call: Any = (
                calls.stream_stream(name)(iter([data]), timeout=_STREAM_DEADLINE)
                if method.client_streaming
                else calls.unary_stream(name)(data, timeout=_STREAM_DEADLINE)
            )
            next(call)
            call.cancel()
        elif method.client_streaming:
            calls.stream_unary(name)(iter([data]), timeout=_DEADLINE)
        else:
            calls.unary_unary(name)(data, timeout=_DEADLINE)
    except StopIteration:
        return "OK", ""
    except grpc.RpcError as e:
        error: Any = e  # a grpc.Call too, which types cannot say
        return error.code().name, error.details() or ""
    return "OK", ""


class Fuzz:
    """Sends random requests to a server over one channel."""

    def __init__(self, channel: grpc.Channel, words: Words) -> None:
        self._channel, self.tally = channel, Tally()
        self._requests = [(m, requests(m, words)) for m in methods(channel)]

    def run(self, count: int, start: int) -> None:
        """Send `count` requests, a share of them to each method; `start` seeds them."""
        weights = np.array([_RARE.get(m.name, _OFTEN) for m, _ in self._requests], np.float64)
        shares = np.random.default_rng(start).multinomial(count - len(weights), weights / weights.sum()) + 1
        for (method, some), share in zip(self._requests, shares.tolist(), strict=True):
            self._send(method, some, share, start)

    def _send(self, method: MethodDescriptor, some: st.SearchStrategy[bytes], count: int, start: int) -> None:
        @seed(start)
        @settings(
            max_examples=count,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(some)
        def each(data: bytes) -> None:
            _record(self._channel, method, data, self.tally)

        each()


def _record(channel: grpc.Channel, method: MethodDescriptor, data: bytes, tally: Tally) -> None:
    began = time.perf_counter()
    status, says = send(channel, method, data)
    took = 1e3 * (time.perf_counter() - began)
    tally.statuses[status] += 1
    tally.by_method[method.full_name] += 1
    if took > tally.slowest_ms:
        tally.slowest_ms, tally.slowest = took, f"{method.full_name} {data[:200].hex()}"
    if status in WRONG and not (method.server_streaming and status in ("DEADLINE_EXCEEDED", "CANCELLED")):
        tally.wrong_count += 1
        if len(tally.wrong) < _SHOWN:
            tally.wrong.append(
                {"method": method.full_name, "status": status, "says": says, "request": data[:2_000].hex()}
            )


def oversized(channel: grpc.Channel) -> dict[str, int]:
    """One request above the limit to every method with a single request: what came back."""
    single = [m for m in methods(channel) if not m.client_streaming and not m.server_streaming]
    return dict(Counter(send(channel, method, b"\xff" * _OVERSIZED)[0] for method in single))


def run(release: Path, count: int, start: int) -> dict[str, Any]:
    """All of it, against a server of its own; `count` is rounded up to whole runs."""
    with tempfile.TemporaryDirectory(prefix="aisle-fuzz-") as folder:
        work, seen = copied(release, Path(folder) / "work"), list[tuple[int, float]]()
        words = words_of(Release.open(work.current), [str(n) for n in range(50)])
        with Served(work.current) as served, grpc.insecure_channel(served.address) as channel:
            fuzz = Fuzz(channel, words)
            began, tally = time.perf_counter(), fuzz.tally
            for sent in range(_CHUNK, count + _CHUNK, _CHUNK):
                fuzz.run(_CHUNK, start + sent)
                seen.append((sent, memory_mb(served.process.pid)["Anonymous"]))
                print(f"{sent} requests, {seen[-1][1]:.1f} MB, {tally.wrong_count} wrong", file=sys.stderr)
            too_big = oversized(channel)
            with Client(served.address) as ask:
                alive = ask.status().pid == served.process.pid
            seconds = time.perf_counter() - began
            code = served.stop()
    last = seen[len(seen) // 5 :]
    memory = slope_of_steps([n / 10_000 for n, _ in last], [mb for _, mb in last])
    return {
        "requests": tally.statuses.total(),
        "methods": len(tally.by_method),
        "statuses": dict(tally.statuses.most_common()),
        "by_method": dict(sorted(tally.by_method.items())),
        "oversized": too_big,
        "wrong": tally.wrong_count,
        "first_wrong": tally.wrong,
        "alive": alive and code == 0,
        "memory_mb": [round(seen[0][1], 1), round(seen[-1][1], 1)],
        "memory_mb_per_10000": memory.rounded(),
        "slowest_ms": round(tally.slowest_ms, 1),
        "slowest": tally.slowest,
        "seed": start,
        "seconds": round(seconds, 1),
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Send random and broken requests to every method.")
    parser.add_argument("--release", type=Path, help="a release in its work directory; default: a small one is made")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    a = parser.parse_args()
    try:
        with given_or_small(a.release) as release:
            found = run(release, a.requests, a.seed)
    except AisleError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    print(json.dumps(found))
    if found["wrong"] or not found["alive"] or found["memory_mb_per_10000"]["grows"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
