"""What protection and sight cost: CPU of a worker for each request, with one thing after the other switched on, in one run.

    python -m benchmarks.sight_cost [--release WORK/releases/current] [--requests 400] [--rounds 9] [--arms bare,metrics,...]

Servers of one worker on a copy of one release share a Redis; each has another set of switches: `bare` (none: no load is shed, nothing is counted but what
GetStatus says), `metrics`, `logs` (JSON, a line for every call), `sampled` (metrics, and lines of one call in a hundred: what is meant to run),
`shedding`, `keys` (API keys and limits), `tls` (a server certificate), `all`. They are asked in turn, in an order that changes each round, one call after
the other over one connection, so that all see the same machine; `cpu_us` is user and system time of the worker for each call, the median of the rounds,
and `percent` the median of each round's excess over the first arm in the same round, with the range in which half of the rounds lie.
`sight_us`: what seeing a page takes of one thread of this process: the interceptor and the counting, without gRPC. The last line is JSON.
"""

# bazel: imports=[cli.*]

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
import numpy as np
import yaml

from aisle.v1.recommender_pb2 import RecommendRequest
from aisle.v1.recommender_pb2_grpc import RecommenderStub
from benchmarks.fault_place import OwnRedis, copied, given_or_small, load_state
from benchmarks.serve import Server
from core.errors import InputError
from core.history import Query
from core.work import Work
from pipeline.served import Served
from serving.answers import Request
from serving.api_keys import new_key
from serving.client_security import ClientSecurity
from serving.keys_file import add
from serving.release import Release
from serving.request_path import answer
from serving.resident import made_up_history, warm_up
from serving.sight.observation import page_seen
from serving.sight.watching import Watching
from serving.stage_watch import StageWatch
from serving.tally import Tally

_PAGE: Final = 20
_WARM_UP: Final = 200
_SIGHT_ROUNDS: Final = 500
_METRICS: Final = {"metrics": {"listen": "127.0.0.1:0"}}
_SAMPLED: Final = {"logging": {"format": "json", "calls": 0.01}}
_TENANT: Final = "default"


@dataclass
class Arm:
    """A server with some switches, and what its worker spent."""

    name: str
    address: str
    server: Server
    security: ClientSecurity
    spent: list[float] = field(default_factory=list)  # microseconds a call, by round


def settings(folder: Path) -> dict[str, tuple[dict[str, Any], ClientSecurity]]:
    """What each arm switches on, and how its client calls."""
    key, entry = new_key(_TENANT, "read", None, 1e6)
    add(folder / "keys.yaml", entry)
    cert, private = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    subprocess.run([*command, "-keyout", private, "-out", cert], check=True, capture_output=True)
    keys = {"keys": str(folder / "keys.yaml"), "requests_per_second": 1e6}
    tls = {"tls_cert": str(cert), "tls_key": str(private)}
    plain, ours = ClientSecurity(), ClientSecurity(api_key=key)
    off = {"shed": False}
    return {
        "bare": ({"protection": off}, plain),
        "metrics": ({"protection": off, **_METRICS}, plain),
        "logs": ({"protection": off, "logging": {"format": "json", "calls": 1.0}}, plain),
        "sampled": ({"protection": off, **_METRICS, **_SAMPLED}, plain),
        "shedding": ({"protection": {"shed": True}}, plain),
        "keys": ({"protection": {**off, **keys}}, ours),
        "tls": ({"protection": {**off, **tls}}, ClientSecurity(ca=str(cert))),
        "all": (
            {"protection": {"shed": True, **keys, **tls}, **_METRICS, **_SAMPLED},
            ClientSecurity(ca=str(cert), api_key=key),
        ),
    }


