"""Which input files there are, and which of them are as the night before left them.

A night reads the event files that are new or changed. Every other file's rows come from the carried state of the last prepared data
set; a file that is gone or changed takes its rows with it, by its code.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from core.artifact import hash_json, sha256
from core.schema import Table
from data_prep.inputs import dataset_facts, table_files

STATE: Final = "carried/state.json"  # in a prepared data set
_HASHED_BYTES: Final = 256 << 20  # up to this much input is told apart by content, more by size and modification time


@dataclass(frozen=True)
class InputFile:
    """A file's name relative to the data directory, its bytes, and what must stay the same: a hash or the modification time."""

    name: str
    size: int
    identity: str


@dataclass(frozen=True)
class Carried:
    """What one night tells the next about itself.

    `settings` is a hash of all that decides how files are read, `tables` of the files of each other table; `files` are the event files
    with their `codes` (in `carried/events`) and their `facts` (data_prep.tally); `natural` whether equal rows without event_id were taken
    for resends; `newest` the event that ages of pairs count from; `events` the rows of `events/`.
    """

    settings: str
    tables: dict[str, str]
    files: dict[str, InputFile]
    codes: dict[str, int]
    facts: dict[str, dict[str, Any]]
    natural: bool
    synthetic_time: bool
    newest: int
    events: int

    def write(self, artifact: Path) -> None:
        """Write into a draft."""
        (artifact / STATE).parent.mkdir(exist_ok=True)
        (artifact / STATE).write_text(json.dumps(asdict(self), sort_keys=True) + "\n")

    @classmethod
    def open(cls, artifact: Path) -> Carried | None:
        """What the artifact carries, None if nothing, or nothing that this version of Aisle understands."""
        try:
            state = json.loads((artifact / STATE).read_bytes())
            return cls(**state | {"files": {name: InputFile(**f) for name, f in state["files"].items()}})
        except (FileNotFoundError, KeyError, TypeError):
            return None


@dataclass(frozen=True)
class Inputs:
    """What there is: event files by name, and hashes of the settings and of the files of the other tables."""

    settings: str
    events: dict[str, InputFile]
    tables: dict[str, str]


@dataclass(frozen=True)
class Night:
    """What this run reads and what it takes over.

    `codes` names every event file there is; `read` those that are read now; `before` is the prepared data set that the rows of the
    others come from (None: there are no others) and `closed` are their codes.
    """

    codes: dict[str, int]
    read: frozenset[str]
    before: Path | None
    carried: Carried | None
    inputs: Inputs

    @property
    def closed(self) -> list[int]:
        """Codes of the files that are not read."""
        return sorted(c for name, c in self.codes.items() if name not in self.read)

    def same(self, table: str) -> bool:
        """Whether the files of a table other than events are those of the night before."""
        return self.carried is not None and self.carried.tables[table] == self.inputs.tables[table]

    def reading(self, names: frozenset[str]) -> Night:
        """The same night with some more files read."""
        fresh = 1 + max([*self.codes.values(), *(self.carried.codes.values() if self.carried else ())])
        codes = self.codes | {name: fresh + i for i, name in enumerate(sorted(names - self.read))}
        return Night(codes, self.read | names, self.before, self.carried, self.inputs)


def look(data: Path, known: Mapping[str, InputFile]) -> list[InputFile]:
    """Every input file, sorted by table and name; a file of `known` is told apart in the way it was before."""
    paths = {str(f.relative_to(data)): f for t in Table for f in table_files(data, t)}
    by_content = sum(f.stat().st_size for f in paths.values()) <= _HASHED_BYTES
    found = []
    for name, path in paths.items():
        stat, before = path.stat(), known.get(name)
        same_size = before is not None and before.size == stat.st_size
        hashed = before.identity.startswith("sha256:") if before is not None and same_size else by_content
        identity = f"sha256:{sha256(path)}" if hashed else f"mtime:{stat.st_mtime_ns}"
        found.append(InputFile(name, stat.st_size, identity))
    return found


def fingerprint(data: Path, files: list[InputFile]) -> str:
    """Hex sha256 that changes when an input file, or what is said about the data, does."""
    return hash_json([[[f.name, f.size, f.identity] for f in files], dataset_facts(data)])


def inputs_of(files: Iterable[InputFile], settings: str) -> Inputs:
    """The files by table."""
    tables: dict[str, dict[str, InputFile]] = {t.value: {} for t in Table}
    for f in files:
        tables[Path(f.name).parts[0]][f.name] = f
    events = tables.pop(Table.EVENTS)
    return Inputs(settings, events, {name: hash_json([asdict(f) for f in t.values()]) for name, t in tables.items()})


def first(inputs: Inputs) -> Night:
    """A night that reads everything."""
    return Night({name: i for i, name in enumerate(inputs.events)}, frozenset(inputs.events), None, None, inputs)


def following(before: Path, carried: Carried, inputs: Inputs) -> Night:
    """A night that reads the event files that are not in `carried` as they are now."""
    same = {name: carried.codes[name] for name, f in inputs.events.items() if carried.files.get(name) == f}
    fresh = 1 + max(carried.codes.values(), default=-1)
    new = [name for name in inputs.events if name not in same]
    codes = same | {name: fresh + i for i, name in enumerate(new)}
    return Night(codes, frozenset(new), before, carried, inputs)
