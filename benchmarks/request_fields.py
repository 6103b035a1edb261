"""What the fields of a request cost: lists, caps, diversity, promotions, candidates and batches, beside a plain page in the same rounds.

    ./aisle serve --release WORK/releases/current --listen 127.0.0.1:50051 &
    .venv/bin/python -m benchmarks.request_fields --server 127.0.0.1:50051 --user U --attribute brand

`server_p50_ms` is what the server says of its stages (`stage_latency_ms`), by its own clock; `times_plain` the same by that of plain pages in between;
`reply_bytes` the message. Kinds take turns, round after round. The last line of stdout is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np

from aisle.v1.recommender_pb2 import Cap, Promotion, RecommendRequest, RecommendResponse
from serving.client import Client

_PLACEMENTS = 4  # of a batch

Ask = Callable[[], list[RecommendResponse]]


def kinds(client: Client, user: str, attribute: str, k: int) -> dict[str, Ask]:
    """Each kind of request, by name; the first is the plain one."""
    plain = RecommendRequest(user_id=user, page_size=k)
    whole = client.recommend(RecommendRequest(user_id=user, page_size=200))
    some = [r.item_id for r in whole.results]

    def changed(**fields: object) -> RecommendRequest:
        request = RecommendRequest(**fields)  # type: ignore[arg-type]
        request.MergeFrom(plain)
        return request

    def one(request: RecommendRequest) -> Ask:
        return lambda: [client.recommend(request)]

    long = changed(list_size=500)
    promoted = [Promotion(name="p", percent=20, filter=f"{attribute} EXISTS")]
    return {
        "plain": one(plain),
        "list of 100": one(changed(list_size=100)),
        "list of 500": one(long),
        "second page of 500": one(changed(page_token=client.recommend(long).next_page_token)),
        "cap": one(changed(caps=[Cap(attribute=attribute, cap_type=Cap.VALUE, max=3)])),
        "diversity": one(changed(diversity_level="medium-diversity")),
        "promotion": one(changed(promotions=promoted)),
        f"{len(some)} candidates": one(changed(candidate_item_ids=some)),
        f"{_PLACEMENTS} placements, each": lambda: list(client.recommend_batch([plain] * _PLACEMENTS)),
    }


def measured(asks: dict[str, Ask], rounds: int) -> dict[str, dict[str, float]]:
    """Medians over the rounds."""
    times: dict[str, list[float]] = {name: [] for name in asks}
    sizes: dict[str, int] = {}
    for _ in range(rounds):
        for name, ask in asks.items():
            found = ask()
            times[name].append(sum(r.stage_latency_ms["total"] for r in found) / len(found))
            sizes[name] = sum(r.ByteSize() for r in found) // len(found)
    plain = np.array(times["plain"])
    return {
        name: {
            "server_p50_ms": round(float(np.median(taken)), 3),
            "times_plain": round(float(np.median(np.array(taken) / plain)), 2),
            "reply_bytes": sizes[name],
        }
        for name, taken in times.items()
    }


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="127.0.0.1:50051")
    parser.add_argument("--user", default="")
    parser.add_argument("--attribute", default="brand", help="a text column of the items table")
    parser.add_argument("--k", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=300)
    given = parser.parse_args()
    with Client(given.server, timeout=20) as client:
        asks = kinds(client, given.user, given.attribute, given.k)
        found = measured(asks, given.rounds)
        print(json.dumps({"release": client.status().release, "k": given.k, "rounds": given.rounds, "kinds": found}))


if __name__ == "__main__":
    main()
