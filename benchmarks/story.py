"""Simulated nights of a shop with seasons, new items and new people, broken feeds among them and a bad model: the story of the nights, told by `nightly`.

    .venv/bin/python -m benchmarks.story [--nights 14] [--users 600] [--items 300] [--events 60000] [--days 60] [--out DIR]

A shop is simulated; a first night learns from all but its last days, and every further night gets one more day. On some nights something is wrong
(MISHAPS): the day's file is empty, half of its people are missing, it came twice, its clock is a day behind; or a ranker that was grown on noise lies
where the night's should. Each such night must be refused by its own gate and leave the champion; the night after it gets what was right. All other
nights must publish. What learning every night is worth: each release and the first night's answer the same people on the day after, in pairs.

The table of nights goes to stderr. The last line of stdout is JSON; exit 1 when a night did not end as it must. With --out what was done is kept.
"""

# bazel: imports=[cli.*]

from __future__ import annotations

import argparse
import datetime as dt
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks.nights import split_days
from benchmarks.tree import aisle, run
from cli.commands.nights import table
from cli.output import console
from core import artifact
from core.columns import Array
from core.config import PipelineConfig, load_pipeline
from core.errors import AisleError
from core.prepared import FULL, TRAIN, TWIN, Prepared
from core.release import RANKER
from core.work import Work
from evaluation.intervals import difference
from evaluation.judgements import judge
from evaluation.metrics import find
from evaluation.report import METRICS, measure
from pipeline import nights
from pipeline.evaluate import pages
from ranking.feature_list import NAMES
from ranking.train import TrainingSet, grow
from retrieval.sources import open_sources

# night -> what is wrong with it; the same distances whatever the number of nights
MISHAPS: Final = {3: "empty", 5: "halved", 7: "duplicated", 9: "shifted", 11: "bad model"}
GATES: Final = {
    "empty": "freshness",
    "halved": "volume",
    "duplicated": "resent",
    "shifted": "freshness",
    "bad model": "ndcg",
}
# a feed that comes once a day, two hours after midnight
CONFIG: Final = "gates: {freshness_hours: 12}\nranker: {logged_pages: off}\nevaluation: {bootstrap_samples: 200}\n"
_HOURS: Final = 2
_SEED: Final = 5


@dataclass
class Story:
    """What is told so far."""

    folder: Path
    days: list[Path]
    config: PipelineConfig
    releases: list[Path | None] = field(default_factory=list)  # the champion after each night
    wrong: list[str] = field(default_factory=list)  # nights that did not end as they must
    lifts: list[tuple[Array, Array]] = field(default_factory=list)  # NDCG@10 [q] of a night's champion and of the first

    @property
    def data(self) -> Path:
        """The shop's tables as delivered so far."""
        return self.folder / "data"

    @property
    def work(self) -> Work:
        """Of the nights."""
        return Work(self.folder / "work")

    @property
    def frozen(self) -> Path:
        """A copy of the first night's release."""
        return self.folder / "first-night"


def main() -> None:
    """Run it; a line of JSON at the end."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shop = {"nights": 14, "users": 600, "items": 300, "events": 60_000, "days": 60}
    for name, default in shop.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aisle-story-") as folder:
        result = tell(arguments.out or Path(folder), arguments)
    print(json.dumps(result))
    sys.exit(bool(result["wrong"]))


def tell(folder: Path, asked: argparse.Namespace) -> dict[str, Any]:
    """The last line of the benchmark."""
    start = time.perf_counter()
    sizes = [part for n in ("users", "items", "events", "days") for part in (f"--{n}", getattr(asked, n))]
    run(aisle("simulate", *sizes, "--out", folder / "shop"))
    days = split_days(folder / "shop", folder / "data", asked.nights)
    (folder / "night.yaml").write_text(CONFIG)
    story = Story(folder, days, load_pipeline(folder / "night.yaml"))
    first_day = _day_of(days[0]) - dt.timedelta(days=1)
    end(story, 0, None, nightly(story, first_day))
    shutil.copytree(story.work.current.resolve(), story.frozen)  # the nights prune their oldest releases
    for number, day in enumerate(days, 1):
        mishap = MISHAPS.get(number)
        tonight = deliver(story, number, day, mishap)
        if mishap == "bad model":
            plant(story)
        end(story, number, mishap, nightly(story, tonight))
        look_back(story)
    written = nights.read(story.work)
    console.print(table(written))
    return {
        "nights": asked.nights,
        "outcomes": [[n.outcome, *n.row["refused_by"]] for n in written],
        "wrong": story.wrong,
        "against_first_night": against_first(story),
        "seconds": [n.row["seconds"] for n in written],
        "seconds_in_all": round(time.perf_counter() - start, 1),
    }


def deliver(story: Story, number: int, day: Path, mishap: str | None) -> dt.date:
    """The day's file into the shop's tables, and what an earlier mishap left put right. The date of the day."""
    events, date = story.data / "events", _day_of(day)
    for spoilt in [*events.glob("spoilt-*")]:
        spoilt.unlink()
        earlier = story.days[number - 2]
        shutil.copy(earlier, events / earlier.name)
    rows = pq.read_table(day)
    if mishap is None or mishap == "bad model":
        shutil.copy(day, events / day.name)
    elif mishap == "duplicated":
        shutil.copy(day, events / f"spoilt-{day.name}")
        shutil.copy(day, events / f"spoilt-again-{day.name}")
    else:
        pq.write_table(spoiled(rows, mishap), events / f"spoilt-{day.name}")
    return date


def spoiled(rows: pa.Table, mishap: str) -> pa.Table:
    """A day's events as a broken feed delivers them."""
    if mishap == "empty":
        return rows.slice(0, 0)
    if mishap == "halved":  # by people, as a lost partition loses them
        who = pc.coalesce(rows.column("user_id"), rows.column("visitor_id")).to_numpy(zero_copy_only=False)
        people, code = np.unique(who.astype(str), return_inverse=True)
        return rows.filter(pa.array((np.random.default_rng(_SEED).random(len(people)) < 0.5)[code]))
    at = rows.schema.get_field_index("event_time")
    earlier = pc.subtract(rows.column(at), pa.scalar(dt.timedelta(days=1)))
    return rows.set_column(at, "event_time", earlier.cast(rows.schema.field(at).type))


