"""The Spark half of `prepare`: from files to validated, sorted event columns, id maps, item and user columns, and rejects."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from core.columns import Array, Columns
from core.config import PipelineConfig
from core.ids import IdMap
from core.schema import EVENTS, ITEMS, REASON, SECOND, USERS, Column, Table, TableContract
from data_prep import events, rejects, tables, validate
from data_prep.inputs import Group
from data_prep.reading import LINE, RAW, read
from data_prep.validate import PERSON

Say = Callable[[str], None]
KNOWN_PREFIX: Final = "u:"  # of person keys with a user_id (core.ids.person_key)


@dataclass(frozen=True)
class Job:
    """Where one run reads and writes: `draft` is the artifact being written, `scratch` goes away at the end."""

    spark: SparkSession
    data: Path
    draft: Path
    scratch: Path
    config: PipelineConfig
    say: Say


@dataclass(frozen=True)
class Found:
    """What the rest of the run needs to know: `known` bool `[people]` is whether a person row has a user_id."""

    known: Array
    n_items: int
    counts: dict[str, int]
    rejected: dict[str, dict[str, int]]
    profile: dict[str, Any]


@dataclass(frozen=True)
class _Events:
    rows: DataFrame  # usable
    n: int
    rows_read: int
    reasons: list[rejects.Reject]
    profile: dict[str, Any]


def rows_from(job: Job, groups: dict[Table, list[Group]], maps: tuple[IdMap, IdMap]) -> Found:
    """Write `events/` (without derived columns), `ids/`, `items/`, `users/` and `rejected/`.

    Args:
        job: Where to.
        groups: The files of each table; events must have some.
        maps: The id maps of earlier nights, items and people: their rows stay.

    Raises:
        InputError: Too few usable events.
    """
    usable = _usable_events(job, groups[EVENTS.table])
    items, users = (_entities(job, c, groups[c.table]) for c in (ITEMS, USERS))
    item_ids = maps[0].extended([*_distinct(usable.rows, Column.ITEM_ID), *items.ids])
    person_ids = maps[1].extended([*_distinct(usable.rows, PERSON), *(f"{KNOWN_PREFIX}{u}" for u in users.ids)])
    item_ids.write(job.draft / "ids" / "items")
    person_ids.write(job.draft / "ids" / "users")
    job.say(f"{usable.n:,} events of {len(person_ids):,} people and {len(item_ids):,} items: sorting")
    parts = events.write_sorted(job.spark, usable.rows, usable.n, item_ids, person_ids, job.scratch)
    n = events.to_columns(parts, job.draft / "events", job.scratch)
    assert n == usable.n, f"{n} events sorted, {usable.n} counted"
    known = np.fromiter((p.startswith(KNOWN_PREFIX) for p in person_ids.texts), bool, len(person_ids))
    seen = np.zeros(len(item_ids), bool)
    seen[np.asarray(Columns.open(job.draft / "events").numbers(Column.ITEM))] = True
    prices = _event_prices(job, parts, items, item_ids)
    tables.item_columns(items, item_ids, seen, prices).write(job.draft / "items")
    tables.user_columns(users, person_ids, known).write(job.draft / "users")
    counts = {
        "rows_read": usable.rows_read,
        "events": usable.n,
        "rejected": usable.rows_read - usable.n,
        "users": int(known.sum()),
        "visitors": int((~known).sum()),
        "items": len(item_ids),
        "items_rows_read": items.rows_read,
        "users_rows_read": users.rows_read,
    }
    rejected = {EVENTS.table.value: {r.reason: r.rows for r in usable.reasons}}
    rejected |= {c.table.value: _reasons(e) for c, e in ((ITEMS, items), (USERS, users))}
    profile = {EVENTS.table.value: usable.profile} | {
        c.table.value: tables.profile(e, c) for c, e in ((ITEMS, items), (USERS, users))
    }
    return Found(known, len(item_ids), counts, rejected, profile)


def _usable_events(job: Job, groups: list[Group]) -> _Events:
    """Read and judge the events; write `rejected/events.parquet`."""
    now = int(time.time()) * SECOND
    table = read(job.spark, groups, EVENTS, job.say)
    judged = _kept(job, validate.judged(table.rows, now), "rows")
    facts, profile = validate.facts(judged)
    limit = job.config.data.max_rejected_share
    bad = judged.filter(F.col(REASON).isNotNull())
    reasons = rejects.counted(bad, job.data) if facts["events"] < facts["rows"] else []
    rejects.check_share(reasons, facts["rows"], limit)
    good = judged.filter(F.col(REASON).isNull()).drop(REASON, RAW)
    for late in _late_rejects(job, good, facts):
        good = good.join(F.broadcast(late.select(LINE)), LINE, "left_anti")
        lost = judged.drop(REASON, RAW).join(F.broadcast(late), LINE).withColumn(RAW, rejects.as_text())
        reasons = sorted([*reasons, *rejects.counted(lost, job.data)], key=lambda r: (-r.rows, r.reason))
        bad = bad.unionByName(lost)
    rejects.check_share(reasons, facts["rows"], limit)
    rejects.report(reasons, job.say)
    rejects.write(bad if reasons else None, job.data, job.scratch, job.draft / "rejected" / "events.parquet")
    return _Events(good, facts["rows"] - sum(r.rows for r in reasons), facts["rows"], reasons, profile)


def _late_rejects(job: Job, good: DataFrame, facts: dict[str, int]) -> Iterator[DataFrame]:
    """`_line` and `reason` of rows that are bad only beside others, kind by kind: repeats, then bots among the rest."""
    without_ids = facts["with_ids"] < facts["events"]
    if without_ids and facts["off_minute"] == 0:
        job.say("events: all times are whole minutes, so equal rows without an event_id count as events of their own")
    for by_id in (True, False):
        if facts["with_ids"] if by_id else without_ids and facts["off_minute"]:
            again = _kept(job, validate.repeated(good, by_id=by_id), f"repeated-{by_id}")
            if not again.isEmpty():
                good = good.join(F.broadcast(again.select(LINE)), LINE, "left_anti")
                yield again
    per_day = job.config.data.bot_events_per_day
    if people := validate.bots(good, per_day):
        reason = F.lit(f"{validate.BOT}: more than {per_day} events on a day")
        yield _kept(job, good.filter(F.col(PERSON).isin(people)).select(LINE, reason.alias(REASON)), "bots")


def _kept(job: Job, rows: DataFrame, name: str) -> DataFrame:
    """Rows written down, so that what builds on them does not compute them again."""
    path = str(job.scratch / name)
    rows.write.parquet(path)
    return job.spark.read.schema(rows.schema).parquet(path)


def _entities(job: Job, contract: TableContract, groups: list[Group]) -> tables.Entities:
    """Read a table of items or users; write its rejects."""
    name = contract.table.value
    if not groups:
        return tables.empty(contract)
    found = tables.entities(read(job.spark, groups, contract, job.say), contract, rejects.file_name(job.data))
    if found.rows_read == 0:
        job.say(f"warning: {name}: the files hold no rows")
    for reason, n in _reasons(found).items():
        job.say(f"{name}: {n:,} rejected: {reason}")
    (job.draft / "rejected").mkdir(exist_ok=True)
    pq.write_table(found.rejected, job.draft / "rejected" / f"{name}.parquet")
    return found


def _reasons(table: tables.Entities) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in table.rejected.column(REASON).to_pylist():
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items()))


def _distinct(rows: DataFrame, column: str) -> list[str]:
    return list(rows.select(column).distinct().toArrow().column(0).to_pylist())


def _event_prices(job: Job, parts: Path, items: tables.Entities, ids: IdMap) -> Array:
    """Median price of the events of each item, float32 `[items]`, NaN where none has one."""
    prices = np.full(len(ids), np.nan, np.float32)
    priced = items.rows.num_rows == len(ids) and items.rows.column(Column.PRICE).null_count == 0
    if not priced:
        sold = job.spark.read.parquet(str(parts)).filter(F.col(Column.PRICE) > 0)
        found = sold.groupBy(Column.ITEM).agg(F.median(Column.PRICE).alias(Column.PRICE)).toArrow()
        prices[found.column(Column.ITEM).to_numpy()] = found.column(Column.PRICE).to_numpy()
    return prices
