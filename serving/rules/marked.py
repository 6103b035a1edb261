"""YAML that remembers the line of every key and list entry, so that an error can name it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from core.errors import ConfigError

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


def read_marked(path: Path) -> Marked:
    """One YAML document.

    Raises:
        ConfigError: It is not readable, holds a key twice, or an alias.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
        root = loader.get_single_node()
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as e:
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
