"""Holds the protos against `proto/published.txt`: what callers were built with goes on working.

    python -m tools.protocheck            says what would break them, and what is new
    python -m tools.protocheck --accept   takes up what is new; refuses what breaks

Each line there is one thing that callers rely on: a method with its types, a field with its number, name and type, a value of an enum. None may
go or change; new ones are taken up when they are released. Lines are sorted, so that two branches that add some merge.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from tools.protos import ROOT, described

PUBLISHED = "proto/published.txt"
_FIX = "python -m tools.protocheck --accept"


def surface(files: list[FileDescriptorProto]) -> dict[str, str]:
    """What callers rely on: thing -> what it is. A field is named by its number, so that another one with it is seen."""
    found: dict[str, str] = {}
    for file in files:
        for service in file.service:
            for method in service.method:
                kinds = ("stream " * method.client_streaming, "stream " * method.server_streaming)
                said = f"{kinds[0]}{method.input_type[1:]} -> {kinds[1]}{method.output_type[1:]}"
                found[f"rpc {file.package}.{service.name}.{method.name}"] = said
        for message in file.message_type:
            found.update(_message(f"{file.package}.{message.name}", message))
        for enum in file.enum_type:
            found.update(_enum(f"{file.package}.{enum.name}", enum))
    return found


def breaks(published: dict[str, str], now: dict[str, str]) -> list[str]:
    """What would break callers, one line each: where, what, and how to mend it."""
    return [f"{thing}: {_mend(thing, was, now)}" for thing, was in published.items() if now.get(thing) != was]


def _mend(thing: str, was: str, now: dict[str, str]) -> str:
    is_now = now.get(thing)
    if is_now is not None:
        return f"was `{was}`, is `{is_now}`: put it back, and give what is new a number of its own"
    if thing.startswith("field"):
        moved = next((t for t, what in now.items() if what == was and t.split()[1] == thing.split()[1]), None)
        if moved is not None:
            return f"`{was}` has another number now ({moved.split()[-1]}): give it its own back"
        return f"`{was}` is gone: put it back with `[deprecated = true]`, and ignore it"
    return f"`{was}` is gone: put it back; it may answer as before, marked `deprecated`"


def read(path: Path) -> dict[str, str]:
    """What is published."""
    lines = path.read_text().splitlines() if path.exists() else []
    return dict(line.split(": ", 1) for line in lines if line)


def write(path: Path, things: dict[str, str]) -> None:
    """Publish."""
    path.write_text("".join(f"{thing}: {things[thing]}\n" for thing in sorted(things, key=_place)))


def _place(thing: str) -> tuple[str, int]:
    """Fields and values by their numbers."""
    kind, name, *number = thing.split()
    return f"{kind} {name}", int(*number or "0")


def _message(name: str, message: DescriptorProto) -> Iterator[tuple[str, str]]:
    maps = {f".{name}.{n.name}": n for n in message.nested_type if n.options.map_entry}
    for field in message.field:
        yield f"field {name} {field.number}", f"{field.name} {type_of(field, maps)}"
    for nested in message.nested_type:
        if not nested.options.map_entry:
            yield from _message(f"{name}.{nested.name}", nested)
    for enum in message.enum_type:
        yield from _enum(f"{name}.{enum.name}", enum)


def _enum(name: str, enum: EnumDescriptorProto) -> Iterator[tuple[str, str]]:
    return ((f"value {name} {value.number}", value.name) for value in enum.value)


def type_of(field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> str:
    """A field's type as its proto says it."""
    if field.type_name in maps:
        key, value = maps[field.type_name].field
        return f"map<{type_of(key, {})}, {type_of(value, {})}>"
    plain = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    name = field.type_name.removeprefix(".") or plain
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {name}"
    return f"optional {name}" if field.proto3_optional else name


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """0: nothing breaks, and nothing is new."""
    parser = argparse.ArgumentParser(description="Do callers that were built with the published protos go on working?")
    parser.add_argument("--accept", action="store_true", help=f"write what is new into {PUBLISHED}")
    accept, path = parser.parse_args(arguments).accept, root / PUBLISHED
    published, now = read(path), surface(described(root))
    broken = breaks(published, now)
    new = sorted(now.keys() - published.keys(), key=_place)
    for line in broken:
        print(f"breaks callers: {line}")
    for thing in new:
        print(f"new: {thing}: {now[thing]}")
    if broken or not new:
        return 1 if broken else 0
    if accept:
        write(path, now)
        return 0
    print(f"{PUBLISHED} lacks what is new: {_FIX}")
    return 1


if __name__ == "__main__":
    sys.exit(main())
