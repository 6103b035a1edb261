"""What a bandit has counted after events came twice, late and shuffled, and the service was killed: exactly what was sent?

    .venv/bin/python -m benchmarks.feedback --release WORK/releases/current --events 1000000
    .venv/bin/python -m benchmarks.feedback                                  # 20,000 events; makes a small release first

A real `./aisle serve` with its own Redis and a bandit whose reward is a count of at most 5 clicks. Every session asks for a page, once, and then its
events are sent, with the token of its page: some inside its attribution window, some not, some of a kind that does not count. 5 % come twice, 5 % only after
all others, all of them shuffled. The service dies by SIGKILL after a third and after two thirds; calls are sent again until they are acknowledged. Then the
counts in Redis are compared with what was sent, worked out here session by session. The last line of stdout is JSON; exit 1 where they differ.
"""

# bazel: imports=[cli.*]

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import numpy as np

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest
from benchmarks.event_loop import Process, small_release
from core.errors import AisleError
from core.schema import HOUR, SECOND
from experiments.files import read_experiment
from experiments.learning import Group, Rewarding
from serving.client import Client
from serving.embedded_redis import EmbeddedRedis
from serving.keys import Keys
from serving.redis_link import client

_FILE: Final = """\
name: order
owner: benchmark
hypothesis: none
unit: session
arms: {a: {}, b: {settings: {diversity_level: low-diversity}}, c: {settings: {diversity_level: high-diversity}}}
control: a
allocation: {policy: thompson, update_seconds: 3600, cap: 5}
primary: {name: clicks, events: [click], kind: count}
attribution_hours: 1
"""
_CAP: Final = 5
_PER_SESSION: Final = 10
_PATIENCE_SECONDS: Final = 120.0


class Service:
    """`./aisle serve`, which dies and comes back; callers wait for it."""

    def __init__(self, process: Process) -> None:
        self._process, self._lock = process, threading.Lock()
        self.address, self.refused = process.start().line()["listening"], 0

    def kill(self) -> None:
        """SIGKILL, and start it again."""
        self._process.kill()
        self.address = self._process.start().line()["listening"]

    def send(self, events: list[Event]) -> tuple[int, int]:
        """Until they are acknowledged; how many were new, and how many were not."""
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            try:
                with Client(self.address) as ask:
                    taken = ask.write_events(events)
                return taken.accepted, taken.duplicates
            except AisleError:
                if time.monotonic() > until:
                    raise
                with self._lock:
                    self.refused += 1
                time.sleep(0.05)


def pages(address: str, sessions: int, threads: int) -> dict[str, tuple[str, str, int]]:
    """Session -> arm, token, and when it had surely been answered (microseconds)."""

    def ask_for(part: int) -> dict[str, tuple[str, str, int]]:
        found = {}
        with Client(address, timeout=60) as ask:
            for n in range(part, sessions, threads):
                page = ask.recommend(RecommendRequest(visitor_id=f"v{n}", session_id=f"s{n}", page_size=1))
                (arm,) = page.experiment_assignments
                found[f"s{n}"] = arm.arm, page.attribution_token, time.time_ns() // 1_000
        return found

    with ThreadPoolExecutor(threads) as pool:
        return {name: given for part in pool.map(ask_for, range(threads)) for name, given in part.items()}


