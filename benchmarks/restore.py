"""Backup, wipe, restore of Redis: the same answers for everybody, from the server that went on and from one on a new host.

    .venv/bin/python -m benchmarks.restore --release WORK/releases/current --users 1000

A server with its own Redis on a copy of the release; one in five of the people does something first, so that there are live events beside the histories.
Then `redis backup`, FLUSHALL under the server, `redis restore --replace`; then the server stops, its Redis is deleted with its files, the backup goes into
a new one, and a new server starts on it. Pages of the same people after each step are held against those before. The last line of stdout is JSON; exit 1
when one differs, or when none did while Redis was empty.
"""

# bazel: imports=[cli.*]

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aisle.v1.events_pb2 import Event
from benchmarks.fault_place import copied, given_or_small
from benchmarks.same_answers import aisle, compared, pages, sample
from core.errors import AisleError
from core.work import Work
from pipeline.served import Served
from serving.client import Client
from serving.embedded_redis import EmbeddedRedis
from serving.redis_link import client
from serving.release import Release

_TIMEOUT_SECONDS = 60.0


def run(release: Path, people: int) -> dict[str, Any]:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="aisle-restore-") as folder:
        work, file = copied(release, Path(folder) / "work"), Path(folder) / "backup"
        users = sample(work, people)
        with Served(work.current) as served:
            _act(served.address, users, [i for i in Release.open(work.current).item_ids.texts if i])
            before = pages(served.address, users)
            start = time.perf_counter()
            saved = aisle("redis", "backup", "--work", work.root, "--out", file)
            backup_seconds = time.perf_counter() - start
            client(EmbeddedRedis(work.root / "redis").url, _TIMEOUT_SECONDS, retries=0).flushall()
            wiped = pages(served.address, users)
            start = time.perf_counter()
            # the server that goes on has logged pages already
            aisle("redis", "restore", "--work", work.root, "--in", file, "--replace")
            restore_seconds = time.perf_counter() - start
            restored = pages(served.address, users)
        moved = _elsewhere(work, file, users)
        return {
            "restored": compared(before, restored),
            "new_host": compared(before, moved),
            "wiped": compared(before, wiped),
            "keys": saved["keys"],
            "megabytes": round(saved["bytes"] / 1e6, 2),
            "backup_seconds": round(backup_seconds, 2),
            "restore_seconds": round(restore_seconds, 2),
        }


def _act(address: str, users: Sequence[str], items: Sequence[str]) -> None:
    """One in five clicks something."""
    events = [
        Event(event_type="click", user_id=user, item_id=items[7 * number % len(items)])
        for number, user in enumerate(users[::5])
    ]
    with Client(address, timeout=20) as ask:
        for at in range(0, len(events), 100):
            ask.write_events(events[at : at + 100])


def _elsewhere(work: Work, file: Path, users: Sequence[str]) -> Any:
    shutil.rmtree(work.root / "redis")
    aisle("redis", "restore", "--work", work.root, "--in", file)
    with Served(work.current) as served:
        return pages(served.address, users)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Backup, wipe, restore.")
    parser.add_argument("--release", type=Path, help="a release in its work directory; default: a small one is made")
    parser.add_argument("--users", type=int, default=1_000)
    a = parser.parse_args()
    try:
        with given_or_small(a.release) as release:
            found = run(release, a.users)
    except AisleError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    print(json.dumps(found))
    same = all(found[step]["same"] == found[step]["people"] for step in ("restored", "new_host"))
    if not same or found["wiped"]["same"] == found["wiped"]["people"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
