"""Whether two servers, or one server twice, answer the same people the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from aisle.v1.recommender_pb2 import RecommendRequest
from benchmarks.soak import people
from core.errors import AisleError
from core.work import Work
from serving.client import Client
from serving.failures import Failure

_PAGE: Final = 10
_SEED: Final = 7
_TRIES: Final = 20


@dataclass(frozen=True)
class Page:
    """What one person got."""

    items: tuple[str, ...]
    scores: tuple[float, ...]
    level: str
    reason: str  # why it is degraded; empty: it is not


def sample(work: Work, most: int) -> list[str]:
    """So many people with a history, a seeded sample; all where there are fewer."""
    found = people(work)
    chosen = np.random.default_rng(_SEED).permutation(len(found))[:most]
    return [found[row] for row in sorted(chosen.tolist())]


def pages(address: str, users: Sequence[str]) -> list[Page]:
    """A page for each, one after the other."""
    with Client(address, timeout=20) as client:
        return [_page(client, user) for user in users]


def _page(client: Client, user: str) -> Page:
    """Asked again where a busy machine kept Redis beyond its deadline: that says nothing of what it holds."""
    for _ in range(_TRIES):
        a = client.recommend(RecommendRequest(user_id=user, page_size=_PAGE))
        if a.fallback_reason != Failure.REDIS_TIMEOUT:
            break
    return Page(tuple(r.item_id for r in a.results), tuple(r.score for r in a.results), a.level, a.fallback_reason)


def compared(before: Sequence[Page], after: Sequence[Page]) -> dict[str, Any]:
    """How many are the same, in items, order and level; and by how much a score differs at most where they are.

    >>> page = Page(("a", "b"), (2.0, 1.0), "warm", "")
    >>> compared([page, page], [page, Page(("b", "a"), (2.0, 1.0), "warm", "")])
    {'people': 2, 'same': 1, 'score_difference': 0.0, 'degraded': [0, 0]}
    """
    pairs = list(zip(before, after, strict=True))
    same = [(a, b) for a, b in pairs if (a.items, a.level) == (b.items, b.level)]
    apart = [abs(x - y) for a, b in same for x, y in zip(a.scores, b.scores, strict=True)]
    return {
        "people": len(pairs),
        "same": len(same),
        "score_difference": float(max(apart, default=0.0)),
        "degraded": [sum(bool(p.reason) for p in some) for some in (before, after)],
    }


def aisle(*arguments: object) -> dict[str, Any]:
    """The JSON of a command, run as a process of its own, as an operator does."""
    command = [sys.executable, "-m", "cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AisleError(f"{' '.join(map(str, arguments))}: exit {done.returncode}: {done.stderr.strip()[-400:]}")
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return said
