"""What our modules import, read from their source: for the BUILD files and for the layering test."""

import ast
import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.layers import FOLDERS

_HAND_WRITTEN = ("tools", "bazel")  # Bazel's own rules: neither modules nor data of ours


@dataclass(frozen=True)
class Import:
    """One imported name, as written (`a.b` or, for `from a import b`, `a.b` when that is a module)."""

    module: str
    line: int
    at_start: bool  # runs when the importing module is loaded: neither inside a function nor for the type checker only


def modules(root: Path) -> dict[str, Path]:
    """Module name -> source file, for all of our folders; generated code is named by its .proto."""
    found = {}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            relative = path.relative_to(root)
            if not is_ignored(relative):
                found[".".join(relative.with_suffix("").parts).removesuffix(".__init__")] = path
    for path in sorted((root / "proto").rglob("*.proto")):
        stem = ".".join(path.relative_to(root / "proto").with_suffix("").parts)
        found[stem + "_pb2"] = found[stem + "_pb2_grpc"] = path
    return found


def is_ignored(relative: Path) -> bool:
    """Whether a path below the checkout is no part of the sources."""
    return relative.parts[:2] == _HAND_WRITTEN or any(p.startswith(".") or p == "__pycache__" for p in relative.parts)


def imports(name: str, known: Mapping[str, Path]) -> list[Import]:
    """Everything that a module imports, ours and others', also inside functions and for the type checker."""
    path = known[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return list(_walk(_parse(path.read_text()), package, known, at_start=True))


def is_ours(module: str) -> bool:
    """Whether an imported name lies in one of our folders."""
    return module.split(".")[0] in FOLDERS


def exists(module: str, known: Iterable[str]) -> bool:
    """Whether an import of ours can work: a module, or a folder without `__init__.py` that holds some."""
    return any(m == module or m.startswith(module + ".") for m in known)


def parents(module: str, known: Collection[str]) -> list[str]:
    """The packages above a module that have an `__init__.py`: importing the module runs them."""
    parts = module.split(".")
    return [p for i in range(1, len(parts)) if (p := ".".join(parts[:i])) in known]


_parse = functools.cache(ast.parse)


def _walk(node: ast.AST, package: str, known: Mapping[str, Path], at_start: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, at_start) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            base = ".".join(filter(None, [_anchor(package, child.level), child.module]))
            for alias in child.names:
                whole = f"{base}.{alias.name}"
                yield Import(whole if whole in known else base, child.lineno, at_start)
        elif isinstance(child, ast.Call):
            yield from _dynamic(child, known, at_start)
            yield from _walk(child, package, known, at_start)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from _walk(ast.Module(child.body, []), package, known, at_start=False)
            yield from _walk(ast.Module(child.orelse, []), package, known, at_start)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _walk(child, package, known, at_start and not inside)


def _anchor(package: str, level: int) -> str:
    """The package that a relative import starts from: "" for an absolute one."""
    return package.rsplit(".", level - 1)[0] if level else ""


def _dynamic(call: ast.Call, known: Mapping[str, Path], at_start: bool) -> Iterator[Import]:
    """`import_module("a.b")`, and `import_module(f"a.b.{name}")`, which may be any module of `a.b`."""
    if not call.args or not re.search(r"\bimport_module$", ast.unparse(call.func)):
        return
    argument = call.args[0]
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        yield Import(argument.value, call.lineno, at_start)
    elif isinstance(argument, ast.JoinedStr) and isinstance(start := argument.values[0], ast.Constant):
        prefix = str(start.value)
        yield from (Import(m, call.lineno, at_start) for m in known if prefix.endswith(".") and m.startswith(prefix))
