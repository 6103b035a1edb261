"""What the benchmarks of the registry count, by hand."""

from __future__ import annotations

from benchmarks.open_loop import Call
from benchmarks.promote import Step, wrong
from benchmarks.same_answers import Page, compared


def call(due: float, release: str, seconds: float = 0.1, status: str = "OK") -> Call:
    return Call(due, seconds, 1, status, release=release)


def test_answers_of_another_release_count_only_between_commands() -> None:
    """`b` answers from 10 on, `a` again from 22 on; the second command began at 20."""
    steps = [Step("promote", "b", 2.0, 1.0, 10.0), Step("rollback", "a", 2.0, 1.0, 22.0)]
    calls = [
        call(9.0, "a"),  # the first command was running
        call(11.0, "b"),
        call(12.0, "a"),  # wrong
        call(19.95, "a"),  # answered while the second command ran: either may
        call(21.0, "b"),  # while it ran
        call(23.0, "a"),
        call(24.0, "b"),  # wrong
        call(25.0, "", status="UNAVAILABLE"),  # failed, which is counted elsewhere
    ]
    assert wrong(calls, steps) == 2


def test_pages_are_the_same_in_items_order_and_level() -> None:
    page = Page(("a", "b"), (2.0, 1.0), "warm", "")
    near = Page(("a", "b"), (2.5, 1.0), "warm", "")
    turned = Page(("b", "a"), (2.0, 1.0), "warm", "")
    lower = Page(("a", "b"), (2.0, 1.0), "popular", "user-state-missing")
    assert compared([page] * 4, [page, near, turned, lower]) == {
        "people": 4,
        "same": 2,
        "score_difference": 0.5,
        "degraded": [0, 1],
    }
