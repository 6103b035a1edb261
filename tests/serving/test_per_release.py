"""What is kept for a few releases at once, and let go when one is closed."""

from types import SimpleNamespace
from typing import Any

from serving.per_release import PerRelease


def test_two_releases_keep_what_is_theirs_and_a_new_view_begins_anew() -> None:
    a, b, changed = release("a"), release("b"), release("a")
    kept: PerRelease[list[int]] = PerRelease(list)
    kept.of(a).append(1)
    kept.of(b).append(2)
    assert (kept.of(a), kept.of(b)) == ([1], [2])
    first = kept.of(a)
    assert kept.holds(a, first)
    assert kept.of(changed) == []
    assert not kept.holds(a, first)


def test_one_that_nobody_asks_for_is_let_go() -> None:
    closed, answers = release("closed"), release("answers")
    kept: PerRelease[list[int]] = PerRelease(list)
    first = kept.of(closed)
    for _ in range(2_000):
        kept.of(answers)
    assert kept.holds(closed, first)
    kept.of(answers)
    assert not kept.holds(closed, first)


def release(name: str) -> Any:
    return SimpleNamespace(path=name)
