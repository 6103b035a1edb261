"""Promote and rollback through the command line while an open loop asks: no request fails, and each says how long it took.

    .venv/bin/python -m benchmarks.promote --work WORK --rate 50

A server of two workers on a copy of WORK's current release; beside it another release of WORK, or where there is none a child of the current one with
other blend weights. Each round promotes the other and rolls back, with `--server`. `seconds` is the whole command, the start of Python included;
`server_seconds` what of it the server took to check, open, warm and swap. A call that was due after the command had returned must be answered by the
release that it named. Calls that a busy server sheds are sent again, as clients do; `sent_again` says how many, `while_a_command_ran` and `else` whether
the commands were the cause. The last line of stdout is JSON; exit 1 when a call failed, came from the wrong release, or a rollback took five seconds.
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
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from benchmarks.fault_place import copied, given_or_small
from benchmarks.open_loop import Call, OpenLoop, summary
from benchmarks.same_answers import aisle
from benchmarks.soak import people
from core.artifact import publish, read_manifest
from core.atomic import link_tree
from core.errors import AisleError
from core.release import FORMAT_VERSION, KIND, SETTINGS, ReleaseSettings
from core.work import Work
from pipeline.registry.find import every
from pipeline.served import Served

_WORKERS: Final = 2
_BETWEEN_SECONDS: Final = 2.0
_GOAL_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Step:
    """A command that returned."""

    command: str
    release: str  # that answers from then on
    seconds: float
    server_seconds: float
    returned: float  # time.perf_counter()


def run(release: Path, rate: float, rounds: int) -> dict[str, Any]:
    """All of it."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="aisle-promote-")))
        work = copied(release, folder / "work")
        other = _other(release, work)
        served = stack.enter_context(Served(work.current, "--workers", _WORKERS))
        load = stack.enter_context(OpenLoop(served.address, people(work), rate))
        time.sleep(_BETWEEN_SECONDS)
        steps = [
            _step(work, served.address, *command)
            for _ in range(rounds)
            for command in (("promote", other, "--force"), ("rollback",))
        ]
        time.sleep(_BETWEEN_SECONDS)
        load.stop()
        whole = summary(load.calls)
    return {
        **whole,
        "rate": rate,
        "wrong_release": wrong(load.calls, steps),
        "while_a_command_ran": summary(during := under_way(load.calls, steps)),
        "else": summary([c for c in load.calls if c not in set(during)]),
        "promote_seconds": [s.seconds for s in steps if s.command == "promote"],
        "rollback_seconds": [s.seconds for s in steps if s.command == "rollback"],
        "server_seconds": [s.server_seconds for s in steps],
        "megabytes": round(sum(f.size for f in read_manifest(release.resolve()).files.values()) / 1e6, 1),
        "workers": _WORKERS,
    }


def wrong(calls: Sequence[Call], steps: Sequence[Step]) -> int:
    """Answers to calls due while no command ran that another release gave than the last command named."""
    quiet = [(a.returned, b.returned - b.seconds, a.release) for a, b in pairwise(steps)]
    quiet.append((steps[-1].returned, float("inf"), steps[-1].release))
    return sum(
        not c.failed and c.due + c.seconds < end and c.release != release
        for start, end, release in quiet
        for c in calls
        if start <= c.due < end
    )


def under_way(calls: Sequence[Call], steps: Sequence[Step]) -> list[Call]:
    """Those that were due while a command ran."""
    return [c for c in calls if any(s.returned - s.seconds <= c.due < s.returned for s in steps)]


def _step(work: Work, server: str, command: str, *arguments: str) -> Step:
    start = time.perf_counter()
    said = aisle("releases", command, *arguments, "--work", work.root, "--server", server, "--why", "benchmark")
    end = time.perf_counter()
    time.sleep(_BETWEEN_SECONDS)
    return Step(command, said["release"], round(end - start, 2), said["servers"][0]["seconds"], end)


def _other(release: Path, copy: Work) -> str:
    """A second release in `copy`: another one of the same work directory, or a child of the current one."""
    current, source = release.resolve(), Work(release.resolve().parent.parent)
    for known in every(source):
        state = source.user_state(known.window_end)
        if known.path != current and state.exists():
            shutil.copytree(known.path, copy.releases / known.name)
            if not copy.user_state(known.window_end).exists():
                shutil.copytree(state, copy.user_state(known.window_end))
            return known.name
    here = copy.releases / current.name
    name, manifest, settings = f"{current.name}-child", read_manifest(here), ReleaseSettings.read(here)
    with publish(copy.releases / name, kind=KIND, format_version=FORMAT_VERSION, id=name) as draft:
        link_tree(here, draft.path, without=("manifest.json", "verified.json", SETTINGS))
        draft.about.update(manifest.about)
        draft.parents.update(manifest.parents)
        even = dict.fromkeys(settings.weights, 1.0)
        settings.model_copy(update={"weights": even}).write(draft.path)
    return name


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Promote and rollback under load.")
    parser.add_argument("--work", type=Path, help="a work directory; default: a small one is made")
    parser.add_argument("--rate", type=float, default=50.0, help="requests a second")
    parser.add_argument("--rounds", type=int, default=3)
    a = parser.parse_args()
    try:
        with given_or_small(None if a.work is None else Work(a.work).current) as release:
            found = run(release, a.rate, a.rounds)
    except AisleError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    print(json.dumps(found))
    if found["failed"] or found["wrong_release"] or max(found["rollback_seconds"]) >= _GOAL_SECONDS:
        sys.exit(1)


if __name__ == "__main__":
    main()