def nightly(story: Story, day: dt.date) -> dict[str, Any]:
    """A night, two hours after the end of `day`; its JSON."""
    clock = dt.datetime.combine(day, dt.time()) + dt.timedelta(days=1, hours=_HOURS)
    options = ("--config", story.folder / "night.yaml", "--as-of", f"{clock:%Y-%m-%dT%H:%M:%S}")
    done = subprocess.run(
        aisle("nightly", "--data", story.data, "--work", story.work.root, *options),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 3):
        raise AisleError(f"a night ended with {done.returncode}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def plant(story: Story) -> None:
    """Train as the night would, then put a ranker that was grown on noise where the good one lies: the night finds it made."""
    options = ("--work", story.work.root, "--config", story.folder / "night.yaml")
    for stage in ("prepare", "train-retrieval", "build-index", "train-ranker"):
        run(aisle(stage, *(["--data", story.data] if stage in ("prepare", "train-ranker") else []), *options))
    sources, rng = story.work.latest("train-retrieval"), np.random.default_rng(_SEED)
    rows = rng.standard_normal((4_000, len(NAMES))).astype(np.float32)
    noise = TrainingSet(rows, (rng.random(4_000) < 0.1).astype(np.int8), np.full(80, 50, np.int32), np.ones(80), 0)
    bad = grow([noise], 20, story.config.ranker)
    with artifact.rewrite(story.work.latest("train-ranker")) as draft:
        for fold in (TWIN, FULL):
            folder = draft.path / RANKER / fold.name
            shutil.rmtree(folder, ignore_errors=True)
            bad.write(folder, [s.name for s in open_sources(sources / fold.name)], {})


def end(story: Story, number: int, mishap: str | None, said: dict[str, Any]) -> None:
    """Whether the night ended as it must: refused by the right gate and the champion stays, or published."""
    refused = [g["gate"] for g in said["gates"] if not g["passed"]]
    champion = story.work.current.resolve() if story.work.current.exists() else None
    before = next((r for r in reversed(story.releases) if r is not None), None)
    right = GATES[mishap] in refused and champion == before if mishap else bool(said["published"])
    if not right:
        story.wrong.append(f"night {number}: {mishap or 'nothing wrong'}, refused by {refused or 'nothing'}")
    story.releases.append(None if refused else champion)
    words = "; ".join(g["reason"] for g in said["gates"] if not g["passed"]) or "published"
    console.print(f"night {number}{f' ({mishap})' if mishap else ''}: {words}")


def look_back(story: Story) -> None:
    """What the champion of the night before and that of the first night find of what people then did."""
    last = next((r for r in reversed(story.releases[:-1]) if r is not None), None)
    if story.releases[-1] is None or last is None or last == story.releases[0]:
        return  # tonight's data are not to be trusted, or there is nothing to compare
    prepared = Prepared(story.work.latest("prepare"))
    since = prepared.split_at(int(artifact.read_manifest(last).about["window"][1]))
    asked = judge(since, TRAIN, prepared.seen(story.config.evaluation.seen))
    if not asked.main.any():
        return
    pairs, at = asked.main[asked.relevance.queries], list(METRICS).index("ndcg@10")
    ours, theirs = (
        measure(find(pages(release, since, asked), asked.relevance).only(pairs)[0])[:, at]
        for release in (last, story.frozen)
    )
    story.lifts.append((ours, theirs))
    console.print(f"NDCG@10 of {len(ours)} people, less the first night's: {float((ours - theirs).mean()):+.4f}")


def against_first(story: Story) -> dict[str, Any]:
    """NDCG@10 on the day after each night that published, of its release and of the first night's, all people of all days in pairs."""
    if not story.lifts:
        return {"queries": 0}
    ours, theirs = (np.concatenate(parts) for parts in zip(*story.lifts, strict=True))
    c = story.config.evaluation
    sure = difference(ours, theirs, samples=c.bootstrap_samples, confidence=c.confidence, seed=c.seed)
    return {
        "queries": len(ours),
        "ndcg@10": round(float(ours.mean()), 4),
        "first_night_ndcg@10": round(float(theirs.mean()), 4),
        "difference": [round(v, 4) for v in sure],
        "by_night": [round(float((a - b).mean()), 4) for a, b in story.lifts],
    }


def _day_of(path: Path) -> dt.date:
    return pc.min(pq.read_table(path, columns=["event_time"]).column(0)).as_py().date()  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
