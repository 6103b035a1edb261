"""What callers with little time get: answers in time, what they lack, and calls that no answer reached.

    python -m benchmarks.deadlines --release R [--calls N] [--milliseconds 2 4 6 8 12 20 50]

A server of its own on the release, one caller, who first asks at leisure, so that the server knows what its stages take; then each deadline in turn,
with people of the release's user state. `late` are calls that ended in DEADLINE_EXCEEDED, `whole_late` as many as would
have if all had been whole answers (by those at leisure), `short` pages with fewer items than asked for. Times are of a
whole machine, so only what is compared within a run means anything. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from aisle.v1 import recommender_pb2 as pb
from aisle.v1 import recommender_pb2_grpc
from benchmarks.baselines import say
from core.work import Work
from pipeline.served import Served
from serving.release import Release
from serving.user_state import UserState

_PAGE = 20
_AT_LEISURE = 300  # calls


def asked(stub: Any, users: list[str], milliseconds: float) -> tuple[dict[str, Any], list[float]]:
    """What became of a call for each user, and the milliseconds of those that were answered."""
    reasons: Counter[str] = Counter()
    late = short = 0
    took = []
    for user in users:
        began = time.perf_counter()
        try:
            found = stub.Recommend(pb.RecommendRequest(user_id=user, page_size=_PAGE), timeout=milliseconds / 1e3)
        except grpc.RpcError as e:
            if e.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                raise
            late += 1
            continue
        took.append(1e3 * (time.perf_counter() - began))
        reasons[found.fallback_reason or "complete"] += 1
        short += len(found.results) < _PAGE
    p50 = round(float(np.median(took)), 2) if took else None
    return {"deadline_ms": milliseconds, "late": late, "short": short, "p50_ms": p50, "answers": dict(reasons)}, took


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", type=Path, required=True)
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--milliseconds", type=float, nargs="+", default=[2, 4, 6, 8, 12, 20, 50])
    args = parser.parse_args()
    release = Release.open(args.release)
    state = UserState.open(Work(release.path.parent.parent).user_state(release.window_end))
    ids = [state.ids[row] for row in range(len(state.ids))]
    known = [key[2:] for key in ids if key.startswith("u:")]
    users = np.random.default_rng(7).choice(known, args.calls).tolist()
    with Served(release.path) as server, grpc.insecure_channel(server.address) as channel:
        stub = recommender_pb2_grpc.RecommenderStub(channel)
        usual, whole = asked(stub, users[:_AT_LEISURE], 10_000)
        say(str(usual))
        found = []
        for milliseconds in args.milliseconds:
            share = float(np.mean(np.array(whole) > milliseconds))
            found.append(asked(stub, users, milliseconds)[0] | {"whole_late": round(share * args.calls)})
            say(str(found[-1]))
    print(json.dumps({"release": release.name, "calls": args.calls, "usual": usual, "deadlines": found}))


if __name__ == "__main__":
    main()
