"""Feature tables as Parquet: one file for each day as of which something changed, written only where its content did.

WORK/features/
  <table>/day=YYYY-MM-DD/part.parquet   the key columns (external ids, text), one float32 column for each stored statistic, as_of_day int32 (days since the
                                        epoch), event_timestamp (00:00 UTC of that day) and created (when the file was written), both timestamp[us, UTC]
  <table>.json                          what the files of each day hold: digest, rows, written (epoch seconds)
  views.json                            what the tables are: keys, fields, how each drifts, ttl; feature_repo/ is made from it

A second night writes new days and re-opened ones (late events, another definition), and removes days that hold nothing any more. `<table>.json` is written
when the files are on the disk: what a killed run left is written again.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from core import atomic
from core.artifact import hash_json
from core.columns import Array
from core.prepared import Prepared
from core.schema import DAY
from pipeline.feature_tables import FeaturesConfig, FeatureTable, Rows, end_day, tables
from ranking.statistics import ENTITIES, Statistic

VIEWS: Final = "views.json"
_FLUSHES: Final = 32
_EPOCH: Final = dt.date(1970, 1, 1)


@dataclass(frozen=True)
class Exported:
    """What one table holds now, and what this run did to it: rows, and days written, kept and removed."""

    rows: int
    days: int
    written: int
    removed: int


def export(prepared: Prepared, folder: Path, config: FeaturesConfig, say: Callable[[str], None]) -> dict[str, Exported]:
    """Bring the tables under `folder` up to the prepared data; tables without rows are not there."""
    done: dict[str, Exported] = {}
    views: list[dict[str, Any]] = []
    folder.mkdir(parents=True, exist_ok=True)
    until = end_day(prepared)
    for table in tables(prepared, config):
        name = table.entity.name
        exported = _export_table(table, folder, until)
        say(f"{name}: {exported.rows} rows of {exported.days} days, {exported.written} days written")
        if exported.rows:
            done[name] = exported
            views.append(_described(table))
    for gone in {p.stem for p in folder.glob("*.json")} & ENTITIES.keys() - done.keys():
        shutil.rmtree(folder / gone, ignore_errors=True)
        (folder / f"{gone}.json").unlink(missing_ok=True)
    about = {"version": 1, "end_day": until, "tables": views}
    atomic.write_bytes(folder / VIEWS, (json.dumps(about, indent=1) + "\n").encode())
    return done


def day_name(day: int) -> str:
    """YYYY-MM-DD of days since the epoch."""
    return (_EPOCH + dt.timedelta(days=day)).isoformat()


def _export_table(table: FeatureTable, folder: Path, until: int) -> Exported:
    state_file = folder / f"{table.entity.name}.json"
    before: dict[str, Any] = json.loads(state_file.read_text()) if state_file.exists() else {}
    definition = hash_json(_described(table))
    after: dict[str, Any] = {}
    for rows in table.blocks(until):
        for day, part in _by_day(table, rows):
            name = day_name(day)
            digest = hashlib.blake2b(definition.encode() + _bytes(part), digest_size=16).hexdigest()
            path = folder / table.entity.name / f"day={name}" / "part.parquet"
            known = before.get(name)
            if known and known["digest"] == digest and path.exists():
                after[name] = known
            else:
                after[name] = {"digest": digest, "rows": part.num_rows, "written": _write(part, path)}
    stale = [p for p in (folder / table.entity.name).glob("day=*") if p.name.removeprefix("day=") not in after]
    for path in stale:
        shutil.rmtree(path)
    fresh = [name for name in after if after[name] is not before.get(name)]
    _flush(folder / table.entity.name, fresh)
    atomic.write_bytes(state_file, (json.dumps(after, indent=0) + "\n").encode())
    return Exported(sum(d["rows"] for d in after.values()), len(after), len(fresh), len(stale))


def _by_day(table: FeatureTable, rows: Rows) -> list[tuple[int, pa.Table]]:
    """The rows of each day with their values, living entities only, as Arrow tables without `created`."""
    living = np.ones(len(rows[0]), bool)
    for key, row in zip(table.keys, rows, strict=False):
        living &= key.alive[row]
    row, other, day = (column[living] for column in rows)
    values = table.values(row, other, day)
    days, starts = np.unique(day, return_index=True)
    ends = [*starts[1:].tolist(), len(day)]
    return [
        (int(d), _arrow(table, (row[a:b], other[a:b]), int(d), values[a:b]))
        for d, a, b in zip(days, starts.tolist(), ends, strict=True)
    ]


def _arrow(table: FeatureTable, rows: tuple[Array, Array], day: int, values: Array) -> pa.Table:
    n = len(values)
    columns = {
        name: names.ids.take(pa.array(row))
        for name, names, row in zip(table.entity.keys, table.keys, rows, strict=False)
    }
    columns |= {s.field: pa.array(np.ascontiguousarray(values[:, c])) for c, s in enumerate(table.stored)}
    columns["as_of_day"] = pa.array(np.full(n, day, np.int32))
    columns["event_timestamp"] = pa.array(np.full(n, day * DAY), pa.timestamp("us", tz="UTC"))
    return pa.table(columns)


def _bytes(table: pa.Table) -> Any:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue().to_pybytes()


def _write(table: pa.Table, path: Path) -> float:
    now = time.time()
    created = pa.array(np.full(table.num_rows, int(now * 1e6)), pa.timestamp("us", tz="UTC"))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(".tmp-" + path.name)
    pq.write_table(table.append_column("created", created), beside, compression="zstd")
    os.replace(beside, path)
    return now


def _flush(folder: Path, days: list[str]) -> None:
    """Files of days to the disk, many at once: one by one, waiting for the disk is most of a first night."""
    folders = [folder / f"day={day}" for day in days]
    with ThreadPoolExecutor(_FLUSHES) as pool:
        list(pool.map(atomic.fsync_path, [f / "part.parquet" for f in folders]))
        list(pool.map(atomic.fsync_path, folders))
    if folder.exists():
        atomic.fsync_path(folder)


def _described(table: FeatureTable) -> dict[str, Any]:
    entity = table.entity
    return {
        "name": entity.name,
        "keys": list(entity.keys),
        "meaning": entity.meaning,
        "ttl_days": entity.ttl_days,
        "online": entity.online,
        "fields": [_field(s) for s in table.stored],
        "derived": [_field(s) | {"ratio": asdict(s.ratio)} for s in table.declared if s.ratio is not None],
    }


def _field(s: Statistic) -> dict[str, Any]:
    return {
        "name": s.field,
        "meaning": s.meaning,
        "unit": s.unit,
        "default": s.default,
        "ages": s.ages,
        "half_life_days": s.half_life_days,
        "prior": s.prior,
        "timed": s.timed,
    }
