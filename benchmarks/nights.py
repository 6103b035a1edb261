"""Nights on which the towers stay, against nights on which they learn anew: what a night costs, and what each release finds on the next day.

    .venv/bin/python -m benchmarks.nights --data DATA --nights 7

DATA's events are cut into days (UTC; only days with events count). A first night learns from everything before the last `nights` + 1 of them; then
each night gets one more day, once in a work directory that keeps its towers and once in one that learns anew every night, which is a cold fit. What a
release finds is the recall of what people known to it chose on the following day: recall@500 of its union of candidates, recall@100 of its
towers by exact search. The same people are asked of both, so their difference is paired.

`ratio`: of the stages train-retrieval and build-index, CPU seconds of the process trees; `ratio_with_prepare` counts the stage before them too.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from benchmarks.tree import aisle, run
from core.artifact import read_manifest
from core.candidates import gather
from core.columns import Array
from core.config import PipelineConfig, load_pipeline
from core.prepared import FULL, TRAIN, Prepared
from core.work import Work
from evaluation.intervals import Interval, difference
from pipeline.twin import release_settings
from retrieval.requests import PastRequest, past_requests
from retrieval.sources import TOWERS, open_sources
from serving.request_path import quotas_of

ARMS: Final = ("kept", "cold")
COLD: Final = "retraining: {days: 0}\n"
_PAGE: Final = 500
_MOST: Final = 5000  # people asked
_STAGES: Final = ("prepare", "train-retrieval", "build-index")


@dataclass(frozen=True)
class Night:
    """One arm's night: CPU seconds by stage, wall seconds of them all, what the towers did, and the artifact."""

    cpu: dict[str, float]
    seconds: float
    towers: dict[str, Any]
    artifact: Path

    @property
    def retrieval_cpu(self) -> float:
        """Of the stages after `prepare`."""
        return self.cpu["train-retrieval"] + self.cpu["build-index"]


