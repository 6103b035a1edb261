"""Writes docs/api.md from the protos and their comments.

python -m tools.apidocs           writes it
python -m tools.apidocs --check   fails if it is stale
"""

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto

from tools.protocheck import type_of
from tools.protos import ROOT, described

PAGE = "docs/api.md"
# Numbers of the fields of descriptor.proto: the paths by which comments are found.
_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
_SYNTAX = 12
_FIELD, _NESTED, _NESTED_ENUM = 2, 3, 4
_METHOD = _VALUE = 2
_HEAD = """# The API

Written by `.venv/bin/python -m tools.apidocs` from [`proto/aisle/v1`](../proto/aisle/v1). [client.md](client.md) has the Python client, [paging.md](paging.md)
lists of several pages. A running server describes itself by gRPC reflection, and answers `grpc.health.v1`.
"""

_Path = tuple[int, ...]


def page(root: Path = ROOT) -> str:
    """The whole page."""
    files = sorted(described(root), key=lambda f: (not f.name.endswith("recommender.proto"), f.name))
    return "\n".join([_HEAD, *_contents(files), *(line for file in files for line in _file(file))])


def _contents(files: list[FileDescriptorProto]) -> Iterator[str]:
    for file in files:
        for service in file.service:
            calls = ", ".join(f"[{m.name}](#{m.input_type.split('.')[-1].lower()})" for m in service.method)
            yield f"- [{file.package}.{service.name}](#{_anchor(f'{file.package}.{service.name}')}): {calls}"
    yield ""


def _file(file: FileDescriptorProto) -> Iterator[str]:
    said = {tuple(at.path): at for at in file.source_code_info.location}
    comments = {path: _text(at.leading_comments) for path, at in said.items()}
    for n, service in enumerate(file.service):
        yield f"## {file.package}.{service.name}\n"
        head = said.get((_SYNTAX,))
        if n == 0 and head is not None:
            yield _text(head.leading_comments) + "\n"
        yield from _said(comments, (_SERVICE, n))
        for m, method in enumerate(service.method):
            asked, answered = (t.split(".")[-1] for t in (method.input_type, method.output_type))
            yield f"**{method.name}**([{asked}](#{asked.lower()})) → [{answered}](#{answered.lower()})\n"
            yield from _said(comments, (_SERVICE, n, _METHOD, m))
    for n, message in enumerate(file.message_type):
        yield from _message(file.package, message.name, message, (_MESSAGE, n), comments)
    for n, enum in enumerate(file.enum_type):
        yield from _enum(enum.name, enum, (_ENUM, n), comments)


def _message(
    package: str, name: str, message: DescriptorProto, path: _Path, comments: Mapping[_Path, str]
) -> Iterator[str]:
    yield f"### {name}\n"
    yield from _said(comments, path)
    maps = {f".{package}.{name}.{n.name}": n for n in message.nested_type if n.options.map_entry}
    rows = []
    for n, field in enumerate(message.field):
        kind = type_of(field, maps).replace(f"{package}.", "")
        rows.append((f"`{field.name}`", f"`{kind} = {field.number}`", comments.get((*path, _FIELD, n), "")))
    yield from _table(("field", "type", "meaning"), rows)
    for n, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            yield from _message(package, f"{name}.{nested.name}", nested, (*path, _NESTED, n), comments)
    for n, enum in enumerate(message.enum_type):
        yield from _enum(f"{name}.{enum.name}", enum, (*path, _NESTED_ENUM, n), comments)


def _enum(name: str, enum: EnumDescriptorProto, path: _Path, comments: Mapping[_Path, str]) -> Iterator[str]:
    yield f"### {name}\n"
    yield from _said(comments, path)
    values = [(f"`{v.name}`", str(v.number), comments.get((*path, _VALUE, n), "")) for n, v in enumerate(enum.value)]
    yield from _table(("value", "number", "meaning"), values)


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    if not rows:
        yield "No fields.\n"
        return
    for row in (head, ("---",) * len(head), *rows):
        yield (
            "| "
            + " | ".join(cell.replace("|", "\\|").replace("\n\n", "<br>").replace("\n", " ") for cell in row)
            + " |"
        )
    yield ""


def _said(comments: Mapping[_Path, str], path: _Path) -> Iterator[str]:
    if comments.get(path):
        yield comments[path] + "\n"


def _text(comment: str) -> str:
    """Without the space after each `//`."""
    return "\n".join(line.removeprefix(" ") for line in comment.strip("\n").split("\n")).strip()


def _anchor(heading: str) -> str:
    return heading.lower().replace(".", "")


def main(arguments: list[str] | None = None, root: Path = ROOT) -> int:
    """0: the page is as the protos are."""
    parser = argparse.ArgumentParser(description=f"Writes {PAGE} from the protos.")
    parser.add_argument("--check", action="store_true", help="only say whether it is stale")
    check, path, text = parser.parse_args(arguments).check, root / PAGE, page(root)
    if path.exists() and path.read_text() == text:
        return 0
    if check:
        print(f"stale: {PAGE}: run .venv/bin/python -m tools.apidocs")
        return 1
    path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
