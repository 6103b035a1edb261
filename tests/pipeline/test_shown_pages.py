"""Pages and events of a log that a reader can follow become rows with positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.config import load_pipeline
from core.event_log import part
from core.ids import IdMap
from core.schema import DAY, HOUR, MINUTE, EventType
from pipeline.log_tables import EVENT_ROWS, PAGE_ROWS, write_parquet
from pipeline.shown_pages import training_set
from ranking.feature_list import NAMES, schema_hash
from ranking.train import GRADES, TrainingSet, grow

NOON = 20_000 * DAY + 12 * HOUR
ITEMS = [f"i{n}" for n in range(6)]  # rows 0 to 5
GAINS = {EventType.PURCHASE_COMPLETE: 1.0, EventType.CLICK: 0.25, EventType.IMPRESSION: 0.0}


def page(token: str, items: list[str], time: int = NOON, **changes: Any) -> dict[str, Any]:
    """Candidates are rows 0, 2, 3 and 5; the first feature of each is its row."""
    features = np.zeros((4, len(NAMES)), "<f4")
    features[:, 0] = [0, 2, 3, 5]
    columns = {"time": time, "request_id": token, "attribution_token": token, "items": items}
    columns |= {"positions": list(range(1, len(items) + 1)), "candidates": [0, 2, 3, 5], "features": features.tobytes()}
    return columns | {"feature_schema": schema_hash(), "n_features": len(NAMES)} | changes


def event(token: str | None, item: str, kind: str = "click", after: int = MINUTE, time: int = NOON) -> dict[str, Any]:
    return {"event_type": kind, "event_time": time + after, "item_id": item, "attribution_token": token}


def read(folder: Path, pages: list[dict[str, Any]], events: list[dict[str, Any]]) -> TrainingSet:
    for table, rows, shape in (("recommendations", pages, PAGE_ROWS), ("events", events, EVENT_ROWS)):
        file = folder / part(table, "2024-10-04", "1-0", "2-0")
        file.parent.mkdir(parents=True)
        write_parquet(file, rows, shape)
    return training_set(folder, IdMap.of(ITEMS), GAINS, NOON - DAY, NOON + 2 * DAY)


def test_by_hand(tmp_path: Path) -> None:
    """Page a shows i5, i4, i0: i4 only filled it and has no features. i0, at position 2, was clicked and bought: the purchase counts, 20; i5 got a click, 5.

    The ideal is 20 + 5 / log2(3).
    """
    events = [event("a", "i0"), event("a", "i0", "purchase-complete", HOUR), event("a", "i5"), event("a", "i4")]
    found = read(tmp_path, [page("a", ["i5", "i4", "i0"])], events)
    assert found.matrix[:, 0].tolist() == [5, 0]
    assert found.grades.tolist() == [GRADES // 4, GRADES]
    assert found.positions is not None
    assert found.positions.tolist() == [0, 2]
    assert (found.sizes.tolist(), found.dropped) == ([2], 0)
    assert found.ideals == pytest.approx([20 + 5 / np.log2(3)])


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
def test_what_is_no_merit_of_the_page(tmp_path: Path, events: list[dict[str, Any]]) -> None:
    found = read(tmp_path, [page("a", ["i5", "i0"])], events)
    assert (len(found), found.dropped) == (0, 1)


def test_the_window_and_the_feature_list(tmp_path: Path) -> None:
    """A page before the window, one after it, one with other features, one without any; what is known ends with the window."""
    others = [
        page("before", ["i0"], NOON - 2 * DAY),
        page("after", ["i0"], NOON + 3 * DAY),
        page("foreign", ["i0"], feature_schema="f" * 64),
        page("bare", ["i0"], feature_schema=None, features=None, candidates=None, n_features=None),
        page("late", ["i0"], NOON + 2 * DAY - MINUTE),
    ]
    events = [event(p["attribution_token"], "i0", time=p["time"]) for p in others]
    found = read(tmp_path, [*others, page("a", ["i0", "i2"])], [*events, event("a", "i2")])
    assert (len(found), found.grades.tolist(), found.dropped) == (1, [0, GRADES // 4], 1)


def test_they_train_beside_constructed_rows(tmp_path: Path) -> None:
    pages = [page(f"p{n}", ["i0", "i2", "i3", "i5"]) for n in range(60)]
    logged = read(tmp_path, pages, [event(f"p{n}", "i3") for n in range(60)])
    built = TrainingSet(logged.matrix, logged.grades, logged.sizes, logged.ideals, 0)
    both = TrainingSet.concatenate([logged, built])
    assert both.positions is not None
    assert set(both.positions.tolist()) == {-1, 0, 1, 2, 3}
    ranker = load_pipeline().ranker.model_copy(update={"rows_per_leaf": 5})
    assert grow([both], 3, ranker).booster.num_trees() == 3


def test_a_shop_without_a_log(tmp_path: Path) -> None:
    found = training_set(tmp_path, IdMap.of(ITEMS), GAINS, 0, NOON)
    assert (len(found), found.matrix.shape, found.dropped) == (0, (0, len(NAMES)), 0)
