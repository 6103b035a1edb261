"""Pages from impressions, by hand; and rows of them that have what serving would have had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.columns import Columns
from core.config import PipelineConfig, load_pipeline
from core.prepared import TRAIN, Prepared
from core.release import STATISTICS
from core.schema import DAY, HOUR, MINUTE, SECOND, Column, EventType
from pipeline.candidates import Fitted, Past, answered
from pipeline.pages import Pages, impressions, rows
from ranking import item_statistics
from ranking.train import GRADES
from retrieval import quotas
from retrieval.fit import fit_sources
from retrieval.sources import SOURCES
from tests.prepared_fixture import make_prepared

T1 = 1_700_000_000_000_000
CUTS = [T1 - 100 * DAY, T1, T1 + 10 * DAY, T1 + 20 * DAY, T1 + 30 * DAY]
GAINS = {EventType.PURCHASE_COMPLETE: 1.0, EventType.CLICK: 0.25, EventType.IMPRESSION: 0.0}
SEEN, CLICK, BUY = "impression", "click", "purchase-complete"
PAGE = T1 + DAY
Row = tuple[str, str, str, int, float]


def shown(items: str, time: int = PAGE, user: str = "u:ann") -> list[Row]:
    return [(user, item, SEEN, time, 0.0) for item in items]


def did(kind: str, item: str, after: int, user: str = "u:ann") -> Row:
    return (user, item, kind, PAGE + after, GAINS[EventType(kind)])


BEFORE: list[Row] = [
    (user, item, BUY, T1 - days * DAY, 1.0)
    for days, (user, item) in enumerate([("u:ann", "a"), ("u:ann", "b"), ("u:bob", "a"), ("u:bob", "c")], start=3)
] + [("u:bob", "d", BUY, T1 + 29 * DAY, 1.0)]  # d is known to nobody before


def shop(folder: Path, after: list[Row], first: int = 0, **about: Any) -> Prepared:
    """Positions follow the order of the items of a page backwards: of a, b, c the last one stands first."""
    prepared = make_prepared(folder, BEFORE + after, cuts=CUTS, pairs=True, days=True, repeat_share=0.2, **about)
    events = prepared.events
    seen = np.flatnonzero(events.numbers(Column.TYPE) == EventType.IMPRESSION.code)
    user, time = (events.numbers(c)[seen] for c in (Column.USER, Column.TIME))
    places = np.full(len(events.numbers(Column.TYPE)), -1, np.int32)
    for i, row in enumerate(seen.tolist()):
        places[row] = first + ((user == user[i]) & (time == time[i]) & (np.arange(len(seen)) > i)).sum()
    prepared.events = Columns({**events, Column.POSITION: places})
    return prepared


def plain(pages: Pages) -> list[tuple[list[int], list[int], list[int]]]:
    return [tuple(part.tolist() for part in pages.page(q)[2:]) for q in range(len(pages))]


@pytest.mark.parametrize("first", [0, 1])
def test_by_hand(tmp_path: Path, first: int) -> None:
    """a is bought after 23 hours and was clicked before: the purchase counts, 20. b is clicked, 5. c is bought too late."""
    what = [did(CLICK, "a", MINUTE), did(CLICK, "b", MINUTE), did(BUY, "a", 23 * HOUR), did(BUY, "c", 25 * HOUR)]
    found = impressions(shop(tmp_path, [*shown("abc"), *what], first), TRAIN, GAINS, 24.0)
    assert plain(found) == [([0, 1, 2], [2, 1, 0], [GRADES, GRADES // 4, 0])]
    assert found.time.tolist() == [PAGE]


@pytest.mark.parametrize(
    "after",
    [
        [],
        [did(CLICK, "d", MINUTE)],  # not shown
        [did(CLICK, "a", MINUTE, "u:bob")],  # somebody else
        [did(CLICK, "a", -MINUTE)],
        [did(CLICK, "a", 25 * HOUR)],
        shown("abc", PAGE + 2 * MINUTE),  # an impression is no merit
    ],
)
def test_pages_of_which_nothing_came(tmp_path: Path, after: list[Row]) -> None:
    assert len(impressions(shop(tmp_path, [*shown("abc"), *after]), TRAIN, GAINS, 24.0)) == 0


def test_no_label_crosses_a_cut(tmp_path: Path) -> None:
    """Shown 23 hours before Tv: a click an hour later lies in the window, but one that belonged to the page could lie beyond it."""
    time = CUTS[2] - 23 * HOUR
    click = ("u:ann", "a", CLICK, time + HOUR, 0.25)
    assert len(impressions(shop(tmp_path / "a", [*shown("abc", time), click]), TRAIN, GAINS, 24.0)) == 0
    assert len(impressions(shop(tmp_path / "b", [*shown("abc", time), click]), TRAIN, GAINS, 12.0)) == 1


def test_a_second_apart_is_one_page(tmp_path: Path) -> None:
    click = did(CLICK, "a", MINUTE)
    near = [*shown("ab"), *shown("c", PAGE + SECOND), click]
    far = [*shown("ab"), *shown("c", PAGE + 3 * SECOND), click, did(CLICK, "c", 2 * MINUTE)]
    assert [i for i, _, _ in plain(impressions(shop(tmp_path / "n", near), TRAIN, GAINS, 24.0))] == [[0, 1, 2]]
    assert [i for i, _, _ in plain(impressions(shop(tmp_path / "f", far), TRAIN, GAINS, 24.0))] == [[0, 1], [2]]


def test_an_invented_clock_tells_no_pages(tmp_path: Path) -> None:
    what = [*shown("abc"), did(CLICK, "a", MINUTE)]
    assert len(impressions(shop(tmp_path, what, synthetic_time=True), TRAIN, GAINS, 24.0)) == 0


def test_the_same_page_counts_once() -> None:
    """User 1 is shown a page at 100; what the shop logs of user 1 until 150 is that page, of user 2 another one."""

    def one(user: int, time: int) -> tuple[int, int, Any, Any, Any]:
        return user, time, np.array([3]), np.array([0]), np.array([5], np.int8)

    both = Pages.of([one(1, 100)]).and_those(Pages.of([one(1, 99), one(1, 149), one(1, 150), one(2, 120)]), 50)
    assert list(zip(both.user.tolist(), both.time.tolist(), strict=True)) == [(1, 100), (1, 99), (1, 150), (2, 120)]


def fitted(prepared: Prepared, folder: Path, each: int = 50) -> tuple[Fitted, PipelineConfig]:
    sources, statistics = folder / "sources" / TRAIN.name, folder / STATISTICS / TRAIN.name
    fit_sources(prepared, TRAIN, load_pipeline(), sources, lambda _: None)
    (sources.parent / quotas.FILE).write_text(json.dumps(dict.fromkeys(SOURCES, each)))
    item_statistics.write(prepared, TRAIN, 7, statistics)
    return Fitted(prepared.path, TRAIN, sources, statistics), load_pipeline()


def test_rows_have_what_serving_would_have(tmp_path: Path) -> None:
    """d is proposed by no source, since nobody had it before T1: it is left out, though it was bought."""
    what = [did(CLICK, "b", MINUTE), did(BUY, "d", HOUR)]
    prepared = shop(tmp_path, [*shown("abcd"), *what])
    place, config = fitted(prepared, tmp_path)
    pages = impressions(prepared, TRAIN, GAINS, 24.0)
    found = answered(place, pages, config, rows, 10)
    past = Past.open(place, config)
    candidates, features = past.features(*past.query(prepared.user_ids.row("u:ann"), PAGE))
    assert candidates.rows.tolist() == [0, 1, 2]
    assert np.array_equal(found.matrix, features)
    assert found.positions is not None
    assert found.positions.tolist() == [3, 2, 1]
    assert found.grades.tolist() == [0, GRADES // 4, 0]
    assert found.ideals.tolist() == [GRADES // 4]
    assert (found.sizes.tolist(), found.dropped) == ([3], 0)


def test_what_retrieval_missed_is_not_put_in(tmp_path: Path) -> None:
    prepared = shop(tmp_path, [*shown("abc"), did(BUY, "a", HOUR)])
    place, config = fitted(prepared, tmp_path, each=0)
    found = answered(place, impressions(prepared, TRAIN, GAINS, 24.0), config, rows, 10)
    assert (len(found), found.dropped) == (0, 1)
