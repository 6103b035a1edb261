"""The last look before a release is published: canaries in its index, and the real server on it.

The server has a Redis and a work directory of its own in the temporary folder: nothing of it reaches the servers that run.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest
from core.config import PipelineConfig
from core.errors import AisleError
from core.schema import EventType
from pipeline.gates import Verdict
from pipeline.served import Served
from retrieval.query import TowerSource
from serving.client import Client
from serving.release import Release

_CANARIES: Final = 200
_AMONG: Final = 10
_SESSIONS: Final = 40
_EVENTS: Final = 3
_ROUNDS: Final = 3
_CALLS: Final = 100
_PAGE: Final = 20

Say = Callable[[str], None]


def canaries(release: Path, config: PipelineConfig) -> list[Verdict]:
    """Items asked for by their own vector: the index must find what exact search finds first. The newest rows are among them."""
    least = config.gates.canary_share
    towers = [s for s in Release.open(release).sources if isinstance(s, TowerSource)]
    if least is None or not towers or not towers[0].tower.has_vector.any():
        return []
    able = np.flatnonzero(towers[0].tower.has_vector)
    newest, rest = able[-_CANARIES // 4 :], able[: -_CANARIES // 4]
    drawn = np.random.default_rng(config.evaluation.seed).permutation(rest)[: _CANARIES - len(newest)]
    asked = np.concatenate([newest, drawn])
    exact = TowerSource(towers[0].tower)
    found = [_finds(towers[0], exact, np.asarray(towers[0].tower.item_vectors[row])) for row in asked.tolist()]
    share = float(np.mean(found))
    reason = f"{share:.1%} of {len(asked)} items found by their own vector, refused below {least:.0%}"
    return [Verdict("canaries", share >= least, reason, round(share, 4), least)]


def _finds(ours: TowerSource, exact: TowerSource, vector: np.ndarray) -> bool:
    first = exact.search(vector, 1)[0]
    return bool(np.isin(first, ours.search(vector, _AMONG)[0]).all())


def smoke(release: Path, config: PipelineConfig, say: Say, log: Path) -> list[Verdict]:
    """Serve the release for a moment: every call answered with a page, in time, in memory. What the server says goes to the end of `log`."""
    gates = config.gates
    if gates.p99_ms is None:
        return []
    items = [i for i in Release.open(release).item_ids.texts if i]
    with tempfile.TemporaryDirectory(prefix="aisle-smoke-") as folder, open(log, "a") as words:
        try:
            with (
                Served(release, "--work", folder, stderr=words) as server,
                Client(server.address, timeout=10.0) as client,
            ):
                _events(client, items)
                rounds = [_round(client) for _ in range(_ROUNDS)]
                memory, ready = _resident_gb(server.process.pid), server.ready_seconds
        except AisleError as e:
            return [Verdict("smoke", False, f"the server on {release}: {e}; its words are in {log}")]
    p99 = min(float(np.percentile(ms, 99)) for ms, _ in rounds)
    empty = sum(without for _, without in rounds)
    reason = (
        f"ready in {ready:.1f} s, p99 {p99:.1f} ms, refused beyond {gates.p99_ms:g} ms; {empty} empty pages of {_ROUNDS * _CALLS}; {memory:.2f} GB"
        + ("" if gates.memory_gb is None else f", refused beyond {gates.memory_gb:g} GB")
    )
    say(f"the server on {release}: {reason}")
    fits = gates.memory_gb is None or memory <= gates.memory_gb
    return [Verdict("smoke", p99 <= gates.p99_ms and not empty and fits, reason, round(p99, 2), gates.p99_ms)]


def _events(client: Client, items: list[str]) -> None:
    """Some sessions that looked at a few items each."""
    now, kind = time.time_ns() // 1000, EventType.DETAIL_PAGE_VIEW
    for session in range(_SESSIONS):
        looked = [items[(session * _EVENTS + n) % len(items)] for n in range(_EVENTS)]
        who = f"smoke-{session}"
        client.write_events(
            [
                Event(event_type=kind, item_id=i, event_time=now + n, visitor_id=who, session_id=who)
                for n, i in enumerate(looked)
            ]
        )


def _round(client: Client) -> tuple[list[float], int]:
    """Milliseconds of calls one after another, and how many pages were empty."""
    milliseconds, empty = [], 0
    for call in range(_CALLS):
        who = f"smoke-{call % _SESSIONS}"
        start = time.perf_counter()
        page = client.recommend(RecommendRequest(visitor_id=who, session_id=who, page_size=_PAGE))
        milliseconds.append(1e3 * (time.perf_counter() - start))
        empty += not page.results
    return milliseconds, empty


def _resident_gb(pid: int) -> float:
    """Resident memory of a process, without its Redis."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024 / 1e9
    return 0.0