def cost(release: Path, names: list[str], requests: int, rounds: int) -> dict[str, Any]:
    """The figures of the last line."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aisle-cost-")))
        work = copied(release, folder / "work")
        redis = OwnRedis(folder / "redis", folder)
        stack.callback(redis.stop)
        redis.start()
        users, known = load_state(work, redis.url), settings(folder)
        if unknown := set(names) - set(known):
            raise InputError(f"--arms: {', '.join(sorted(unknown))}: known: {', '.join(known)}")
        arms = [stack.enter_context(_started(n, work, redis.url, folder, *known[n])) for n in names]
        for arm in arms:
            arm.server.settle()
            asyncio.run(_asked(arm, users, _WARM_UP))
        for turn in range(rounds):
            for arm in arms[turn % len(arms) :] + arms[: turn % len(arms)]:
                before = arm.server.cpu_seconds
                asyncio.run(_asked(arm, users, requests))
                arm.spent.append(1e6 * (arm.server.cpu_seconds - before) / requests)
        found = Release.open(work.current)
        warm_up(found)
        return {"requests": requests, "rounds": rounds, "arms": _figures(arms), "sight_us": sight_us(found)}


@contextlib.contextmanager
def _started(
    name: str, work: Work, redis: str, folder: Path, config: dict[str, Any], security: ClientSecurity
) -> Iterator[Arm]:
    path = folder / f"arm-{name}.yaml"  # beside the keys.yaml of the callers
    # what runs beside the answers costs the same in every arm, and would be noise in each
    path.write_text(yaml.safe_dump({"trending": {"enabled": False}, "log": {"share": 0.0}, **config}))
    with (
        open(folder / f"{name}.log", "w") as log,
        Served(work.current, "--redis", redis, "--config", path, stderr=log) as served,
    ):
        yield Arm(name, served.address, Server(served), security)


async def _asked(arm: Arm, users: list[str], calls: int) -> None:
    """Calls one after the other, over a connection of this round."""
    async with _channel(arm) as channel:
        stub: Any = RecommenderStub(channel)
        for n in range(calls):
            request = RecommendRequest(user_id=users[n % len(users)], page_size=_PAGE)
            await stub.Recommend(request, timeout=20, metadata=arm.security.metadata)


def _channel(arm: Arm) -> grpc.aio.Channel:
    if not arm.security.ca:
        return grpc.aio.insecure_channel(arm.address)
    trusted = grpc.ssl_channel_credentials(Path(arm.security.ca).read_bytes())
    return grpc.aio.secure_channel(arm.address, trusted)


def _figures(arms: list[Arm]) -> dict[str, Any]:
    """`cpu_us`, and of all but the first arm `percent` over it and the middle half of the rounds."""
    first = np.array(arms[0].spent)
    found: dict[str, dict[str, Any]] = {}
    for arm in arms:
        spent = np.array(arm.spent)
        found[arm.name] = {"cpu_us": round(float(np.median(spent)), 1)}
        if arm is not arms[0]:
            more = 100 * (spent / first - 1)
            low, middle, high = np.quantile(more, [0.25, 0.5, 0.75])
            found[arm.name] |= {"percent": round(float(middle), 1), "half": [round(float(v), 1) for v in (low, high)]}
    return found


class _Context:
    """Of a call that went well."""

    def code(self) -> None:
        """See grpc.ServicerContext."""

    def is_active(self) -> bool:
        """See grpc.ServicerContext."""
        return True


class _Details:
    method, invocation_metadata = "/aisle.v1.Recommender/Recommend", (("user-agent", "x"),)


def sight_us(release: Release) -> dict[str, float]:
    """Microseconds of one thread for a page that is seen: with metrics, and without."""
    query = Query(release.window_end, history=made_up_history(release.fill[:50], release.window_end))
    page, context = answer(release, Request(query, _PAGE)), _Context()
    watch = StageWatch()
    for step in ("gather", "rank", "page"):
        watch.step(step)
    for stage in ("hydrate", "recommend", "reasons"):
        watch.lap(stage)
    found = {}
    for name, detailed in (("metrics", True), ("bare", False)):
        tally = Tally(detailed=detailed)
        watching = Watching({_TENANT: tally}, _TENANT)

        def method(request: Any, context: Any, tally: Tally = tally) -> None:
            page_seen(tally, "Recommend", "r", release.name, page, [], watch)

        handler: Any = grpc.unary_unary_rpc_method_handler(method)

        def given(details: Any, handler: Any = handler) -> Any:
            return handler

        took = []
        gc.disable()
        for _ in range(_SIGHT_ROUNDS):
            start = time.thread_time_ns()
            watching.intercept_service(given, _Details).unary_unary(None, context)
            took.append((time.thread_time_ns() - start) / 1e3)
        gc.enable()
        found[name] = round(float(np.median(took)), 1)
    return found | {"candidates": float(len(page.candidates))}


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", type=Path)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument(
        "--arms",
        default="bare,metrics,sampled,logs,shedding,keys,tls,all",
        help="the first is what others are compared with",
    )
    a = parser.parse_args()
    with given_or_small(a.release) as release:
        print(json.dumps(cost(release, a.arms.split(","), a.requests, a.rounds)))


if __name__ == "__main__":
    main()
