"""The Spark half of `prepare`: from files to validated, sorted event columns, id maps, item and user columns, and rejects."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from core.columns import Array, Columns
from core.config import PipelineConfig
from core.ids import IdMap
from core.schema import EVENTS, ITEMS, REASON, SECOND, USERS, Column, Table, TableContract
from data_prep import aside, currency, events, rejects, repeats, tables, tally, validate
from data_prep.catalog import CatalogLog, listed
from data_prep.currency import Rates
from data_prep.inputs import Group
from data_prep.inventory import Night
from data_prep.merge import Change, merged
from data_prep.reading import LINE, RAW, read, unread
from data_prep.repeats import FILE_CODE, Candidates, CarriedEvents
from data_prep.validate import PERSON

Say = Callable[[str], None]
KNOWN_PREFIX: Final = "u:"  # of person keys with a user_id (core.ids.person_key)
_NAME: Final = "_name"
TABLES: Final = "carried/tables"  # items and users as read
_FEW: Final = 500_000  # new events that are sorted without Spark


class CannotCarryError(Exception):
    """What the night before left does not fit this one: everything must be read. The message says why."""


@dataclass(frozen=True)
class Job:
    """Where one run reads and writes: `draft` is the artifact being written, `scratch` goes away at the end."""

    spark: SparkSession
    data: Path
    draft: Path
    scratch: Path
    config: PipelineConfig
    say: Say
    catalog: CatalogLog


@dataclass(frozen=True)
class Found:
    """What the rest of the run needs to know.

    `known` bool `[people]` is whether a person row has a user_id; `change` how the events differ from the night before's (None: all are
    new); `facts` what each event file holds; `natural` whether equal rows without event_id were resends.
    """

    known: Array
    n_items: int
    counts: dict[str, int]
    rejected: dict[str, dict[str, int]]
    profile: dict[str, Any]
    change: Change | None
    facts: dict[str, dict[str, Any]]
    natural: bool


@dataclass(frozen=True)
class _Events:
    candidates: Candidates | None  # None: there are none
    kept: Array  # bool, those that become events
    items: set[str]  # that these name
    people: set[str]
    rows: DataFrame | None  # the same for Spark
    carried: CarriedEvents | None
    rows_read: int
    reasons: list[rejects.Reject]
    facts: dict[str, dict[str, Any]]
    natural: bool


def rows_from(job: Job, groups: dict[Table, list[Group]], maps: tuple[IdMap, IdMap], night: Night) -> Found:
    """Write `events/` (without derived columns), `carried/events/`, `ids/`, `items/`, `users/` and `rejected/`.

    Args:
        job: Where to.
        groups: The files of each table; of events, those that are read this night.
        maps: The id maps of earlier nights, items and people: their rows stay.
        night: Which event files are read, and what the others are taken from.

    Raises:
        InputError: Too few usable events.
        CannotCarryError: Everything must be read.
        ReopenError: More files must be read.
    """
    usable = _usable_events(job, groups[EVENTS.table], night, maps[1])
    items, users = (_entities(job, c, groups[c.table], night) for c in (ITEMS, USERS))
    said = listed(items, job.catalog, Rates.of(job.config.data), job.say)
    item_ids = maps[0].extended(usable.items.union(said.items.ids))
    person_ids = maps[1].extended(usable.people.union(f"{KNOWN_PREFIX}{u}" for u in users.ids))
    item_ids.write(job.draft / "ids" / "items")
    person_ids.write(job.draft / "ids" / "users")
    change = _write_events(job, usable, item_ids, person_ids, night)
    written = Columns.open(job.draft / "events")
    known = np.fromiter((p.startswith(KNOWN_PREFIX) for p in person_ids.texts), bool, len(person_ids))
    seen = np.zeros(len(item_ids), bool)
    seen[np.asarray(written.numbers(Column.ITEM))] = True
    prices = tables.event_prices(said.items, item_ids, written)
    tables.item_columns(said.items, item_ids, seen, prices, said.deleted, said.shelf).write(job.draft / "items")
    tables.user_columns(users, person_ids, known).write(job.draft / "users")
    counts = {
        "rows_read": usable.rows_read,
        "events": written.rows,
        "rejected": usable.rows_read - written.rows,
        "users": int(known.sum()),
        "visitors": int((~known & person_ids.alive).sum()),
        "items": len(item_ids),
        "items_rows_read": items.rows_read,
        "users_rows_read": users.rows_read,
    }
    rejected = {EVENTS.table.value: {r.reason: r.rows for r in usable.reasons}}
    rejected |= {c.table.value: _reasons(e) for c, e in ((ITEMS, items), (USERS, users))}
    profile = {
        EVENTS.table.value: tally.profile(job.spark, [usable.facts[name] for name in sorted(usable.facts)], job.scratch)
    } | {c.table.value: tables.profile(e, c) for c, e in ((ITEMS, items), (USERS, users))}
    return Found(known, len(item_ids), counts, rejected, profile, change, usable.facts, usable.natural)


def _usable_events(job: Job, groups: list[Group], night: Night, people: IdMap) -> _Events:
    """Read and judge the events that are read this night; write `rejected/events.parquet` and what is set aside."""
    new, facts = _judged(job, groups, night)
    rows = tally.total(facts.values())
    limit = job.config.data.max_rejected_share
    natural = _natural(job, night, rows)
    earlier = aside.load(night, job.data, _now(), job.scratch)
    parts = [p for p in (new, earlier) if p is not None]
    carried = _carried(night, people)
    n_carried = int((~carried.gone).sum()) if carried is not None else 0
    if not parts:
        rejects.check_share([], rows["rows"], limit)
        rejects.write(None, job.data, job.scratch, job.draft / "rejected" / "events.parquet")
        return _Events(None, np.empty(0, bool), set(), set(), None, carried, rows["rows"], [], facts, natural)
    schema = job.spark.read.parquet(str(parts[0])).schema
    judged = job.spark.read.schema(schema).parquet(*map(str, parts))
    bad, good = judged.filter(F.col(REASON).isNotNull()), judged.filter(F.col(REASON).isNull())
    candidates = Candidates(job.spark, good, parts, job.scratch)
    n = len(candidates.key)
    reasons = rejects.counted(bad, job.data) if rows["rows"] > n_carried + n else []
    rejects.check_share(reasons, rows["rows"], limit)
    per_day = job.config.data.bot_events_per_day
    faults = repeats.faults(candidates, carried, natural, per_day)
    if faults.any():
        lines = candidates.faulty(faults, repeats.reasons(per_day))
        good = good.join(F.broadcast(lines.select(LINE)), LINE, "left_anti")
        lost = candidates.rows.drop(REASON, RAW).join(F.broadcast(lines), LINE).withColumn(RAW, rejects.as_text())
        reasons = sorted([*reasons, *rejects.counted(lost, job.data)], key=lambda r: (-r.rows, r.reason))
        bad = bad.unionByName(lost)
    rejects.check_share(reasons, rows["rows"], limit)
    rejects.report(reasons, job.say)
    rejects.write(bad if reasons else None, job.data, job.scratch, job.draft / "rejected" / "events.parquet")
    if reasons:
        aside.write(bad, job.data, job.draft, job.scratch)
    kept = faults == repeats.NO_FAULT
    items, named = (candidates.distinct(c, kept) for c in (Column.ITEM_ID, PERSON))
    return _Events(candidates, kept, items, named, good, carried, rows["rows"], reasons, facts, natural)


def _judged(job: Job, groups: list[Group], night: Night) -> tuple[Path | None, dict[str, dict[str, Any]]]:
    """Rows of the files that are read, judged one by one, as Parquet; and what each file holds, the others' from the night before."""
    closed = {name: f for name, f in (night.carried.facts if night.carried else {}).items() if name not in night.read}
    closed = {name: f for name, f in closed.items() if name in night.codes}
    if not groups:
        return None, closed
    table = read(job.spark, groups, EVENTS, job.say)
    judged = validate.judged(table.rows, _now(), Rates.of(job.config.data))
    path = job.scratch / "judged"
    judged.withColumns(repeats.hashes()).write.parquet(str(path))
    rows = job.spark.read.parquet(str(path))
    if (warning := currency.mixed(rows)) is not None:
        job.say(warning)
    return path, closed | tally.by_file(rows, job.data)


