"""The protos: what callers were built with stays, and the page about them is current."""

# bazel: data=[//:tree, //docs:all_files]

import shutil
from pathlib import Path

import pytest

from tests.repo.checkout import ROOT
from tools import apidocs, protocheck

BEFORE = """syntax = "proto3";
package aisle.v1;
service Shop { rpc Ask(Question) returns (Answer); rpc Tell(Question) returns (Answer); }
message Question { string text = 1; int32 times = 2; map<string, Answer> more = 3; optional bool loud = 4; }
message Answer { repeated string lines = 1; enum Mood { CALM = 0; CROSS = 1; } Mood mood = 2; }
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One with a published proto."""
    (tmp_path / "proto" / "aisle" / "v1").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    change(tmp_path)
    assert protocheck.main(["--accept"], tmp_path) == 0
    return tmp_path


def change(root: Path, *changes: str) -> None:
    text = BEFORE
    for old, new in zip(changes[::2], changes[1::2], strict=True):
        assert old in text
        text = text.replace(old, new)
    (root / "proto" / "aisle" / "v1" / "shop.proto").write_text(text)


def test_nothing_that_callers_rely_on_is_gone_or_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    assert protocheck.main([], tmp_path) == 0, capsys.readouterr().out


def test_the_page_is_current(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / apidocs.PAGE, tmp_path / apidocs.PAGE)
    assert apidocs.main(["--check"], tmp_path) == 0, "run .venv/bin/python -m tools.apidocs"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            ("int32 times = 2;", ""),
            "field aisle.v1.Question 2: `times int32` is gone: put it back with `[deprecated = true]`",
        ),
        (
            ("int32 times = 2", "int32 often = 2"),
            "field aisle.v1.Question 2: was `times int32`, is `often int32`: put it back",
        ),
        (("int32 times", "int64 times"), "field aisle.v1.Question 2: was `times int32`, is `times int64`"),
        (("int32 times = 2", "int32 times = 5"), "`times int32` has another number now (5): give it its own back"),
        (("optional bool", "bool"), "field aisle.v1.Question 4: was `loud optional bool`, is `loud bool`"),
        (("map<string, Answer>", "map<string, string>"), "Question 3: was `more map<string, aisle.v1.Answer>`"),
        (("repeated string", "string"), "field aisle.v1.Answer 1: was `lines repeated string`, is `lines string`"),
        (
            ("rpc Tell(Question) returns (Answer);", ""),
            "rpc aisle.v1.Shop.Tell: `aisle.v1.Question -> aisle.v1.Answer` is gone",
        ),
        (("Tell(Question)", "Tell(Answer)"), "rpc aisle.v1.Shop.Tell: was `aisle.v1.Question -> aisle.v1.Answer`, is"),
        (("Tell(Question)", "Tell(stream Question)"), "is `stream aisle.v1.Question -> aisle.v1.Answer`"),
        (("CROSS = 1;", ""), "value aisle.v1.Answer.Mood 1: `CROSS` is gone"),
    ],
)
def test_what_breaks_callers_is_named(
    checkout: Path, capsys: pytest.CaptureFixture[str], changes: tuple[str, ...], says: str
) -> None:
    change(checkout, *changes)
    for arguments in ([], ["--accept"]):  # which takes up nothing that breaks
        assert protocheck.main(arguments, checkout) == 1
        assert any(
            line.startswith("breaks callers: ") and says in line for line in capsys.readouterr().out.splitlines()
        )
    change(checkout)
    assert protocheck.main([], checkout) == 0


def test_what_is_new_is_taken_up(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(checkout, "int32 times = 2;", "int32 times = 2; bytes how = 9;")
    assert protocheck.main([], checkout) == 1
    said = capsys.readouterr().out
    assert "new: field aisle.v1.Question 9: how bytes" in said
    assert said.endswith("lacks what is new: python -m tools.protocheck --accept\n")
    assert protocheck.main(["--accept"], checkout) == 0
    assert protocheck.main([], checkout) == 0


def test_the_page_says_what_the_comments_say(checkout: Path) -> None:
    change(
        checkout,
        "message Question {",
        "// What one may ask.\nmessage Question {\n  // In | words.\n  //\n  // Or none.\n ",
    )
    text = apidocs.page(checkout)
    assert "What one may ask." in text
    assert "| `text` | `string = 1` | In \\| words.<br>Or none. |" in text
    assert "| `more` | `map<string, Answer> = 3` |  |" in text
    assert "### Answer.Mood" in text
    assert apidocs.main(["--check"], checkout) == 1
    assert apidocs.main([], checkout) == 0
    assert apidocs.main(["--check"], checkout) == 0
