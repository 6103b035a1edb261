"""A release pushed to an empty folder and pulled on a host that has no work directory: both serve the same answers.

    .venv/bin/python -m benchmarks.copies --release WORK/releases/current

Works on a copy of the release. `push` sends it to an empty folder, a second `push` sends nothing; `pull` makes a work directory of it, a second one
copies nothing; then a server of each, with a Redis of its own, answers the same people. The last line of stdout is JSON; exit 1 when a page differs.
"""

# bazel: imports=[cli.*]

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.fault_place import copied, given_or_small
from benchmarks.same_answers import aisle, compared, pages, sample
from core.errors import AisleError
from core.work import Work
from pipeline.served import Served


def run(release: Path, people: int) -> dict[str, Any]:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="aisle-copies-") as folder:
        work, remote, host = copied(release, Path(folder) / "work"), Path(folder) / "remote", Path(folder) / "host"
        seconds: dict[str, float] = {}
        pushed = _timed(seconds, "push", "push", "--work", work.root, "--to", f"file://{remote}")
        again = _timed(seconds, "push_again", "push", "--work", work.root, "--to", f"file://{remote}")
        pulled = _timed(seconds, "pull", "pull", "latest", "--from", f"file://{remote}", "--work", host)
        twice = _timed(seconds, "pull_again", "pull", "latest", "--from", f"file://{remote}", "--work", host)
        users = sample(work, people)
        with Served(work.current) as here:
            before = pages(here.address, users)
        with Served(Work(host).current) as there:
            after = pages(there.address, users)
        return {
            **compared(before, after),
            "release": pushed["release"],
            "files": pushed["files"],
            "megabytes": round(pushed["bytes"] / 1e6, 1),
            "sent_files": [pushed["sent_files"], again["sent_files"]],
            "copied_files": [pulled["copied_files"], twice["copied_files"]],
            "seconds": seconds,
        }


def _timed(seconds: dict[str, float], name: str, *arguments: object) -> dict[str, Any]:
    start = time.perf_counter()
    said = aisle("releases", *arguments)
    seconds[name] = round(time.perf_counter() - start, 2)
    return said


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Push, pull, serve both.")
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
    if found["same"] != found["people"] or any(found["degraded"]) or found["sent_files"][1] or found["copied_files"][1]:
        sys.exit(1)


if __name__ == "__main__":
    main()
