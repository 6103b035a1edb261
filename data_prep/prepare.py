"""`prepare`: a shop's tables become the prepared data set of core.prepared, or one line that says why they cannot.

Spark does what moves rows (read, validate, deduplicate, ids, sort); then Java ends, and one numpy pass over the sorted columns does
the rest. The artifact appears complete or not at all; it is made again only when inputs, settings or code changed.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException

from core import atomic
from core.artifact import code_version, hash_json, publish, read_manifest
from core.config import PipelineConfig
from core.errors import InputError
from core.ids import IdMap
from core.prepared import FORMAT_VERSION, KIND
from core.schema import EVENTS, ITEMS, USERS
from core.work import Work
from data_prep import inputs, reading, spark
from data_prep.cuts import describe
from data_prep.derive import derive, events_by_type
from data_prep.rows import Job, Say, rows_from

STAGE: Final = "prepare"
_SMALL: Final = 32 << 20  # bytes of input, about a million events in Parquet


def run(data: Path, work: Work, config: PipelineConfig, say: Say) -> Path:
    """Prepare `data`; the path of the prepared artifact, at once where it is there already. The caller holds the work directory's lock.

    Raises:
        InputError: The data cannot be prepared; nothing was changed.
    """
    if not data.is_dir():
        raise InputError(f"{data}: no such directory, expected a data directory with events/ (and items/, users/)")
    wanted = hash_json(
        [
            inputs.fingerprint(data),
            config.data.fingerprint(),
            config.time.fingerprint(),
            config.pairs.fingerprint(),
            _code(),
        ]
    )
    if work.has(STAGE) and read_manifest(latest := work.latest(STAGE)).about["inputs"] == wanted:
        return latest
    base = _base(work)
    id = hash_json([wanted, base])[:16]
    path = work.stage(STAGE, id)
    atomic.sweep(path.parent) if path.parent.exists() else None
    if not path.exists():
        with publish(path, kind=KIND, format_version=FORMAT_VERSION, id=id) as draft, _scratch(path.parent) as scratch:
            draft.parents["ids"] = base
            draft.about |= _prepare(data, draft.path, scratch, _maps(work), config, say) | {"inputs": wanted}
    work.set_latest(STAGE, id)
    return path


def _code() -> str:
    return code_version("core", "data_prep")


def _base(work: Work) -> str:
    """Names the id maps that this night's rows continue."""
    if not work.has(STAGE):
        return "none"
    files = read_manifest(work.latest(STAGE)).files
    return hash_json({name: entry.sha256 for name, entry in files.items() if name.startswith("ids/")})


def _maps(work: Work) -> tuple[IdMap, IdMap]:
    """The id maps so far: items, people."""
    if not work.has(STAGE):
        return IdMap.of([]), IdMap.of([])
    ids = work.latest(STAGE) / "ids"
    return IdMap.open(ids / "items"), IdMap.open(ids / "users")


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A folder for Spark and for sums; a killed run's is swept by the next."""
    path = folder / f".tmp-scratch-{uuid.uuid4().hex[:8]}"
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _prepare(
    data: Path, draft: Path, scratch: Path, maps: tuple[IdMap, IdMap], config: PipelineConfig, say: Say
) -> dict[str, Any]:
    """Write the artifact's files; its `about`."""
    groups = {c.table: inputs.groups(data, c, say) for c in (EVENTS, ITEMS, USERS)}
    if not groups[EVENTS.table]:
        raise InputError(
            f"{data / EVENTS.table}: no event files; expected Parquet, CSV or JSON-lines, plain or in day folders"
        )
    try:
        with spark.session(scratch / "spill", small=inputs.size(data) < _SMALL) as session:
            found = rows_from(Job(session, data, draft, scratch, config, say), groups, maps)
    except (PySparkException, Py4JJavaError) as e:
        if (problem := reading.unreadable(e, data)) is not None:
            raise problem from None
        raise
    say("sessions, folds, days and pairs")
    said = (
        config.data.synthetic_time
        if config.data.synthetic_time is not None
        else inputs.dataset_facts(data).get("synthetic_time")
    )
    derived = derive(draft, scratch, found.known, found.n_items, config, said)
    say(describe(derived.cuts) + (" (synthetic clock: only the order counts)" if derived.synthetic_time else ""))
    return {
        "cuts": asdict(derived.cuts),
        "window": {"start": derived.cuts.start, "end": derived.cuts.end},
        "synthetic_time": derived.synthetic_time,
        "repeat_share": derived.repeat_share,
        "counts": found.counts | derived.counts,
        "rejected": found.rejected,
        "events_by_type": events_by_type(draft / "events"),
        "profile": found.profile,
    }