def _natural(job: Job, night: Night, rows: dict[str, int]) -> bool:
    """Whether rows without event_id that are equal in every column are resends.

    Raises:
        CannotCarryError: It was otherwise for rows that would be carried over.
    """
    without_ids = rows["with_ids"] < rows["events"]
    if without_ids and rows["off_minute"] == 0:
        job.say("events: all times are whole minutes, so equal rows without an event_id count as events of their own")
    natural = without_ids and rows["off_minute"] > 0
    if night.carried is not None and night.carried.natural != natural:
        closed = tally.total(
            f for name, f in night.carried.facts.items() if name in night.codes and name not in night.read
        )
        if closed["with_ids"] < closed["events"]:
            raise CannotCarryError("events without event_id are told apart otherwise than before")
    return natural


def _carried(night: Night, people: IdMap) -> CarriedEvents | None:
    """The events of the files that are not read."""
    if night.before is None:
        return None
    codes = Columns.open(night.before / "carried" / "events").numbers(FILE_CODE)
    stays = np.zeros(int(codes.max(initial=-1)) + 1, bool)
    stays[[c for c in night.closed if c < len(stays)]] = True
    return CarriedEvents(night.before, ~stays[codes], people)


def _write_events(job: Job, usable: _Events, items: IdMap, people: IdMap, night: Night) -> Change | None:
    """Write `events/` and `carried/events/`: the new rows, sorted, among those that are carried over."""
    carried, n = usable.carried, int(usable.kept.sum())
    folder = job.draft if carried is None else job.scratch / "new"
    job.say(f"{n:,} {'new ' if carried else ''}events; {len(people):,} people and {len(items):,} items: sorting")
    if carried is not None and n <= _FEW:
        start = len(rejects.prefix(job.data))
        events.few_to_columns(
            usable.candidates, usable.kept, (items, people), lambda uri: night.codes[unquote(uri[start:])], folder
        )
    else:
        assert usable.rows is not None
        parts = events.write_sorted(job.spark, _with_codes(job, usable.rows, night), n, items, people, job.scratch)
        written = events.to_columns(parts, folder)
        assert written == n, f"{written} events sorted, {n} counted"
    if carried is None:
        return None
    new = Columns.open(folder / "events"), Columns.open(folder / "carried" / "events")
    return merged(carried.path, carried.gone, new, job.draft)


