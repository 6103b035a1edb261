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
from core.columns import Columns
from core.config import PipelineConfig
from core.errors import InputError
from core.ids import IdMap
from core.prepared import FORMAT_VERSION, KIND
from core.recipe import MADE_FROM, Recipe, fingerprint
from core.schema import EVENTS, ITEMS, USERS
from core.work import Work
from data_prep import inputs, inventory, profiles, reading, spark
from data_prep.catalog import CatalogLog
from data_prep.cuts import describe
from data_prep.derive import ClockChangedError, Since, derive, events_by_type
from data_prep.inventory import Carried, InputFile, Inputs, Night
from data_prep.repeats import ReopenError
from data_prep.rows import CannotCarryError, Job, Say, rows_from

STAGE: Final = "prepare"
_SETTINGS: Final = "settings and code"
_SMALL: Final = 32 << 20  # bytes of input, about a million events in Parquet


def run(
    data: Path, work: Work, config: PipelineConfig, say: Say, *, full: bool = False, catalog: Path | None = None
) -> Path:
    """Prepare `data`; the path of the prepared artifact, at once where it is there already. The caller holds the work directory's lock.

    Args:
        data: The data directory.
        work: Where the artifact goes; what the last night left there is carried over as far as it still holds.
        config: The settings.
        say: Prints a line of progress.
        full: Read every file, whatever is there; the id maps are continued all the same.
        catalog: Folder of the live catalog's log; None: there is none.

    Raises:
        InputError: The data cannot be prepared; nothing was changed.
        ArtifactError: The log is damaged.
    """
    if not data.is_dir():
        raise InputError(f"{data}: no such directory, expected a data directory with events/ (and items/, users/)")
    latest, carried, files, log, made_from = _seen(data, work, config, catalog)
    wanted = fingerprint(made_from)
    if latest is not None and not full and read_manifest(latest).about["inputs"] == wanted:
        return latest
    base = _base(work)
    night = _night(latest, carried, inventory.inputs_of(files, made_from[_SETTINGS]), full, say)
    # another night before may leave other decimals of the same sums
    id = hash_json([wanted, base, latest.name if latest is not None and (full or night.before) else None, full])[:16]
    path = work.stage(STAGE, id)
    atomic.sweep(path.parent) if path.parent.exists() else None
    if not path.exists():
        with publish(path, kind=KIND, format_version=FORMAT_VERSION, id=id) as draft:
            draft.parents["ids"] = base
            draft.about |= _prepare(data, draft.path, path.parent, _maps(work), config, say, night, log)
            draft.about |= log.facts | {"inputs": wanted, MADE_FROM: made_from}
    work.set_latest(STAGE, id)
    return path


def recipe(data: Path, work: Work, config: PipelineConfig, catalog: Path | None = None) -> Recipe:
    """What `run` would make the artifact from; arguments as there."""
    return _seen(data, work, config, catalog)[-1]


def _seen(
    data: Path, work: Work, config: PipelineConfig, catalog: Path | None
) -> tuple[Path | None, Carried | None, list[InputFile], CatalogLog, dict[str, str]]:
    """The last artifact, what it carries over, tonight's files and log of the catalog, and the recipe that these make."""
    latest = work.latest(STAGE) if work.has(STAGE) else None
    carried = Carried.open(latest) if latest is not None else None
    files = inventory.look(data, carried.files if carried else {})
    log = CatalogLog.read(catalog, data, files)
    parts = {
        "data": inventory.fingerprint(data, files),
        _SETTINGS: _settings(data, config),
        "live catalog": log.fingerprint(),
    }
    return latest, carried, files, log, parts


def _settings(data: Path, config: PipelineConfig) -> str:
    """Hash of all that decides what becomes of the same files: what was carried over under another one is of no use."""
    sections = (config.data, config.time, config.pairs)
    return hash_json(
        [[s.fingerprint() for s in sections], inputs.dataset_facts(data), code_version("core", "data_prep")]
    )


def _night(latest: Path | None, carried: Carried | None, inputs: Inputs, full: bool, say: Say) -> Night:
    """What is read and what is carried over, said in a line."""
    everything = inventory.first(inputs)
    if latest is None:
        return everything
    if full:
        say("reading every file, as asked")
        return everything
    if carried is None:
        say("reading every file: the last prepared data set carries nothing over")
        return everything
    if carried.settings != inputs.settings:
        say("reading every file: the settings, the code or dataset.yaml changed")
        return everything
    rows = {Columns.open(latest / name).rows for name in ("events", "carried/events")}
    if rows != {carried.events}:
        say("reading every file: events were taken out of the last prepared data set")
        return everything
    night = inventory.following(latest, carried, inputs)
    if night.read == inputs.events.keys():
        say("reading every file: each is new or changed")
        return everything
    gone = len(carried.files.keys() - inputs.events.keys())
    say(
        f"reading {len(night.read)} of {len(inputs.events)} event files that are new or changed"
        + (f"; {gone} are gone" if gone else "")
    )
    return night


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
    data: Path,
    draft: Path,
    folder: Path,
    maps: tuple[IdMap, IdMap],
    config: PipelineConfig,
    say: Say,
    night: Night,
    log: CatalogLog,
) -> dict[str, Any]:
    """Write the artifact's files; its `about`. What turns out not to hold any more is read again."""
    if not night.inputs.events:
        raise InputError(
            f"{data / EVENTS.table}: no event files; expected Parquet, CSV or JSON-lines, plain or in day folders"
        )
    while True:
        try:
            with _scratch(folder) as scratch:
                return _attempt(data, draft, scratch, maps, config, say, night, log)
        except ReopenError as e:
            names = frozenset(name for name, code in night.codes.items() if code in e.codes)
            say(f"reading {len(names)} more files: {e}")
            night = night.reading(names)
        except (CannotCarryError, ClockChangedError) as e:
            say(f"reading every file: {e}")
            night = inventory.first(night.inputs)
        if night.read == night.inputs.events.keys():
            night = inventory.first(night.inputs)
        for entry in draft.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def _attempt(
    data: Path,
    draft: Path,
    scratch: Path,
    maps: tuple[IdMap, IdMap],
    config: PipelineConfig,
    say: Say,
    night: Night,
    log: CatalogLog,
) -> dict[str, Any]:
    groups = {c.table: inputs.groups(data, c, say, night.read if c is EVENTS else None) for c in (EVENTS, ITEMS, USERS)}
    read = sum((data / name).stat().st_size for name in night.read)
    try:
        with spark.session(scratch / "spill", small=read < _SMALL) as session:
            found = rows_from(Job(session, data, draft, scratch, config, say, log), groups, maps, night)
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
    since = Since(found.change, night.carried) if found.change is not None and night.carried is not None else None
    derived = derive(draft, scratch, found.known, found.n_items, config, said, since)
    say(describe(derived.cuts) + (" (synthetic clock: only the order counts)" if derived.synthetic_time else ""))
    Carried(
        settings=night.inputs.settings,
        tables=night.inputs.tables,
        files=night.inputs.events,
        codes=night.codes,
        facts=found.facts,
        natural=found.natural,
        synthetic_time=derived.synthetic_time,
        newest=derived.cuts.end - 1,
        events=found.counts["events"],
    ).write(draft)
    profiles.store(draft, synthetic_time=derived.synthetic_time)
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
