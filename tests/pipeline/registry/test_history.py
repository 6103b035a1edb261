"""The history of what was current: complete, whatever happened, and a rollback follows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import atomic
from core.work import Work
from pipeline.registry import history
from pipeline.registry.history import FILE, PROMOTE, PUBLISH, ROLLBACK, point, previous, read, stack


@pytest.fixture
def work(tmp_path: Path) -> Work:
    """With four folders that could be releases."""
    for name in "abcd":
        (tmp_path / "releases" / name).mkdir(parents=True)
    return Work(tmp_path)


def go(work: Work, *changes: tuple[str, str]) -> None:
    with history.locked(work):
        for action, to in changes:
            point(work, to, action, "because")


def test_a_line_says_when_who_from_to_and_why(work: Work) -> None:
    go(work, (PUBLISH, "a"), (PROMOTE, "b"))
    last = json.loads((work.releases / FILE).read_text().splitlines()[-1])
    assert {k: last[k] for k in ("action", "from", "to", "why")} == {
        "action": PROMOTE,
        "from": "a",
        "to": "b",
        "why": "because",
    }
    assert last["when"].endswith("+00:00")
    assert "@" in last["who"]


def test_what_is_current_already_is_no_change(work: Work) -> None:
    go(work, (PUBLISH, "a"), (PUBLISH, "a"))
    assert [c.to for c in read(work)] == ["a"]


def test_two_rollbacks_lead_two_releases_back(work: Work) -> None:
    go(work, (PUBLISH, "a"), (PUBLISH, "b"), (PUBLISH, "c"))
    assert (stack(work), previous(work)) == (["a", "b", "c"], "b")
    go(work, (ROLLBACK, "b"))
    assert (stack(work), previous(work)) == (["a", "b"], "a")
    go(work, (ROLLBACK, "a"))
    assert (stack(work), previous(work)) == (["a"], None)
    go(work, (PROMOTE, "c"))
    assert previous(work) == "a"


def test_a_link_that_moved_without_a_line_counts(work: Work) -> None:
    """A kill between the link and its line; or somebody's own `ln -s`."""
    go(work, (PUBLISH, "a"), (PUBLISH, "b"))
    atomic.symlink(work.current, "d")
    assert (stack(work), previous(work)) == (["a", "b", "d"], "b")
    go(work, (PUBLISH, "c"))  # its line says that it came after d
    assert stack(work) == ["a", "b", "d", "c"]


def test_a_torn_line_is_none_and_spoils_no_other(work: Work) -> None:
    go(work, (PUBLISH, "a"), (PUBLISH, "b"))
    path = work.releases / FILE
    path.write_bytes(path.read_bytes()[:-20])
    assert [c.to for c in read(work)] == ["a"]
    assert previous(work) == "a"  # the link says b
    go(work, (PUBLISH, "c"))
    assert [c.to for c in read(work)] == ["a", "c"]
    assert stack(work) == ["a", "b", "c"]


def test_releases_that_are_gone_are_passed_over(work: Work) -> None:
    go(work, (PUBLISH, "a"), (PUBLISH, "b"), (PUBLISH, "c"))
    (work.releases / "b").rmdir()
    assert previous(work) == "a"


def test_a_work_directory_of_before_there_was_history(work: Work) -> None:
    atomic.symlink(work.current, "b")
    assert (read(work), stack(work), previous(work)) == ([], ["b"], None)


@given(st.lists(st.sampled_from("abcd-"), max_size=30))
def test_rollback_undoes_like_a_stack(tmp_path_factory: pytest.TempPathFactory, moves: list[str]) -> None:
    """`-` rolls back; a list of what was current, popped, is the oracle."""
    work = Work(tmp_path_factory.mktemp("work"))
    for name in "abcd":
        (work.releases / name).mkdir(parents=True)
    expected: list[str] = []
    for move in moves:
        if move != "-":
            go(work, (PROMOTE, move))
            expected += [move] if expected[-1:] != [move] else []
        elif len(expected) > 1:
            expected.pop()
            assert previous(work) == expected[-1]
            go(work, (ROLLBACK, expected[-1]))
        assert stack(work) == expected
