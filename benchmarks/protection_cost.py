"""What protection costs: processor time of a request with TLS, mutual TLS, keys, limits and shedding, and without any of it.

    .venv/bin/python -m benchmarks.protection_cost --release WORK/releases/current [--requests 2000]

Two servers of one worker on the same release and Redis, asked in turns, one call after another, by the same people: so that what else the machine does meets
both alike. Processor time is that of the worker alone. The last line of stdout is JSON; exit 1 above the goal of 15 %.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import yaml

from aisle.v1.recommender_pb2 import RecommendRequest
from benchmarks.certificates import Authority
from benchmarks.fault_place import OwnRedis, copied, given_or_small, load_state
from benchmarks.serve import Server
from core.errors import AisleError
from pipeline.served import Served
from serving.api_keys import new_key
from serving.client import Client
from serving.client_security import ClientSecurity
from serving.keys_file import add

_GOAL: Final = 0.15
_ROUNDS: Final = 10
_WARM_UP: Final = 300
_PAGE: Final = 20


def protected(folder: Path) -> tuple[list[object], ClientSecurity]:
    """Options of a server with all there is, and what its caller needs."""
    authority = Authority(folder, "authority")
    (cert, key), (shown, private) = authority.sign("server"), authority.sign("caller")
    text, entry = new_key("default", "read", None, 1e6)
    add(folder / "keys.yaml", entry)
    config = folder / "protected.yaml"
    config.write_text(yaml.safe_dump({"protection": {"requests_per_second": 1_000_000}}))
    options = ["--config", config, "--keys", folder / "keys.yaml", "--tls-cert", cert, "--tls-key", key]
    security = ClientSecurity(str(authority.file), str(shown), str(private), text)
    return [*options, "--tls-client-ca", authority.file], security


def open_to_all(folder: Path) -> tuple[list[object], ClientSecurity]:
    """Options of a server without any of it."""
    config = folder / "open.yaml"
    config.write_text(yaml.safe_dump({"protection": {"shed": False}}))
    return ["--config", config], ClientSecurity()


def cost(server: Server, ask: Client, users: Sequence[str]) -> float:
    """Milliseconds of processor time a call, over one call for each of `users`."""
    start = server.cpu_seconds
    for user in users:
        ask.recommend(RecommendRequest(user_id=user, page_size=_PAGE))
    return 1e3 * (server.cpu_seconds - start) / len(users)


def run(release: Path, requests: int) -> dict[str, Any]:
    """Both, in turns."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aisle-protection-")))
        work, redis = copied(release, folder / "work"), OwnRedis(folder / "redis", folder)
        stack.callback(redis.stop)
        redis.start()
        known = load_state(work, redis.url)
        users = [known[n % len(known)] for n in range(max(requests // _ROUNDS, 1))]
        asked = {}
        for name, (options, security) in {"open": open_to_all(folder), "protected": protected(folder)}.items():
            served = stack.enter_context(Served(work.current, "--redis", redis.url, *options))
            asked[name] = Server(served), stack.enter_context(Client(served.address, 20, security))
        for server, ask in asked.values():
            server.settle()
            cost(server, ask, (users * _WARM_UP)[:_WARM_UP])
        spent = [{name: cost(*one, users) for name, one in asked.items()} for _ in range(_ROUNDS)]
    shares = [s["protected"] / s["open"] - 1 for s in spent]
    return {
        "requests": len(users) * _ROUNDS,
        **{f"{name}_cpu_ms": round(statistics.median(s[name] for s in spent), 3) for name in asked},
        "share": round(statistics.median(shares), 3),
        "shares": [round(s, 3) for s in sorted(shares)],
    }


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Processor time of a request, protected and open.")
    parser.add_argument("--release", type=Path, help="a release in its work directory; default: a small one is made")
    parser.add_argument("--requests", type=int, default=2000, help="to each server")
    a = parser.parse_args()
    try:
        with given_or_small(a.release) as release:
            found = run(release, a.requests)
    except AisleError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    print(json.dumps(found))
    if found["share"] > _GOAL:
        sys.exit(1)


if __name__ == "__main__":
    main()
