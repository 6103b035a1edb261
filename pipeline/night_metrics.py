"""What the last nightly run came to, for Prometheus: WORK/metrics/nightly.prom, for node_exporter's textfile collector.

The file is replaced in one step at the end of every run, also of one that failed. When a run last went well is carried over from the file before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from core import atomic
from core.errors import GateRefused
from serving.sight.metric_list import NIGHT_METRICS

_SUCCESS: Final = "aisle_nightly_last_success_seconds"
_OUTCOMES: Final = ("published", "refused", "failed")


def path_of(work: Path) -> Path:
    """Where the file is."""
    return work / "metrics" / "nightly.prom"


@contextmanager
def recorded(work: Path) -> Iterator[dict[str, Any]]:
    """Write the metrics of the run in the block, whose `Night.result()` the block puts into the dictionary that it gets."""
    start, result = time.time(), dict[str, Any]()
    try:
        yield result
    except GateRefused:
        write(work, "refused", time.time() - start, result)
        raise
    except BaseException:
        write(work, "failed", time.time() - start, result)
        raise
    write(work, "published", time.time() - start, result)


def write(work: Path, outcome: str, seconds: float, result: Mapping[str, Any]) -> None:
    """Put what a run came to in the place of the file before. Where there is no work directory, nothing is written."""
    if not work.is_dir():
        return
    path, now = path_of(work), time.time()
    success = now if outcome == "published" else _last_success(path)
    values: dict[str, list[tuple[str, float]]] = {
        "nightly_last_run_seconds": [("", now)],
        "nightly_last_success_seconds": [("", success)],
        "nightly_duration_seconds": [("", seconds)],
        "nightly_outcome": [(one, float(one == outcome)) for one in _OUTCOMES],
        "nightly_stage_seconds": [(name, s["seconds"]) for name, s in result.get("stages", {}).items()],
        "nightly_stage_skipped": [(name, float(s["skipped"])) for name, s in result.get("stages", {}).items()],
        "nightly_gate_passed": [(g["gate"], float(g["passed"])) for g in result.get("gates", ())],
    }
    lines = []
    for metric in NIGHT_METRICS:
        lines += [f"# HELP {metric.name} {metric.meaning}", f"# TYPE {metric.name} gauge"]
        for label, value in values[metric.source]:
            named = f'{{{metric.labels[0]}="{label}"}}' if metric.labels else ""
            lines.append(f"{metric.name}{named} {value:.3f}")
    path.parent.mkdir(exist_ok=True)
    atomic.write_bytes(path, ("\n".join(lines) + "\n").encode())


def _last_success(path: Path) -> float:
    """Of the file as it is; 0 where no run ever went well."""
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith(f"{_SUCCESS} "):
                return float(line.split()[1])
    return 0.0
