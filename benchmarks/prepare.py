"""`bench prepare`: what preparation costs on a simulated shop, how that grows, and what DuckDB takes for the same statistics.

    ./aisle bench prepare --events 10000000 --items 200000 --users 500000

The shop is simulated at full size and at a tenth (events, items and users alike, the same days); `growth` is the time of the large one over ten
times that of the small one: 1 is linear. DuckDB reads the same Parquet files, drops resends and computes sessions, days and pairs (`STATISTICS`)
without validation, id maps, folds or rejects: less work, so its time is there for orientation. Wall seconds; memory of the whole process tree, Java included.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb

from benchmarks.tree import Cost, aisle, run
from core.config import PipelineConfig, load_pipeline

_SMALLER: Final = 10
_DAYS: Final = 60
_DUCKDB_MEMORY: Final = "8GB"

# What `prepare` computes from events, in SQL: (what, query).
STATISTICS: Final = (
    (
        "events",
        """create table events as
           select coalesce('u:' || user_id, 'v:' || visitor_id) as person, item_id as item, event_type as type,
                  epoch_us(event_time) as time, price, quantity, {gain} as gain
           from (select distinct * from read_parquet('{files}'))""",
    ),
    (
        "sessions",
        """create table sessions as
           select person, count(*) as n from (
             select person, time - lag(time) over (partition by person order by time) > {session_gap} as new from events)
           group by person""",
    ),
    (
        "item days",
        """create table item_days as
           select item, time // 86400000000 as day, {counts}, count(distinct person) as users,
                  sum(case type when 'purchase-complete' then price * quantity when 'return' then -price * quantity end) as revenue
           from events group by item, day order by item, day""",
    ),
    (
        "user days",
        """create table user_days as
           select person, time // 86400000000 as day, {counts}, count(distinct item) as items,
                  sum(case type when 'purchase-complete' then price * quantity when 'return' then -price * quantity end) as spend
           from events group by person, day order by person, day""",
    ),
    (
        "sequences",
        """create table sequences as
           select person, item, time, row_number() over (partition by person order by time, item) as place
           from events where gain > 0""",
    ),
    (
        "transitions",
        """create table transitions as
           select a.item as source, b.item as target, count(*) as n,
                  sum(pow(2, (b.time - {newest}) / {half_life}) / (b.place - a.place)) as decayed
           from sequences a join sequences b on a.person = b.person and b.place - a.place between 1 and {window} and a.item <> b.item
           group by source, target
           qualify row_number() over (partition by source order by decayed desc, target) <= {per_item}""",
    ),
    (
        "co-visits",
        """create table covisits as
           select a.item as source, b.item as target, count(*) as n,
                  sum(pow(2, (greatest(a.time, b.time) - {newest}) / {half_life}) * pow(2, -abs(b.time - a.time) / ({gap} / 4.0))) as decayed
           from sequences a join sequences b on a.person = b.person and abs(b.place - a.place) between 1 and 100
                and abs(b.time - a.time) <= {gap} and a.item <> b.item
           group by source, target
           qualify row_number() over (partition by source order by decayed desc, target) <= {per_item}""",
    ),
)


def bench(events: int, items: int, users: int, seed: int, say: Callable[[str], None]) -> dict[str, Any]:
    """Run at a tenth, at full size, and DuckDB at full size; the figures of all three."""
    small = _prepared(events // _SMALLER, items // _SMALLER, users // _SMALLER, seed, say)
    with _shop(events, items, users, seed, say) as shop:
        large = _prepare(shop, say)
        seconds, by_statistic = _duckdb(shop, load_pipeline(), say)
    return {
        "events": events,
        "events_per_second": round(events / large.seconds),
        "seconds": large.seconds,
        "peak_gb": large.peak_gb,
        "smaller_events": events // _SMALLER,
        "smaller_seconds": small.seconds,
        "smaller_peak_gb": small.peak_gb,
        "growth": round(large.seconds / small.seconds / _SMALLER, 3),
        "baseline_seconds": seconds,
        "baseline": by_statistic,
    }


def _prepared(events: int, items: int, users: int, seed: int, say: Callable[[str], None]) -> Cost:
    with _shop(events, items, users, seed, say) as shop:
        return _prepare(shop, say)


@contextmanager
def _shop(events: int, items: int, users: int, seed: int, say: Callable[[str], None]) -> Iterator[Path]:
    """A simulated data directory under a temporary folder that goes with the block."""
    say(f"simulating {events:,} events of {users:,} users and {items:,} items over {_DAYS} days")
    with tempfile.TemporaryDirectory(prefix="aisle-bench-") as folder:
        sizes = ("--events", events, "--items", max(items, 1), "--users", max(users, 1))
        run(aisle("simulate", *sizes, "--days", _DAYS, "--seed", seed, "--out", Path(folder) / "data"))
        yield Path(folder)


def _prepare(shop: Path, say: Callable[[str], None]) -> Cost:
    say("preparing")
    cost = run(aisle("prepare", "--data", shop / "data", "--work", shop / "work"))
    shutil.rmtree(shop / "work")
    facts = json.loads(cost.stdout.splitlines()[-1])
    say(f"{facts['events']:,} events prepared in {cost.seconds:.0f} s, at most {cost.peak_gb:.1f} GB")
    return cost


def _duckdb(shop: Path, config: PipelineConfig, say: Callable[[str], None]) -> tuple[float, dict[str, float]]:
    """The statistics in DuckDB, into a database file: seconds in all, and of each."""
    day = 86_400_000_000
    gains = " ".join(f"when '{t}' then {g}" for t, g in config.data.gains.items())
    values = {
        "files": f"{shop}/data/events/*.parquet",
        "gain": f"(case event_type {gains} else 0 end)",
        "counts": ", ".join(f"count(*) filter (type = '{t}') as \"{t}\"" for t in config.data.gains),
        "session_gap": int(config.data.session_gap_minutes * 60e6),
        "window": config.pairs.window,
        "gap": config.pairs.gap_days * day,
        "half_life": config.pairs.half_life_days * day,
        "per_item": config.pairs.per_item,
    }
    took: dict[str, float] = {}
    with duckdb.connect(str(shop / "baseline.duckdb")) as db:
        db.execute(f"set memory_limit = '{_DUCKDB_MEMORY}'; set threads = 2; set temp_directory = '{shop}/spill'")
        for name, query in STATISTICS:
            start = time.perf_counter()
            if name == "transitions":
                values["newest"] = db.execute("select max(time) from events").fetchall()[0][0]
            db.execute(query.format(**values))
            took[name] = round(time.perf_counter() - start, 2)
            say(f"DuckDB: {name} in {took[name]:.1f} s")
    return round(sum(took.values()), 2), took
