"""Pages and events of a log that a reader can follow become pages of known people, with what came of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.event_log import part
from core.prepared import Prepared
from core.schema import DAY, HOUR, MINUTE, EventType
from pipeline.log_tables import EVENT_ROWS, PAGE_ROWS, write_parquet
from pipeline.pages import Pages
from pipeline.shown_pages import files, read
from ranking.train import GRADES
from tests.prepared_fixture import make_prepared

NOON = 20_000 * DAY + 12 * HOUR
SINCE, UNTIL = NOON - DAY, NOON + 3 * DAY
GAINS = {EventType.PURCHASE_COMPLETE: 1.0, EventType.CLICK: 0.25, EventType.IMPRESSION: 0.0}
KNOWN: dict[str, Any] = {"user_id": "ann"}


@pytest.fixture
def shop(tmp_path: Path) -> Prepared:
    """Items i0 to i3 have rows 0 to 3; ann has row 0, the visitor ann row 1."""
    rows = [(user, f"i{n}", "click", NOON - 9 * DAY + n) for user in ("u:ann", "v:ann") for n in range(4)]
    return make_prepared(tmp_path / "work", rows, cuts=[NOON - 10 * DAY, SINCE, UNTIL, UNTIL + 1, UNTIL + 2])


def page(token: str, items: list[str], time: int = NOON, **who: Any) -> dict[str, Any]:
    positions = list(range(1, len(items) + 1))
    columns = {"time": time, "request_id": token, "attribution_token": token, "items": items, "positions": positions}
    return columns | (who or KNOWN)


def event(token: str | None, item: str, kind: str = "click", after: int = MINUTE, time: int = NOON) -> dict[str, Any]:
    return {"event_type": kind, "event_time": time + after, "item_id": item, "attribution_token": token}


def pages_of(folder: Path, shop: Prepared, pages: list[dict[str, Any]], events: list[dict[str, Any]]) -> Pages:
    for table, rows, shape in (("recommendations", pages, PAGE_ROWS), ("events", events, EVENT_ROWS)):
        file = folder / part(table, "2024-10-04", "1-0", "2-0")
        file.parent.mkdir(parents=True)
        write_parquet(file, rows, shape)
    return read(folder, shop, GAINS, SINCE, UNTIL, 24.0)


def test_by_hand(tmp_path: Path, shop: Prepared) -> None:
    """i0, third on the page, was clicked and bought: the purchase counts, 20; i3, first, got a click, 5. The shop does not know i9."""
    events = [event("a", "i0"), event("a", "i0", "purchase-complete", HOUR), event("a", "i3"), event("a", "i9")]
    found = pages_of(tmp_path, shop, [page("a", ["i3", "i9", "i0", "i2"])], events)
    user, time, items, positions, grades = found.page(0)
    assert (len(found), user, time) == (1, 0, NOON)
    assert (items.tolist(), positions.tolist()) == ([0, 2, 3], [2, 3, 0])
    assert grades.tolist() == [GRADES, 0, GRADES // 4]


def test_who_saw_it(tmp_path: Path, shop: Prepared) -> None:
    """A visitor is somebody else than the user of that name; nobody, and who is unknown to the shop, teach nothing."""
    who: list[dict[str, Any]] = [
        {"visitor_id": "ann"},
        {"user_id": "ann", "visitor_id": "x"},
        {"user_id": "eve"},
        {"session_id": "s"},
    ]
    pages = [page(f"p{n}", ["i0", "i1"], **columns) for n, columns in enumerate(who)]
    found = pages_of(tmp_path, shop, pages, [event(p["attribution_token"], "i0") for p in pages])
    assert found.user.tolist() == [1, 0]


@pytest.mark.parametrize(
    "events",
    [
        [],
        [event("b", "i0")],  # of another page
        [event(None, "i0")],
        [event("a", "i2")],  # not shown
        [event("a", "i0", "impression")],  # no gain
        [event("a", "i0", after=-MINUTE)],  # before the page
        [event("a", "i0", after=25 * HOUR)],  # a day later
    ],
)
def test_what_is_no_merit_of_the_page(tmp_path: Path, shop: Prepared, events: list[dict[str, Any]]) -> None:
    assert len(pages_of(tmp_path, shop, [page("a", ["i3", "i0"])], events)) == 0


def test_the_window(tmp_path: Path, shop: Prepared) -> None:
    """A page before the window, and one whose hours reach beyond it."""
    others = [page("before", ["i0"], SINCE - 1), page("late", ["i0"], UNTIL - DAY), page("in", ["i0"], UNTIL - DAY - 1)]
    events = [event(p["attribution_token"], "i0", time=p["time"]) for p in others]
    assert pages_of(tmp_path, shop, others, events).time.tolist() == [UNTIL - DAY - 1]


def test_a_shop_without_a_log(tmp_path: Path, shop: Prepared) -> None:
    assert len(read(tmp_path, shop, GAINS, SINCE, UNTIL, 24.0)) == 0
    assert files(tmp_path) == []