def events_of(given: dict[str, tuple[str, str, int]], events: int, rng: np.random.Generator) -> tuple[list[Event], Any]:
    """Distinct events, and how many of each session count."""
    names, inside = list(given), Counter[str]()
    made = []
    for n in range(events):
        session = names[int(rng.integers(len(names)))]
        _, token, at = given[session]
        draw = rng.random()
        kind = "detail-page-view" if draw < 0.2 else "click"
        # well inside the hour after the page, or an hour and more before it
        when = at - int(rng.integers(HOUR, 3 * HOUR)) if draw > 0.8 else at + int(rng.integers(SECOND, HOUR // 2))
        inside[session] += 0.2 <= draw <= 0.8
        visitor = f"v{session[1:]}"
        made.append(
            Event(
                event_type=kind,
                event_time=when,
                item_id=f"item-{n % 97}",
                visitor_id=visitor,
                session_id=session,
                event_id=f"e-{n}",
                attribution_token=token,
            )
        )
    return made, inside


def sent(made: list[Event], batch: int, rng: np.random.Generator) -> Iterator[list[Event]]:
    """Batches: 5 % of the events once more, 5 % last, each part shuffled."""
    draw = rng.random(len(made))
    again = [e for e, d in zip(made, draw, strict=True) if d > 0.95]
    late = [e for e, d in zip(made, draw, strict=True) if d < 0.05]
    usual = [e for e, d in zip(made, draw, strict=True) if d >= 0.05] + again
    rng.shuffle(usual)
    rng.shuffle(late)
    for part in (usual, late):
        for at in range(0, len(part), batch):
            yield part[at : at + batch]


def expected(given: dict[str, tuple[str, str, int]], inside: Counter[str]) -> dict[str, list[int]]:
    """By arm: sessions, those with a reward, rewards up to the cap, their squares."""
    found: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for session, (arm, _, _) in given.items():
        reward = min(inside[session], _CAP)
        for at, n in enumerate((1, int(reward > 0), reward, reward**2)):
            found[arm][at] += n
    return dict(found)


def run(release: Path, folder: Path, events: int, sessions: int, batch: int, threads: int, seed: int) -> dict[str, Any]:
    """One run in `folder`, which must be empty."""
    rng, work, began = np.random.default_rng(seed), folder / "work", time.monotonic()
    (work / "releases").mkdir(parents=True)
    (files := folder / "experiments").mkdir()
    (files / "order.yaml").write_text(_FILE)
    options = ("--work", work, "--listen", "127.0.0.1:0", "--experiments", files)
    process = Process(folder / "service.log", "serve", "--release", release.resolve(), *options)
    try:
        service = Service(process)
        given = pages(service.address, sessions, threads)
        store = client(EmbeddedRedis(work / "redis").url, 30.0, retries=1)
        tag = Rewarding(read_experiment(files / "order.yaml").experiment).tag
        while sum(v[0] for v in _counted(store, tag).values()) < sessions:
            if time.monotonic() - began > _PATIENCE_SECONDS + sessions / 20:
                raise AisleError(f"the pages of {sessions} sessions did not reach Redis: see {folder}/service.log")
            time.sleep(0.2)
        made, inside = events_of(given, events, rng)
        batches = list(sent(made, batch, rng))
        kills, first, writing = [len(batches) // 3, 2 * len(batches) // 3], Counter[str](), time.monotonic()
        with ThreadPoolExecutor(threads) as pool:
            waiting: list[Any] = []
            for at, one in enumerate(batches):
                waiting.append(pool.submit(service.send, one))
                if at in kills:  # while calls are under way
                    waiting[max(0, at - threads)].result()
                    service.kill()
            for taken in waiting:
                accepted, duplicates = taken.result()
                first.update(accepted=accepted, duplicates=duplicates)
        seconds = time.monotonic() - writing
        with Client(service.address, timeout=60) as ask:
            while ask.status().spool_bytes:
                time.sleep(0.05)
        found = _counted(store, tag)
    finally:
        process.stop()
    wanted = expected(given, inside)
    return {
        "events": events,
        "calls": len(batches),
        "sessions": sessions,
        "seed": seed,
        "kills": len(kills),
        "refused_calls": service.refused,
        "accepted": first["accepted"],
        "duplicates": first["duplicates"],
        "expected": wanted,
        "counted": found,
        "exact": wanted == found,
        "write_seconds": round(seconds, 1),
        "seconds": round(time.monotonic() - began, 1),
    }


def _counted(store: Any, tag: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for name, value in store.hgetall(Keys("default").counts(tag)).items():
        if name != b"life":
            g = Group.read(name.decode(), value.decode())
            held = found.setdefault(g.arm, [0, 0, 0, 0])
            found[g.arm] = [a + b for a, b in zip(held, (g.units, g.rewarded, g.total, g.squares), strict=True)]
    return found


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--release", type=Path, help="a release directory; default: a small one is made")
    parser.add_argument("--events", type=int, default=20_000, help="distinct ones")
    parser.add_argument("--sessions", type=int, default=0, help="default: a tenth of the events")
    parser.add_argument("--batch", type=int, default=500, help="events of one call")
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    a = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aisle-feedback-") as folder:
        try:
            release = a.release or small_release(Path(folder) / "small")
            (place := Path(folder) / "run").mkdir()
            sessions = a.sessions or max(1, a.events // _PER_SESSION)
            found = run(release, place, a.events, sessions, a.batch, a.threads, a.seed)
        except AisleError as e:
            print(f"error: {e}", file=sys.stderr)
            sys.exit(e.exit_code)
    print(json.dumps(found))
    if not found["exact"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
