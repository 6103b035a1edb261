"""What a command says of a slip of the pen and of a machine that refuses: one line, exit 2, nothing left behind."""

# bazel: imports=[cli.commands.*]

from __future__ import annotations

import errno
from pathlib import Path
from typing import get_type_hints

import pytest

from cli.commands.import_ import import_
from cli.machine import refusal
from cli.stage import run_stage
from core import atomic
from core.errors import NotFoundError
from data_prep.importers.registry import LAYOUTS
from serving.batch import BatchQuery
from serving.batch import run as batch
from tests.cli.run_command import Run, runner


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return runner(monkeypatch, capsys)


def test_a_work_directory_that_is_not_there_is_not_made(run: Run, tmp_path: Path) -> None:
    work = tmp_path / "wrok"
    for words in (("releases", "prune"), ("releases", "rollback")):
        ended = run(*words, "--work", work)
        assert (ended.code, "`./aisle nightly --data DATA --work" in ended.said) == (2, True), ended
    with pytest.raises(NotFoundError, match="no such work directory"):
        run_stage("index", lambda *_: work, work, None)
    assert not work.exists()


def test_a_file_where_a_folder_belongs(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "shop.csv"
    file.write_text("item_id\n")
    for place in (file, file / "keys.yaml"):
        ended = run("keys", "new", "--file", place / "keys.yaml")
        assert (ended.code, "a file is where a folder was expected" in ended.said) == (2, True), ended
    assert [p.name for p in tmp_path.iterdir()] == ["shop.csv"]


def test_the_lines_of_the_machine() -> None:
    beside = "/shop/.tmp-keys.yaml-0123abcd"
    assert str(refusal(OSError(errno.ENOSPC, "No space left on device", beside))).startswith("/shop: No space left on")
    assert (
        refusal(OSError(errno.ENOSPC, "No space left on device"))
        == "No space left on device; make room, and run it again"
    )
    assert refusal(OSError("Corrupt snappy compressed data.")) is None
    assert atomic.meant(Path("/shop/keys.yaml")) == Path("/shop/keys.yaml")


def test_who_names_no_command_or_an_option_that_there_is_not_is_told_where_help_is(run: Run) -> None:
    assert run().said == "error: name a command, one of those above (see `./aisle --help`)"
    assert run("catalog").said == "error: name a command, one of those above (see `./aisle catalog --help`)"
    assert run("--version").said == "error: No such option '--version'. (see `./aisle --help`)"
    assert run("recommend", "--k", 0).said == (
        "error: Invalid value for '--k': 0 is not in the range 1<=x<=500. (see `./aisle recommend --help`)"
    )
    assert run("keys", "-h").code == 0


def test_many_queries_are_refused_in_the_words_of_few(tmp_path: Path) -> None:
    """A pool of processes, which many queries get, would only say that one of them ended."""
    for n in (1, 600):
        queries = [BatchQuery(str(q), "u", None) for q in range(n)]
        with pytest.raises(NotFoundError, match="no such artifact"):
            list(batch(tmp_path / "nosuch", tmp_path, queries, 10, False))


def test_import_names_every_layout() -> None:
    (said,) = get_type_hints(import_, include_extras=True)["layout"].__metadata__
    assert [layout for layout in LAYOUTS if layout not in said.help] == []


def test_brackets_are_printed_as_they_are(run: Run) -> None:
    assert run("rules", "check", "/no/[such]/folder").said == "error: /no/[such]/folder: no such folder of rules"
