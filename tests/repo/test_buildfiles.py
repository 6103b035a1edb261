"""The BUILD files say what the imports say."""

# bazel: size=medium, data=[//:tree]

from pathlib import Path

import pytest

from tests.repo.checkout import copy, write
from tools import buildfiles


def test_build_files_are_current(tmp_path: Path) -> None:
    root = copy(tmp_path)
    assert list(buildfiles.problems(root)) == []
    fix = "run .venv/bin/python -m tools.buildfiles"
    assert [p.relative_to(root) for p, _ in buildfiles.stale(root)] == [], fix
    write(root, {"core/planted.py": "import core.ids"})
    assert [p.relative_to(root) for p, _ in buildfiles.stale(root)] == [Path("core/BUILD.bazel")]


def test_check_only_lists(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, {"core/a.py": "", "proto/BUILD.bazel": ""})
    assert buildfiles.main(["--check"], tmp_path) == 1
    assert "stale: core/BUILD.bazel" in capsys.readouterr().out.splitlines()
    assert buildfiles.main([], tmp_path) == 0
    assert buildfiles.main(["--check"], tmp_path) == 0


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("import core.c", "error: core/b.py:1: imports core.c, which does not exist"),
        ("import core.a", "error: modules import each other in a circle: core.a -> core.b -> core.a"),
    ],
)
def test_imports_that_cannot_work_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, error: str
) -> None:
    write(tmp_path, {"core/a.py": "import core.b", "core/b.py": source})
    assert buildfiles.main([], tmp_path) == 1
    assert capsys.readouterr().err.startswith(error)


def target(text: str, name: str) -> str:
    """The one target of that name."""
    (found,) = (block for block in text.split("\n\n") if f'    name = "{name}",' in block)
    return found


def flat(text: str) -> str:
    """On one line, as a person would say it."""
    return " ".join(text.split()).replace("[ ", "[").replace(", ]", "]")


def test_a_target_for_each_module(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "core/__init__.py": "",
            "core/ids.py": "# bazel: data=[//configs:all_files]\n",
            "ranking/__init__.py": "",
            "ranking/scorer.py": "from core.ids import x\nimport numpy",
            "ranking/train.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ranking import scorer",
            "tests/conftest.py": "",
            "tests/ranking/test_train.py": "# bazel: size=medium, tags=[exclusive]\nfrom ranking import train",
            "tests/golden/v1/a.json": "{}",
        },
    )
    texts = {str(p.relative_to(tmp_path)): text for p, text in buildfiles.build_files(tmp_path).items()}
    assert (
        'name = "ids",\n    srcs = ["ids.py"],\n    data = ["//configs:all_files"],\n    deps = [":__init__"],'
        in texts["core/BUILD.bazel"]
    )
    ranking = texts["ranking/BUILD.bazel"]
    assert 'deps = ["//core:__init__", "//core:ids", ":__init__"],' in flat(target(ranking, "scorer"))
    assert 'deps = [":__init__", ":scorer"],' in flat(target(ranking, "train"))
    # Only the online module is visible to serving, and the __init__.py that it brings.
    seen = {name: "//serving:__subpackages__" in target(ranking, name) for name in ("__init__", "scorer", "train")}
    assert seen == {"__init__": True, "scorer": True, "train": False}
    assert "//serving:__subpackages__" not in ranking.split(")")[1]  # the package's default
    test = flat(texts["tests/ranking/BUILD.bazel"])
    assert 'tags = ["exclusive"], deps = ["//ranking:__init__", "//ranking:train", "//tests:conftest"],' in test
    assert 'size = "medium",' in test
    assert "tests/golden/BUILD.bazel" in texts
    assert "tests/golden/v1/BUILD.bazel" not in texts
    assert '"//tests/golden:all_files",' in texts["BUILD.bazel"]


def test_protos_are_modules_of_the_generated_package(tmp_path: Path) -> None:
    write(
        tmp_path,
        {"proto/aisle/v1/events.proto": "", "serving/a.py": "from aisle.v1 import events_pb2, events_pb2_grpc"},
    )
    files = buildfiles.build_files(tmp_path)
    assert 'deps = ["//proto:events"],' in files[tmp_path / "serving" / "BUILD.bazel"]
    assert 'src = "aisle/v1/events.proto",' in files[tmp_path / "proto" / "BUILD.bazel"]


def test_a_package_may_list_its_own_modules(tmp_path: Path) -> None:
    files = {
        "retrieval/__init__.py": "",
        "retrieval/sources/__init__.py": "from retrieval.sources.popularity import Popularity",
        "retrieval/sources/popularity.py": "",
        "tests/test_it.py": "import retrieval.sources.popularity",
    }
    texts = buildfiles.build_files(write(tmp_path, files))
    assert list(buildfiles.problems(tmp_path)) == []
    sources = texts[tmp_path / "retrieval/sources/BUILD.bazel"]
    assert (
        '"__init__",\n    srcs = ["__init__.py"],\n    deps = [\n        "//retrieval:__init__",\n        ":popularity",'
        in sources
    )
    test = texts[tmp_path / "tests/BUILD.bazel"]
    assert 'deps = [\n        "//retrieval/sources:popularity",\n        "//retrieval:__init__",\n    ],' in test


def test_modules_found_by_name_are_dependencies(tmp_path: Path) -> None:
    source = 'import importlib\ndef load(name):\n    return importlib.import_module(f"cli.commands.{name}")'
    write(tmp_path, {"cli/app.py": source, "cli/commands/demo.py": "", "cli/commands/serve.py": ""})
    text = buildfiles.build_files(tmp_path)[tmp_path / "cli" / "BUILD.bazel"]
    assert 'deps = [\n        "//cli/commands:demo",\n        "//cli/commands:serve",\n    ],' in text


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("# bazel: sise=small", "unknown key in '# bazel: sise='"),
        ("# bazel: size=small", "unknown key in '# bazel: size='"),  # not a test
        ("# bazel: data", "cannot read '# bazel: data'"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], source: str, message: str) -> None:
    write(tmp_path, {"core/a.py": source, "core/b.py": "import core.a"})
    assert buildfiles.main([], tmp_path) == 2
    assert message in capsys.readouterr().err


def test_what_no_longer_belongs_is_removed(tmp_path: Path) -> None:
    write(tmp_path, {"core/a.py": "", "core/old/BUILD.bazel": "", "tools/bazel/BUILD.bazel": ""})
    assert buildfiles.main([], tmp_path) == 0
    assert not (tmp_path / "core/old/BUILD.bazel").exists()
    assert (tmp_path / "tools/bazel/BUILD.bazel").exists()
