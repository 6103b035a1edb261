"""Reads a folder of rule files. Every problem is one line: the file, the line, what is wrong, and the nearest thing that would be right."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from core.artifact import hash_json
from core.errors import ConfigError, NotFoundError, nearest
from serving.rules.marked import Marked, Place, read_marked
from serving.rules.schema import KINDS, RuleSpec

SUFFIXES: Final = (".yaml", ".yml")
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
    paths = rule_files(folder)
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


def rule_files(folder: Path) -> list[Path]:
    """The files that are read, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file() and not p.name.startswith("."))


def signature(folder: Path) -> str:
    """Changes when a file does."""
    try:
        facts = [(p.name, (s := p.stat()).st_ino, s.st_size, s.st_mtime_ns) for p in rule_files(folder)]
    except OSError as e:
        return f"unreadable: {e}"
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _rules_of(file: Marked) -> list[Rule]:
    values = file.values
    if values is None:
        return []
    if not isinstance(values, dict):
        raise _problem(file, (), f"holds a {_type(values)}, expected a mapping with the key {_TOP!r}")
    for key in values:
        if key != _TOP:
            raise _problem(file, (key,), f"unknown key {key!r}; {nearest(key, [_TOP])}")
    listed = values.get(_TOP)
    if listed is None:
        return []
    if not isinstance(listed, list):
        raise _problem(file, (_TOP,), f"{_TOP!r} holds a {_type(listed)}, expected a list of rules")
    return [_rule(file, at, entry) for at, entry in enumerate(listed)]


def _rule(file: Marked, at: int, entry: Any) -> Rule:
    place: Place = (_TOP, at)
    if not isinstance(entry, dict):
        raise _problem(file, place, f"holds a {_type(entry)}, expected a rule: keys such as name, kind, where")
    who = f"rule {entry['name']!r}: " if isinstance(entry.get("name"), str) else f"rule {at + 1}: "
    if "kind" not in entry:
        raise _problem(file, place, f"{who}missing key 'kind'; one of: {', '.join(KINDS)}")
    kind = entry["kind"]
    if kind not in KINDS:
        raise _problem(file, (*place, "kind"), f"{who}unknown kind {kind!r}; {nearest(str(kind), KINDS)}")
    try:
        spec = KINDS[kind].model_validate(entry)
    except ValidationError as e:
        raise _explained(file, place, who, KINDS[kind], e.errors()[0]) from None
    return Rule(spec, file.path.name, file.line(place), *spec.in_force)


def _explained(file: Marked, place: Place, who: str, model: type[RuleSpec], problem: ErrorDetails) -> ConfigError:
    """The first problem that pydantic found, as a line."""
    at: Place = problem["loc"]
    key = ".".join(str(part + 1 if isinstance(part, int) else part) for part in at)
    match problem["type"]:
        case "extra_forbidden":
            return _problem(file, (*place, *at), f"{who}unknown key {key!r}; {nearest(key, _keys(model))}")
        case "missing":
            return _problem(file, place, f"{who}missing key {key!r}")
    text = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "string_type" and isinstance(problem["input"], int | float):
        text = "expected a text; write it in quotes"
    got = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
    return _problem(file, (*place, *at), f"{who}{key + ': ' if key else ''}{text}{got}")


def _keys(model: type[RuleSpec]) -> Sequence[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _problem(file: Marked, place: Place, text: str) -> ConfigError:
    return ConfigError(f"{file.path}:{file.line(place)}: {text}")


def _type(value: Any) -> str:
    names = {str: "text", list: "list", dict: "mapping", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), type(value).__name__)