def main() -> None:
    """Run it; a line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--nights", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aisle-bench-") as folder:
        print(json.dumps(measure(arguments.data, arguments.nights, Path(folder), load_pipeline())))


def measure(data: Path, nights: int, folder: Path, config: PipelineConfig) -> dict[str, Any]:
    """The last line of the benchmark."""
    days = split_days(data, folder / "data", nights + 1)
    (folder / "cold.yaml").write_text(COLD)
    first = night(folder / "data", folder / "kept", None)
    shutil.copytree(folder / "kept", folder / "cold", symlinks=True)
    went: dict[str, list[Night]] = {arm: [] for arm in ARMS}
    found: dict[str, list[Array]] = {arm: [] for arm in ARMS}
    for number, day in enumerate(days):
        day.rename(folder / "data" / "events" / day.name)
        for arm in ARMS:
            work = Work(folder / arm)
            if number == nights:  # the day after the last night: only asked for
                run(aisle("prepare", "--data", folder / "data", "--work", work.root))
            else:
                went[arm].append(night(folder / "data", work.root, folder / "cold.yaml" if arm == "cold" else None))
            if number:
                artifact = went[arm][number - 1].artifact
                found[arm].append(next_day(Prepared(work.latest("prepare")), artifact, config))
        if number:
            last = {arm: (went[arm][number - 1], found[arm][-1]) for arm in ARMS}
            say(line(number, last["kept"], last["cold"], config))
    pooled = {arm: np.concatenate(parts) for arm, parts in found.items()}
    kept, cold = (went[arm] for arm in ARMS)
    return {
        "nights": nights,
        "first_night_cpu_seconds": round(first.retrieval_cpu, 1),
        "kept": [n.towers["kept"] for n in kept],
        "kept_cpu_seconds": [round(n.retrieval_cpu, 1) for n in kept],
        "cold_cpu_seconds": [round(n.retrieval_cpu, 1) for n in cold],
        "ratio": _ratio([n.retrieval_cpu for n in kept], [n.retrieval_cpu for n in cold]),
        "ratio_with_prepare": _ratio([sum(n.cpu.values()) for n in kept], [sum(n.cpu.values()) for n in cold]),
        "wall_ratio_with_prepare": _ratio([n.seconds for n in kept], [n.seconds for n in cold]),
        "requests": [len(part) for part in found["kept"]],
        "recall@500": _means(pooled, 0),
        "tower_recall@100": _means(pooled, 1),
        "recall@500_difference": _rounded(_paired(pooled["kept"], pooled["cold"], 0, config)),
        "tower_recall@100_difference": _rounded(_paired(pooled["kept"], pooled["cold"], 1, config)),
        "by_night": [_rounded(_paired(k, c, 0, config)) for k, c in zip(found["kept"], found["cold"], strict=True)],
    }


def say(text: str) -> None:
    """Progress."""
    print(text, file=sys.stderr, flush=True)


def split_days(data: Path, out: Path, last: int) -> list[Path]:
    """A copy of `data` in `out` without the `last` days that have events; those beside it, a file each, in their order."""
    shutil.copytree(data, out, ignore=shutil.ignore_patterns("events"))
    events = ds.dataset(data / "events").to_table()
    day = pc.floor_temporal(events.column("event_time").cast(pa.timestamp("us")), unit="day")
    cuts = np.unique(day.to_numpy())[-last:]
    (out / "events").mkdir()
    pq.write_table(events.filter(pc.less(day, pa.scalar(cuts[0], day.type))), out / "events" / "before.parquet")
    files = []
    for number, cut in enumerate(cuts):
        files.append(out.parent / f"day-{number}.parquet")
        pq.write_table(events.filter(pc.equal(day, pa.scalar(cut, day.type))), files[-1])
    return files


def night(data: Path, work: Path, config: Path | None) -> Night:
    """The stages up to the index, a process each."""
    options = ["--config", config] if config else []
    costs = {
        stage: run(aisle(stage, *(["--data", data] if stage == "prepare" else []), "--work", work, *options))
        for stage in _STAGES
    }
    artifact = Work(work).latest("train-retrieval")
    return Night(
        {stage: cost.cpu_seconds for stage, cost in costs.items()},
        sum(cost.seconds for cost in costs.values()),
        read_manifest(artifact).about["towers"],
        artifact,
    )


def next_day(prepared: Prepared, artifact: Path, config: PipelineConfig) -> Array:
    """Of each person asked: recall@500 of the union and recall@100 of the towers of `artifact`, on all that `prepared` has after it. float64 `[q, 2]`."""
    learned = Prepared(artifact.parents[1] / "prepare" / read_manifest(artifact).parents["prepared"])
    since = prepared.split_at(learned.cuts.end)
    remove = prepared.seen(config.evaluation.seen) == "remove"
    asked = past_requests(
        since,
        TRAIN,
        remove_seen=remove,
        history_events=config.sources.history_events,
        most=_MOST,
        seed=config.evaluation.seed,
    )
    sources = open_sources(artifact / FULL.name)
    (towers,) = (s for s in sources if s.name == TOWERS)
    quotas = quotas_of(release_settings(artifact, config), sources, _PAGE)

    def shares(request: PastRequest) -> tuple[float, float]:
        union = gather(sources, quotas, request.query, request.excluded).rows
        best = towers.scoring(request.query).top(100, request.excluded)[0]
        return tuple(float(np.isin(request.relevant, rows).mean()) for rows in (union, best))  # type: ignore[return-value]

    return np.array([shares(request) for request in asked]).reshape(-1, 2)


def line(number: int, ours: tuple[Night, Array], theirs: tuple[Night, Array], config: PipelineConfig) -> str:
    """One night for people."""
    (kept, found), (cold, other) = ours, theirs
    mean, low, high = _paired(found, other, 0, config)
    return (
        f"night {number}: towers {'stayed' if kept.towers['kept'] else 'learned'} ({kept.towers['reason']}); "
        f"{kept.retrieval_cpu:.0f} s CPU against {cold.retrieval_cpu:.0f} s; {len(found)} people, recall@500 {found[:, 0].mean():.4f}, "
        f"difference {mean:+.4f} ({low:+.4f} to {high:+.4f})"
    )


def _paired(ours: Array, theirs: Array, column: int, config: PipelineConfig) -> Interval:
    c = config.evaluation
    return difference(
        ours[:, column], theirs[:, column], samples=c.bootstrap_samples, confidence=c.confidence, seed=c.seed
    )


def _means(pooled: dict[str, Array], column: int) -> dict[str, float]:
    return {arm: round(float(values[:, column].mean()), 4) for arm, values in pooled.items()}


def _rounded(found: Interval) -> list[float]:
    return [round(v, 4) for v in found]


def _ratio(ours: list[float], theirs: list[float]) -> float:
    """The median of the nights' ratios."""
    return round(float(np.median(np.array(ours) / np.array(theirs))), 3)


if __name__ == "__main__":
    main()
