"""kill -9 at random moments of a small night, again and again: what is left, what the servers have, and where it ends.

    .venv/bin/python -m benchmarks.night_kills [--kills 20] [--seed 1] [--users 400] [--items 200] [--events 12000]

A shop is simulated, and a first night publishes a champion. Then there is one more day of events. An undisturbed night says what becomes of it. In copies of
the work directory the same night is killed, with all its processes, after a random time, and started again, until it is left alone by chance and ends;
then another copy begins, until there were so many kills. After each kill

- `current` is the champion or the new release, and every one of its files has the hash that its manifest lists
- a real server that was started on the champion loads `current` and answers with it

and the release in the end must be the undisturbed one's: the same manifest, with the hash of every file, but for host, time and gates. `resumed` counts the
stages that a night found done by a killed one. The last line of stdout is JSON; exit 1 where something was not so.
"""

# bazel: imports=[cli.*]

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from aisle.v1.recommender_pb2 import RecommendRequest
from benchmarks.nights import say, split_days
from benchmarks.tree import aisle, run
from core import artifact
from core.errors import AisleError
from core.work import Work
from pipeline import nights
from pipeline.served import Served
from serving.client import Client

_CONFIG: Final = "ranker: {logged_pages: off}\nevaluation: {bootstrap_samples: 100}\n"
_BEYOND: Final = 1.05  # of an undisturbed night's time: the latest moment that a kill is meant for


@dataclass
class Found:
    """What was counted."""

    kills: int = 0
    lives: int = 0  # nights that ended in the end
    resumed: int = 0  # stages that a started-again night found done
    wrong: int = 0  # releases in the end that are not the undisturbed one
    broken: int = 0  # times that `current` was not whole
    failed: int = 0  # times that the server could not load or did not answer
    left: int = 0  # half-written things after the last night of a life


def main() -> None:
    """Run it; a line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"kills": 20, "seed": 1, "users": 400, "items": 200, "events": 12_000}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aisle-night-kills-") as folder:
        found, seconds = kill_nights(Path(folder), arguments)
    print(json.dumps(asdict(found) | {"undisturbed_seconds": round(seconds, 1)}))
    sys.exit(bool(found.wrong or found.broken or found.failed or found.left))


def kill_nights(folder: Path, asked: argparse.Namespace) -> tuple[Found, float]:
    """What was found, and how long an undisturbed night takes."""
    sizes = [part for n in ("users", "items", "events") for part in (f"--{n}", getattr(asked, n))]
    run(aisle("simulate", *sizes, "--days", 60, "--out", folder / "shop"))
    (day,) = split_days(folder / "shop", folder / "data", 1)
    (folder / "night.yaml").write_text(_CONFIG)
    run(_night(folder, folder / "base"))
    with Served(Work(folder / "base").current, stderr=subprocess.DEVNULL):
        pass  # a server begins the live catalog's log, whose id the manifest names: all copies have the same
    shutil.copy(day, folder / "data" / "events" / day.name)
    whole, start = folder / "undisturbed", time.perf_counter()
    shutil.copytree(folder / "base", whole, symlinks=True)
    run(_night(folder, whole))
    seconds, found, draw = time.perf_counter() - start, Found(), random.Random(asked.seed)
    expected = artifact.facts(artifact.read_manifest(Work(whole).current))
    while found.kills < asked.kills:
        work = Work(folder / f"life-{found.lives}")
        shutil.copytree(folder / "base", work.root, symlinks=True)
        _life(folder, work, seconds, asked.kills, draw, found)
        found.wrong += artifact.facts(artifact.read_manifest(work.current)) != expected
        found.left += len([*work.root.rglob(".tmp-*")])
        shutil.rmtree(work.root)
        found.lives += 1
        say(f"{found}")
    return found, seconds


def _life(folder: Path, work: Work, seconds: float, kills: int, draw: random.Random, found: Found) -> None:
    """One copy's night, killed until it ends by itself or there were kills enough."""
    with ExitStack() as stack:
        server = stack.enter_context(Served(work.current, stderr=subprocess.DEVNULL))
        client = stack.enter_context(Client(server.address, timeout=60.0))
        while True:
            moment = draw.uniform(0, _BEYOND * seconds) if found.kills < kills else None
            killed = _run_until(folder, work, moment)
            found.kills += killed
            _look(work, client, found)
            if not killed:
                break
    found.resumed += sum(s["skipped"] for s in nights.read(work)[-1].stages.values())


def _run_until(folder: Path, work: Work, moment: float | None) -> bool:
    """Start the night, and kill it and its children after so many seconds; whether it came to that."""
    process = subprocess.Popen(
        _night(folder, work.root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        code = process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return True
    if code:
        raise AisleError(f"a night that nobody killed ended with {code}; see {work.root / 'logs'}")
    return False


def _look(work: Work, client: Client, found: Found) -> None:
    """Whether what is current is whole, and whether the server takes it and answers with it."""
    try:
        artifact.verify(work.current.resolve())
    except AisleError as e:
        say(str(e))
        found.broken += 1
    try:
        client.load_release(str(work.current.resolve()))
        page = client.recommend(RecommendRequest(user_id="u0000001", page_size=10))
        found.failed += not page.results or client.status().release != work.current.resolve().name
    except AisleError as e:
        say(str(e))
        found.failed += 1


def _night(folder: Path, work: Path) -> list[str]:
    return aisle("nightly", "--data", folder / "data", "--work", work, "--config", folder / "night.yaml")


if __name__ == "__main__":
    main()