def _with_codes(job: Job, rows: DataFrame, night: Night) -> DataFrame:
    """The rows with `FILE_CODE`."""
    names, codes = zip(*night.codes.items(), strict=True)
    path = job.scratch / "codes.parquet"
    pq.write_table(pa.table({_NAME: pa.array(names, pa.string()), FILE_CODE: pa.array(codes, pa.int32())}), path)
    return rows.withColumn(_NAME, tally.source_name(job.data)).join(
        F.broadcast(job.spark.read.parquet(str(path))), _NAME
    )


def _now() -> int:
    return int(time.time()) * SECOND


def _entities(job: Job, contract: TableContract, groups: list[Group], night: Night) -> tables.Entities:
    """Read a table of items or users, if it changed since the night before; write its rejects."""
    name = contract.table.value
    if not groups:
        return tables.empty(contract)
    known = night.before / TABLES / name if night.before is not None and night.same(name) else None
    found = _read_entities(job, contract, groups) if known is None else tables.Entities.open(known)
    found.save(job.draft / TABLES / name)
    if found.rows_read == 0:
        job.say(f"warning: {name}: the files hold no rows")
    for reason, n in _reasons(found).items():
        job.say(f"{name}: {n:,} rejected: {reason}")
    (job.draft / "rejected").mkdir(exist_ok=True)
    pq.write_table(found.rejected, job.draft / "rejected" / f"{name}.parquet")
    return found


def _read_entities(job: Job, contract: TableContract, groups: list[Group]) -> tables.Entities:
    name, table = contract.table.value, read(job.spark, groups, contract, job.say)
    for column, n in unread(table, contract).items():
        job.say(f"warning: {name}: {n:,} values of {column} cannot be read and count as missing")
    found = tables.entities(table, contract, rejects.file_name(job.data), job.scratch)
    return replace(found, rows=currency.normalised(found.rows, Rates.of(job.config.data), job.say, table=name))


def _reasons(table: tables.Entities) -> dict[str, int]:
    counts: dict[str, int] = {}
    for reason in table.rejected.column(REASON).to_pylist():
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items()))
