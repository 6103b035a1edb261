"""Statistics as of a day, their tables and the training join on a shop's prepared data.

    python -m benchmarks.feature_tables --work WORK [--rows 100000] [--joined 20000]

Answers random (entity, day) questions with numpy; writes the tables twice into an empty folder (the second time nothing is new); then joins random rows
through Feast and DuckDB, and compares them with the answers of numpy: `differences` counts values of rows that are not expired and differ by more than
float32 rounding. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from core.columns import Array
from core.prepared import Prepared
from core.schema import DAY
from core.work import Work
from feature_repo.store import apply, open_store
from feature_repo.training_join import training_join
from pipeline.feature_files import export
from pipeline.feature_tables import load_features
from ranking.item_day_statistics import ItemStatistics
from ranking.user_statistics import UserStatistics

_REPEATS = 5


def main() -> None:
    """Time all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="with prepared data")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--joined", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    prepared, rng = Prepared(Work(arguments.work).latest("prepare")), np.random.default_rng(arguments.seed)
    result: dict[str, Any] = {"rows": arguments.rows} | as_of_seconds(prepared, arguments.rows, rng)
    with tempfile.TemporaryDirectory() as folder:
        result |= tables_and_join(prepared, Path(folder), arguments.joined, rng)
    print(json.dumps(result))


def as_of_seconds(prepared: Prepared, n: int, rng: np.random.Generator) -> dict[str, float]:
    """The median over a few times of answering n random questions."""
    days = moments(prepared, n, rng) // DAY
    out = {}
    for statistics, ids in (
        (ItemStatistics.of(prepared), prepared.item_ids),
        (UserStatistics.of(prepared), prepared.user_ids),
    ):
        rows, spent = rng.integers(0, len(ids), n), []
        for _ in range(_REPEATS):
            start = time.process_time()  # of this process alone: machines are shared
            statistics.as_of(rows, days)
            spent.append(time.process_time() - start)
        out[f"{type(statistics).__name__}_as_of_cpu_seconds"] = round(float(np.median(spent)), 3)
    return out


def tables_and_join(prepared: Prepared, work: Path, n: int, rng: np.random.Generator) -> dict[str, Any]:
    """Seconds of a first and a second export and of a join of n rows."""
    config, seconds = load_features(), {}
    for name in ("first", "second"):
        start = time.perf_counter()
        done = export(prepared, work / "features", config, lambda text: print(text, file=sys.stderr))
        seconds[f"{name}_export_seconds"] = round(time.perf_counter() - start, 1)
    store = open_store(work)
    apply(store, work)
    when = moments(prepared, n, rng)
    users, items = (rng.integers(0, len(ids), n) for ids in (prepared.user_ids, prepared.item_ids))
    keys = {"user_key": (prepared.user_ids, users), "item_id": (prepared.item_ids, items)}
    frame = pd.DataFrame({name: [ids[r] for r in rows.tolist()] for name, (ids, rows) in keys.items()})
    frame = frame.assign(category="", brand="", event_timestamp=pd.to_datetime(when, unit="us", utc=True))
    start = time.perf_counter()
    joined = training_join(store, work, frame)
    seconds["join_seconds"] = round(time.perf_counter() - start, 1)
    wrong = differences(joined, ItemStatistics.of(prepared), items, when) + differences(
        joined, UserStatistics.of(prepared), users, when
    )
    rows = sum(t.rows for t in done.values())
    return {"table_rows": rows, "joined": n, "joined_back": len(joined), "differences": wrong} | seconds


def differences(joined: pd.DataFrame, statistics: ItemStatistics | UserStatistics, rows: Array, when: Array) -> int:
    """Values of rows that are not expired and differ."""
    names = [n.replace(".", "__") for n in statistics.names]
    live = ~joined[f"{names[0].split('__')[0]}__expired"].to_numpy()
    expected = statistics.as_of(rows[live], when[live] // DAY)
    return int((~np.isclose(joined.loc[live, names].to_numpy(), expected, rtol=5e-7, atol=1e-9)).sum())


def moments(prepared: Prepared, n: int, rng: np.random.Generator) -> Array:
    """Random moments of the log, microseconds."""
    return rng.integers(prepared.cuts.start, prepared.cuts.end, n)


if __name__ == "__main__":
    main()
