"""20,000 `Recommend` requests by h2load, a generic HTTP/2 load generator: all answered, none degraded, at which latency.

    apt-get install nghttp2-client     # Debian's h2load, for this measurement only
    ./aisle serve --release WORK/releases/current --listen 127.0.0.1:50051
    .venv/bin/python -m benchmarks.serve_load --server 127.0.0.1:50051 --user 14911

h2load counts HTTP statuses, and gRPC answers an error with HTTP 200 too; so the server's own counts before and after say how many answers
there were and how many of them were degraded. The last line of stdout is JSON. `connections` x `streams` requests are under way at any time
(closed loop): at the default of 1 x 1 the percentiles are those of an unloaded server, with more they are those of a saturated one.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from aisle.v1.admin_pb2 import GetStatusResponse
from aisle.v1.recommender_pb2 import RecommendRequest
from core.errors import AisleError, EnvironmentGapError
from serving.client import Client

_MILLISECOND = 1_000  # in microseconds
_HEADERS = ("content-type: application/grpc", "te: trailers")


def framed(request: RecommendRequest) -> bytes:
    """The body of a gRPC request: not compressed, length big-endian, message."""
    message = request.SerializeToString()
    return b"\0" + len(message).to_bytes(4, "big") + message


def command(server: str, body: Path, log: Path, requests: int, connections: int, streams: int) -> list[str]:
    """How h2load is called."""
    sizes = ["-n", str(requests), "-c", str(connections), "-m", str(streams), "-t", "1"]
    headers = [part for header in _HEADERS for part in ("-H", header)]
    url = f"http://{server}/aisle.v1.Recommender/Recommend"
    return ["h2load", *sizes, *headers, "-d", str(body), "--log-file", str(log), url]


def measure(server: str, request: RecommendRequest, requests: int, connections: int, streams: int) -> dict[str, Any]:
    """One run."""
    if shutil.which("h2load") is None:
        raise EnvironmentGapError("no h2load on PATH: apt-get install nghttp2-client")
    with tempfile.TemporaryDirectory(prefix="aisle-load-") as folder, Client(server, timeout=20) as client:
        body, log = Path(folder) / "body", Path(folder) / "log"
        body.write_bytes(framed(request))
        called = command(server, body, log, requests, connections, streams)
        print(" ".join(called), file=sys.stderr)
        before = client.status()
        done = subprocess.run(called, capture_output=True, text=True, check=False)
        after = client.status()
        if done.returncode != 0 or not log.exists():
            raise EnvironmentGapError(f"h2load failed: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
        start, status, duration = np.loadtxt(log, dtype=np.int64, ndmin=2).T
    seconds = float((start + duration).max() - start.min()) / 1e6
    return {
        "requests": requests,
        "http_ok": int((status == 200).sum()),
        "answered": _sum(after, "levels") - _sum(before, "levels"),
        "degraded": _sum(after, "degraded") - _sum(before, "degraded"),
        "connections": connections,
        "streams": streams,
        "requests_per_second": round(requests / seconds, 1),
        **{f"p{q:g}_ms": round(float(np.percentile(duration, q)) / _MILLISECOND, 2) for q in (50, 95, 99, 99.9)},
        "max_ms": round(float(duration.max()) / _MILLISECOND, 2),
        "release": after.release,
    }


def _sum(status: GetStatusResponse, name: str) -> int:
    return sum(getattr(status, name).values())


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Load a running server with h2load.")
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--user", default="")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=1)
    parser.add_argument("--streams", type=int, default=1)
    a = parser.parse_args()
    request = RecommendRequest(user_id=a.user, page_size=a.k)
    try:
        found = measure(a.server, request, a.requests, a.connections, a.streams)
    except AisleError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    print(json.dumps(found))
    if not found["http_ok"] == found["answered"] == found["requests"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
