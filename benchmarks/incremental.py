"""What the second night costs: preparing one more day of a 60-day log, against preparing all of it.

    .venv/bin/python -m benchmarks.incremental --events 5000000

A simulated shop of 61 days; a full run over 60 of them, a night that reads day 61, and a full run over all 61 that continues the same id maps,
each a process of its own. The two results are then compared, row by row. The ratio is of wall seconds; CPU seconds of the process trees (user and
system) stand beside it, because they hold on a busy machine too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.tree import Cost, aisle, run
from core.columns import Columns
from core.prepared import Prepared
from core.work import Work
from data_prep.pairs import COVISITS, PROTOCOLS, TRANSITIONS

_DAYS: Final = 61
_SUMS: Final = ("decayed", "revenue", "spend")


def measure(events: int, folder: Path) -> dict[str, Any]:
    """The last line of the benchmark."""
    data, last = folder / "data", folder / "last"
    sizes = ("--events", events, "--items", max(events // 50, 100), "--users", max(events // 20, 100))
    run(aisle("simulate", *sizes, "--days", _DAYS, "--seed", 1, "--out", data))
    newest = max((data / "events").iterdir())
    newest.rename(last)
    first = _prepare(data, folder / "work")
    last.rename(newest)
    shutil.copytree(folder / "work", folder / "full", symlinks=True)
    second = _prepare(data, folder / "work")
    full = _prepare(data, folder / "full", "--full")
    equal, error = compare(*(Prepared(Work(folder / work).latest("prepare")) for work in ("work", "full")))
    return {
        "events": events,
        "first_night_seconds": first.seconds,
        "full_seconds": full.seconds,
        "incremental_seconds": second.seconds,
        "ratio": round(second.seconds / full.seconds, 3),
        "full_cpu_seconds": full.cpu_seconds,
        "incremental_cpu_seconds": second.cpu_seconds,
        "cpu_ratio": round(second.cpu_seconds / full.cpu_seconds, 3),
        "counts_equal": equal,
        "decayed_max_relative_error": error,
        "peak_gb": max(first.peak_gb, second.peak_gb, full.peak_gb),
        "incremental_peak_gb": second.peak_gb,
    }


def compare(mine: Prepared, full: Prepared) -> tuple[bool, float]:
    """Whether every count and event column is the same, and the largest relative difference of a sum."""
    folders = ["events", "items", "users", "item_days", "user_days"]
    folders += [f"pairs/{p}/{name}" for p in PROTOCOLS for name in (TRANSITIONS, COVISITS)]
    equal, error = True, 0.0
    for folder in folders:
        a, b = (Columns.open(p.path / folder) for p in (mine, full))
        if a.rows != b.rows:
            print(f"{folder}: {a.rows} rows, {b.rows} in the full run", file=sys.stderr)
            return False, float("inf")
        for name in a:
            x, y = a[name], b[name]
            if not isinstance(x, np.ndarray) or not isinstance(y, np.ndarray):
                same = all(str(x[row]) == str(y[row]) for row in range(a.rows))
            elif name in _SUMS:
                error = max(error, float(np.max(np.abs(x - y) / np.maximum(np.abs(y), 1e-30), initial=0)))
                continue
            else:
                same = bool(np.array_equal(x, y, equal_nan=x.dtype.kind == "f"))
            if not same:
                print(f"{folder}: {name} differs", file=sys.stderr)
            equal &= same
    for key in ("cuts", "counts", "rejected", "events_by_type", "repeat_share", "profile"):
        equal &= mine.manifest.about[key] == full.manifest.about[key]
    return equal, error


def _prepare(data: Path, work: Path, *options: str) -> Cost:
    return run(aisle("prepare", "--data", data, "--work", work, *options))


def main() -> None:
    """Run it; a line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aisle-bench-") as folder:
        print(json.dumps(measure(options.events, Path(folder))))


if __name__ == "__main__":
    main()
