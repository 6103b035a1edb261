"""What a night costs: the first one, one more day, the same day with every stage made again, and a night without anything new.

    .venv/bin/python -m benchmarks.night_cost [--users 20000] [--items 20000] [--events 1000000]            # the incremental night's share of a full one
    .venv/bin/python -m benchmarks.night_cost --users 500000 --items 1000000 --events 10000000 --first-only # how long the large shop takes

A simulated shop of a year, its last day held back. `ratio` is the incremental night's CPU seconds of all its processes over the full night's, and
`wall_ratio` the same of the clock, both with everything: start, gates and the server's smoke test. The two twins answer the same test queries:
`ndcg@10_difference` is incremental less full, with its paired interval. Peaks are resident memory of the whole process tree. The last line of stdout is JSON.
"""

# bazel: imports=[cli.*]

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks.nights import say, split_days
from benchmarks.tree import Cost, aisle, run
from core import artifact
from core.config import load_pipeline
from core.prepared import TWIN, Prepared
from core.work import Work
from pipeline import champion

_DAYS: Final = 365


def main() -> None:
    """Run it; a line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in {"users": 20_000, "items": 20_000, "events": 1_000_000}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--first-only", action="store_true")
    parser.add_argument(
        "--work", type=Path, help="where everything goes; default: the temporary folder, removed at the end"
    )
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aisle-night-cost-") as folder:
        print(json.dumps(measure(asked.work or Path(folder), asked)))


def measure(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """The last line of the benchmark."""
    sizes = [part for n in ("users", "items", "events") for part in (f"--{n}", getattr(asked, n))]
    run(aisle("simulate", *sizes, "--days", _DAYS, "--out", folder / "shop"))
    (day,) = split_days(folder / "shop", folder / "data", 1)
    ours, theirs = folder / "work", folder / "full"
    nights = {"first": _night(folder, ours, "incremental")}
    if not asked.first_only:
        shutil.copytree(ours, theirs, symlinks=True)
        shutil.copy(day, folder / "data" / "events" / day.name)
        nights |= {
            "incremental": _night(folder, ours, "incremental"),
            "full": _night(folder, theirs, "full"),
            "unchanged": _night(folder, ours, "incremental"),
        }
    result: dict[str, Any] = {"sizes": {n: getattr(asked, n) for n in ("users", "items", "events")}}
    result["nights"] = {name: _facts(cost) for name, cost in nights.items()}
    if not asked.first_only:
        mine, other = nights["incremental"], nights["full"]
        result |= {
            "ratio": round(mine.cpu_seconds / other.cpu_seconds, 3),
            "wall_ratio": round(mine.seconds / other.seconds, 3),
            **_compared(Work(ours), Work(theirs)),
        }
    return result


def _night(folder: Path, work: Path, mode: str) -> Cost:
    cost = run(aisle("nightly", "--data", folder / "data", "--work", work, "--mode", mode))
    say(f"{mode}: {cost.seconds} s, {cost.cpu_seconds} s CPU, {cost.peak_gb} GB")
    return cost


def _facts(cost: Cost) -> dict[str, Any]:
    said = json.loads(cost.stdout.splitlines()[-1])
    stages = {name: stage["seconds"] for name, stage in said["stages"].items() if not stage["skipped"]}
    return {"seconds": cost.seconds, "cpu_seconds": cost.cpu_seconds, "peak_gb": cost.peak_gb, "stages": stages}


def _compared(ours: Work, theirs: Work) -> dict[str, Any]:
    """Both twins on the same test queries."""
    prepared = Prepared(ours.latest("prepare"))
    mine, other = (w.stage("twin", artifact.read_manifest(w.current).parents["twin"]) for w in (ours, theirs))
    found = champion.judged(prepared, TWIN, mine, other, load_pipeline(), say)["metrics"]
    return {
        f"{metric}_difference": [found[metric][n] for n in ("mean", "low", "high")]
        for metric in ("ndcg@10", "recall@500")
    }


if __name__ == "__main__":
    main()
