"""Who imports what, against the one table."""

# bazel: size=medium, data=[//:tree]

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repo.checkout import ROOT, write
from tools.imports import exists, imports, is_ours, modules, parents
from tools.layers import MAY_IMPORT, OFFLINE, allowed, allowed_library, matches


def violations(root: Path) -> Iterator[str]:
    known = modules(root)
    for name, path in known.items():
        for item in imports(name, known) if path.suffix == ".py" else ():
            if is_ours(item.module):
                if not exists(item.module, known):
                    yield f"{name}:{item.line} imports {item.module}, which does not exist"
                elif not allowed(name, item.module):
                    yield f"{name}:{item.line} imports {item.module}"
            elif not allowed_library(name, library := item.module.split(".")[0]):
                yield f"{name}:{item.line} imports {library}"


def offline_chains(root: Path) -> Iterator[str]:
    """Ways from a module of serving to a library that a serving host lacks, by what is imported at load."""
    known = modules(root)
    seen: set[str] = set()
    queue: list[tuple[str, ...]] = [(name,) for name in known if matches(name, "serving.*")]
    while queue:
        chain = queue.pop()
        if chain[-1] in seen or known[chain[-1]].suffix == ".proto":
            continue
        seen.add(chain[-1])
        for item in imports(chain[-1], known):
            if item.at_start and item.module.split(".")[0] in OFFLINE:
                yield " -> ".join([*chain, item.module])
            if item.at_start and is_ours(item.module):
                queue += [(*chain, m) for m in [item.module, *parents(item.module, known)] if m in known]


def test_sources_keep_to_the_layers() -> None:
    assert len(modules(ROOT)) > 20  # it does read this checkout
    assert list(violations(ROOT)) == []


def test_serving_loads_nothing_that_a_serving_host_lacks() -> None:
    assert list(offline_chains(ROOT)) == []


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("core/a.py", "import ranking.scorer", "core.a:1 imports ranking.scorer"),
        ("core/a.py", "def f():\n    from ranking import scorer", "core.a:2 imports ranking.scorer"),
        ("retrieval/a.py", "from ranking.scorer import x", "retrieval.a:1 imports ranking.scorer"),
        ("serving/a.py", "import ranking.train", "serving.a:1 imports ranking.train"),
        ("serving/a.py", "from core.b import c", "serving.a:1 imports core.b, which does not exist"),
        ("pipeline/a.py", "import tests.x", "pipeline.a:1 imports tests.x"),
        (
            "retrieval/a.py",
            "import importlib\nimportlib.import_module('ranking.train')",
            "retrieval.a:2 imports ranking.train",
        ),
        ("ranking/a/b.py", "from .. import train", None),
        ("ranking/a/b.py", "from ..c import d", "ranking.a.b:1 imports ranking.c, which does not exist"),
        ("serving/a.py", "import ranking.scorer, core", None),
        ("tests/a.py", "import tensorflow, ranking.train, grpc", None),
        ("serving/a.py", "import grpc.aio", None),
        ("retrieval/a.py", "import tensorflow as tf", None),
        ("ranking/a.py", "import tensorflow as tf", "ranking.a:1 imports tensorflow"),
        ("core/a.py", "from pyspark.sql import functions", "core.a:1 imports pyspark"),
    ],
)
def test_planted_import(tmp_path: Path, path: str, source: str, expected: str | None) -> None:
    tree = dict.fromkeys(["core/__init__.py", "ranking/scorer.py", "ranking/train.py", "tests/x.py"], "")
    assert list(violations(write(tmp_path, {**tree, path: source}))) == ([expected] if expected else [])


def test_planted_indirect_import_of_an_offline_library(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "serving/server.py": "from core import table",
            "core/table.py": "def f():\n    import pandas\nimport core.arrow",
            "core/arrow.py": "import pyarrow.parquet as pq",
        },
    )
    assert list(offline_chains(tmp_path)) == ["serving.server -> core.table -> core.arrow -> pyarrow.parquet"]


def test_every_folder_of_sources_has_a_layer() -> None:
    folders = {p.parent.name for p in ROOT.glob("*/*.py") if not p.parent.name.startswith(".")}
    assert folders <= set(MAY_IMPORT)
