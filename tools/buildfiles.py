"""Writes every folder's BUILD.bazel from the imports of its modules: one small target a module, one a test file.

    python -m tools.buildfiles           writes what is stale
    python -m tools.buildfiles --check   only lists it, and fails if there is any

A module states what its imports cannot say in a comment at the start of a line:

    # bazel: data=[//configs:all_files], imports=[cli.commands.*]
    # bazel: size=medium, timeout=long, tags=[exclusive]            (tests only)

Visibility comes from tools/layers.py. A folder without Python files is data: its BUILD.bazel has `all_files` and no more,
and the folders below belong to it.
"""

import argparse
import functools
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tools.imports import exists, imports, is_ignored, is_ours, modules, parents
from tools.layers import FOLDERS, importers, matches

ROOT = Path(__file__).parents[1]
HEADER = "# Written by `./.venv/bin/python -m tools.buildfiles` from the imports.\n"
_DIRECTIVE = re.compile(r"^# bazel: (.+)$", re.MULTILINE)
_OPTION = re.compile(r"(\w+)=(?:\[([^\]]*)\]|([^,\s]+))(?:,\s*|$)")
_EVERYWHERE = ("data", "imports")
_TESTS_ONLY = ("size", "timeout", "tags", "shard_count")

Value = str | Sequence[str]


class BuildError(Exception):
    """A directive that cannot be read; the text is one line."""


def problems(root: Path) -> Iterator[str]:
    """What is wrong with the imports, one line each: modules of ours that do not exist, and circles."""
    known = modules(root)
    graph = {}
    for name, path in known.items():
        if path.suffix == ".py":
            graph[name] = _own_imports(name, known)
            for item in imports(name, known):
                if is_ours(item.module) and not exists(item.module, known):
                    yield f"{path.relative_to(root)}:{item.line}: imports {item.module}, which does not exist"
    yield from _circles(graph)


def build_files(root: Path) -> dict[Path, str]:
    """Path -> text of every generated BUILD.bazel."""
    known = modules(root)
    graph = {name: _own_imports(name, known) for name in known if known[name].suffix == ".py"}
    packages = _packages(root, known)
    files = {}
    for package in packages:
        targets = [_target(name, known, graph, root) for name in graph if known[name].parent == package]
        files[package / "BUILD.bazel"] = _package_text(package.relative_to(root), targets)
    files[root / "proto" / "BUILD.bazel"] = _proto_text(root)
    files[root / "BUILD.bazel"] = _root_text(sorted(str(p.parent.relative_to(root)) for p in files))
    return files


def label(path: Path, root: Path) -> str:
    """The Bazel target of a module's source."""
    package = "proto" if path.suffix == ".proto" else path.parent.relative_to(root)
    return f"//{package}:{path.stem}"


# --- what depends on what ------------------------------------------------------------------------------------------


def _own_imports(name: str, known: Mapping[str, Path]) -> set[str]:
    found = set()
    for item in imports(name, known):
        if is_ours(item.module):
            found |= {m for m in (item.module, *_implied(item.module, known)) if m in known}
    for pattern in _directives(known[name]).get("imports", ()):
        found |= {m for m in known if matches(m, pattern)}
    found |= _implied(name, known)
    if _is_test(known[name]):  # pytest loads the conftest.py of every folder above
        parts = name.split(".")
        found |= {c for i in range(1, len(parts)) if (c := ".".join([*parts[:i], "conftest"])) in known}
    return found - {name}


def _implied(module: str, known: Mapping[str, Path]) -> set[str]:
    """The packages that importing a module runs first.

    Less those that import their own modules in turn: under Bazel they are there for whoever names them, and for the
    others the folder is a package without `__init__.py`.
    """
    return {
        package
        for package in parents(module, known)
        if not any(matches(item.module, f"{package}.*") for item in imports(package, known))
    }


def _circles(graph: Mapping[str, set[str]]) -> Iterator[str]:
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> Iterator[str]:
        if name in path:
            chain = " -> ".join([*path[path.index(name) :], name])
            yield f"modules import each other in a circle: {chain}"
        elif name not in done:
            for child in sorted(graph.get(name, ())):
                yield from visit(child, (*path, name))
            done.add(name)

    for name in graph:
        yield from visit(name, ())


# --- directives ----------------------------------------------------------------------------------------------------


@functools.cache
def _directives(path: Path) -> dict[str, Value]:
    options: dict[str, Value] = {}
    for line in _DIRECTIVE.findall(path.read_text()):
        if _OPTION.sub("", line).strip():
            raise BuildError(
                f"{path}: cannot read '# bazel: {line}': expected key=value or key=[a, b], with commas between"
            )
        for key, many, one in _OPTION.findall(line):
            known = (*_EVERYWHERE, *_TESTS_ONLY) if _is_test(path) else _EVERYWHERE
            if key not in known:
                raise BuildError(f"{path}: unknown key in '# bazel: {key}=': expected one of {', '.join(known)}")
            options[key] = one or [v.strip() for v in many.split(",") if v.strip()]
    return options


# --- text ----------------------------------------------------------------------------------------------------------


def _packages(root: Path, known: Mapping[str, Path]) -> list[Path]:
    with_code = {p.parent for p in known.values() if p.suffix == ".py"}
    found = set(with_code)
    for folder in (*FOLDERS, "deploy", "docs"):
        for path in (root / folder).rglob("*"):
            if path.is_file() and path.name != "BUILD.bazel" and not is_ignored(path.relative_to(root)):
                found.add(_data_root(path.parent, root, with_code))
    return sorted(found)


