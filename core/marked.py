"""YAML that remembers the line of every key and list entry, so that an error can name it, and what pydantic finds in it as one such line."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, get_args

import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from core.errors import ConfigError, nearest

SUFFIXES: Final = (".yaml", ".yml")
Place = tuple[str | int, ...]  # keys and positions from the top
_TIMESTAMP: Final = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """As the safe loader, but times stay texts: the rules say in which time zone they are."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


@dataclass(frozen=True)
class Marked:
    """Plain values, and the line of each place in them."""

    path: Path
    values: Any
    lines: dict[Place, int]

    def line(self, place: Place) -> int:
        """Of a place, or of the nearest one above it that the file has."""
        while place not in self.lines:
            place = place[:-1]
        return self.lines[place]

    def problem(self, place: Place, text: str) -> ConfigError:
        """What is wrong at a place, with its file and line."""
        return ConfigError(f"{self.path}:{self.line(place)}: {text}")

    def explained(self, place: Place, who: str, model: type[BaseModel], problem: ErrorDetails) -> ConfigError:
        """A problem that pydantic found with the values at `place`, which `model` should read; `who` begins the line."""
        at: Place = problem["loc"]
        key = ".".join(str(part + 1 if isinstance(part, int) else part) for part in at)
        match problem["type"]:
            case "extra_forbidden":
                keys = [field.alias or name for name, field in _within(model, at).model_fields.items()]
                return self.problem((*place, *at), f"{who}unknown key {key!r}; {nearest(str(at[-1]), keys)}")
            case "missing":
                return self.problem((*place, *at[:-1]), f"{who}missing key {key!r}")
        text = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "string_type" and isinstance(problem["input"], int | float):
            text = "expected a text; write it in quotes"
        got = "" if isinstance(problem["input"], dict) else f" (got {problem['input']!r})"
        return self.problem((*place, *at), f"{who}{key + ': ' if key else ''}{text}{got}")


def read_marked(path: Path) -> Marked:
    """One YAML document.

    Raises:
        ConfigError: It is not readable, holds a key twice, or an alias.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
    except OSError as e:
        raise ConfigError(f"{path}: cannot be read: {e.strerror or e}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as e:
        mark = getattr(e, "problem_mark", None)
        where = f":{mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(e, "problem", None) or e).split())
        raise ConfigError(f"{path}{where}: not valid YAML: {problem}") from None
    lines: dict[Place, int] = {(): 1}
    values = None if root is None else _plain(root, (), lines, loader, path, set())
    return Marked(path, values, lines)


def _plain(
    node: yaml.Node, place: Place, lines: dict[Place, int], loader: yaml.SafeLoader, path: Path, seen: set[int]
) -> Any:
    line = node.start_mark.line + 1
    lines.setdefault(place, line)
    if id(node) in seen:
        raise ConfigError(f"{path}:{line}: anchors and aliases (&, *) are not read here; write the value out")
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        return [_plain(n, (*place, at), lines, loader, path, seen) for at, n in enumerate(node.value)]
    if not isinstance(node, yaml.MappingNode):
        try:
            return loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as e:
            raise ConfigError(f"{path}:{line}: not a value that can be read: {' '.join(str(e).split())}") from None
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, at = str(key_node.value), key_node.start_mark.line + 1
        if key in values:
            raise ConfigError(f"{path}:{at}: key {key!r} is there twice, first in line {lines[(*place, key)]}")
        lines[(*place, key)] = at
        values[key] = _plain(value_node, (*place, key), lines, loader, path, seen)
    return values


def type_name(value: Any) -> str:
    """Of a value of a file, for people."""
    names = {str: "text", list: "list", dict: "mapping", bool: "boolean", int: "number", float: "number"}
    return names.get(type(value), type(value).__name__)


def yaml_files(folder: Path) -> list[Path]:
    """The YAML files of a folder that are not hidden, by name."""
    return sorted(p for p in folder.iterdir() if p.suffix in SUFFIXES and p.is_file() and not p.name.startswith("."))


def signature(folder: Path) -> str:
    """Changes when one of its YAML files does."""
    try:
        facts = [(p.name, (s := p.stat()).st_ino, s.st_size, s.st_mtime_ns) for p in yaml_files(folder)]
    except OSError as e:
        return f"unreadable: {e}"
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _within(model: type[BaseModel], at: Place) -> type[BaseModel]:
    """The model that reads the mapping which holds the key at the end of `at`."""
    for part in at[:-1]:
        field = model.model_fields.get(str(part))
        inner = None if field is None else next(_models(field.annotation), None)
        if inner is not None:
            model = inner
    return model


def _models(annotation: Any) -> Any:
    """The models that a type speaks of: `A`, `A | None`, `tuple[A, ...]`, `dict[str, A]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
