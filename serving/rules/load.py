"""Reads a folder of rule files. Every problem is one line: the file, the line, what is wrong, and the nearest thing that would be right."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from core.artifact import hash_json
from core.errors import ConfigError, NotFoundError, nearest
from core.marked import Marked, Place, read_marked, type_name, yaml_files
from serving.rules.schema import KINDS, RuleSpec

_MOST_RULES: Final = 1_000
_TOP: Final = "rules"


@dataclass(frozen=True)
class Rule:
    """A rule and where it is written."""

    spec: RuleSpec
    file: str  # within the folder; empty: a request brought it (serving.rules.requested)
    line: int
    since: float  # microseconds
    until: float

    @property
    def name(self) -> str:
        """As its file calls it."""
        return self.spec.name

    @property
    def place(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"

    def __str__(self) -> str:
        """For people."""
        if not self.file:
            return f"{self.name!r} of the request"
        return f"rule {self.name!r} of file {self.file}, line {self.line}"

    def holds(self, placement: str, now: int) -> bool:
        """Whether it is in force."""
        spec = self.spec
        return (
            spec.enabled
            and self.since <= now < self.until
            and (not spec.placements or any(fnmatchcase(placement, p) for p in spec.placements))
        )


@dataclass(frozen=True)
class RuleSet:
    """The rules of a folder: higher priorities first, then by file name, then as written. `id` is a hash of what they say."""

    rules: tuple[Rule, ...] = ()
    id: str = ""
    files: int = 0


def load_rules(folder: Path) -> RuleSet:
    """Read every `*.yaml` of a folder (not of those below).

    Raises:
        ConfigError: A file does not fit.
        NotFoundError: There is no such folder.
    """
    if not folder.is_dir():
        raise NotFoundError(f"{folder}: no such folder of rules")
    paths = yaml_files(folder)
    rules: list[Rule] = []
    for path in paths:
        rules += _rules_of(read_marked(path))
    named: dict[str, Rule] = {}
    for rule in rules:
        if (first := named.setdefault(rule.name, rule)) is not rule:
            raise ConfigError(f"{folder / rule.file}:{rule.line}: name {rule.name!r} is taken by {first.place}")
    if len(rules) > _MOST_RULES:
        raise ConfigError(f"{folder}: {len(rules)} rules, at most {_MOST_RULES} are read")
    ordered = sorted(rules, key=lambda r: -r.spec.priority)  # stable: files by name, rules as written
    said = [[r.file, r.spec.model_dump(mode="json")] for r in ordered]
    return RuleSet(tuple(ordered), hash_json(said)[:12] if ordered else "", len(paths))


def _rules_of(file: Marked) -> list[Rule]:
    values = file.values
    if values is None:
        return []
    if not isinstance(values, dict):
        raise file.problem((), f"holds a {type_name(values)}, expected a mapping with the key {_TOP!r}")
    for key in values:
        if key != _TOP:
            raise file.problem((key,), f"unknown key {key!r}; {nearest(key, [_TOP])}")
    listed = values.get(_TOP)
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise file.problem((_TOP,), f"{_TOP!r} holds a {type_name(listed)}, expected a list of rules")
    return [_rule(file, at, entry) for at, entry in enumerate(listed)]


def _rule(file: Marked, at: int, entry: Any) -> Rule:
    place: Place = (_TOP, at)
    if not isinstance(entry, dict):
        raise file.problem(place, f"holds a {type_name(entry)}, expected a rule: keys such as name, kind, where")
    who = f"rule {entry['name']!r}: " if isinstance(entry.get("name"), str) else f"rule {at + 1}: "
    if "kind" not in entry:
        raise file.problem(place, f"{who}missing key 'kind'; one of: {', '.join(KINDS)}")
    kind = entry["kind"]
    if kind not in KINDS:
        raise file.problem((*place, "kind"), f"{who}unknown kind {kind!r}; {nearest(str(kind), KINDS)}")
    try:
        spec = KINDS[kind].model_validate(entry)
    except ValidationError as e:
        raise file.explained(place, who, KINDS[kind], e.errors()[0]) from None
    return Rule(spec, file.path.name, file.line(place), *spec.in_force)