def _data_root(folder: Path, root: Path, with_code: set[Path]) -> Path:
    """The topmost folder of a tree of data: all above it hold code (themselves or below)."""
    for above in [*reversed(folder.parents), folder]:
        holds_code = any(c == above or above in c.parents for c in with_code)
        if root in above.parents and not holds_code:
            return above
    return folder


def _target(name: str, known: Mapping[str, Path], graph: Mapping[str, set[str]], root: Path) -> tuple[str, str]:
    """(rule, text) of a module's target."""
    path = known[name]
    options = dict(_directives(path))
    options.pop("imports", None)
    package = path.parent.relative_to(root)
    deps = {re.sub(f"^//{package}:", ":", label(known[m], root)) for m in graph[name]}
    fields: dict[str, Value] = {"name": path.stem, "srcs": [path.name], **options, "deps": sorted(deps)}
    if _is_test(path):
        return "py_test", _call("py_test", fields)
    # Whoever may import a module of a package runs that package's __init__.py.
    inside = [m for m in known if matches(m, f"{name}.*")] if path.name == "__init__.py" else [name]
    if (visibility := _visibility(*inside)) != _visibility(".".join(package.parts)):
        fields["visibility"] = visibility
    return "py_library", _call("py_library", fields)


def _is_test(path: Path) -> bool:
    return path.name.startswith("test_")


def _visibility(*modules: str) -> list[str]:
    folders = {folder.replace("aisle", "proto") for module in modules for folder in importers(module)}
    return sorted(f"//{folder}:__subpackages__" for folder in folders)


def _package_text(folder: Path, targets: Sequence[tuple[str, str]]) -> str:
    parts = [HEADER]
    rules = sorted({rule for rule, _ in targets})
    if rules:
        parts.append(_call("load", ["//tools/bazel:defs.bzl", *rules], inline=True))
    if folder.parts[0] in FOLDERS:
        options: dict[str, Value] = {"default_visibility": _visibility(".".join(folder.parts))}
        if folder.parts[0] == "tests":
            options["default_testonly"] = "True"
        parts.append(_call("package", options))
    parts.append(_ALL_FILES)
    parts += [text for _, text in sorted(targets, key=lambda t: t[1])]
    return "\n".join(parts)


_ALL_FILES = """\
filegroup(
    name = "all_files",
    srcs = glob(["**"], exclude = ["**/__pycache__/**"]),
    visibility = ["//visibility:public"],
)
"""


def _proto_text(root: Path) -> str:
    stems = sorted(p.relative_to(root / "proto").with_suffix("").as_posix() for p in (root / "proto").rglob("*.proto"))
    loads = [_call("load", ["//tools/bazel:defs.bzl", "py_proto"], inline=True)] if stems else []
    package = _call("package", {"default_visibility": _visibility("aisle")})
    rules = [_call("py_proto", {"name": Path(s).name, "src": f"{s}.proto"}) for s in stems]
    return "\n".join([HEADER, *loads, package, _ALL_FILES, *rules])


def _root_text(packages: Sequence[str]) -> str:
    trees = "\n".join(f'        "//{p}:all_files",' for p in packages if p != "docs")
    return f"""{HEADER}
exports_files(["pytest.ini", "uv.lock"])

filegroup(
    name = "documents",
    srcs = glob(["*.md"]) + ["LICENSE"],
    visibility = ["//tests:__subpackages__"],
)

# The checkout as the tests of the ground see it: launcher, sources, BUILD files.
filegroup(
    name = "tree",
    testonly = True,
    srcs = [
        ".bazelignore",
        ".bazelrc",
        ".ci/run",
        "BUILD.bazel",
        "CONTRIBUTING.md",
        "LICENSE",
        "README.md",
        "WORKSPACE",
        "aisle",
        "conftest.py",
        "pyproject.toml",
        "pytest.ini",
        "uv.lock",
{trees}
    ],
    visibility = ["//tests:__subpackages__"],
)
"""


def _call(name: str, arguments: Mapping[str, Value] | Sequence[str], inline: bool = False) -> str:
    """One Starlark call."""
    if not isinstance(arguments, Mapping):
        return f"{name}({', '.join(_literal(a) for a in arguments)})\n"
    lines = [f"    {key} = {_literal(value)}," for key, value in arguments.items() if value]
    return "\n".join([f"{name}(", *lines, ")", ""])


def _literal(value: Value) -> str:
    if isinstance(value, str):
        return value if value == "True" or value.isdigit() else f'"{value}"'
    if len(value) == 1:
        return f'["{value[0]}"]'
    return "\n".join(["[", *(f'        "{v}",' for v in value), "    ]"])


# --- command -------------------------------------------------------------------------------------------------------


def stale(root: Path) -> Iterator[tuple[Path, str | None]]:
    """The BUILD files that differ from what they should be, with the right text (None: there should be none)."""
    wanted = build_files(root)
    for path, text in wanted.items():
        if not path.exists() or path.read_text() != text:
            yield path, text
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("BUILD.bazel")):
            if path not in wanted and not is_ignored(path.relative_to(root)):
                yield path, None


def main(arguments: Sequence[str] | None = None, root: Path = ROOT) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description="Writes the BUILD.bazel files from the imports.")
    parser.add_argument("--check", action="store_true", help="only list what is stale; exit 1 if there is any")
    check = parser.parse_args(arguments).check
    try:
        found, broken = list(stale(root)), list(problems(root))
    except BuildError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for problem in broken:
        print(f"error: {problem}", file=sys.stderr)
    for path, text in found:
        print(("stale: " if check else "wrote: " if text else "removed: ") + str(path.relative_to(root)))
        if check:
            continue
        if text is None:
            path.unlink()
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return 1 if broken or (check and found) else 0


if __name__ == "__main__":
    sys.exit(main())
