"""Profiles of a few rows, every figure by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.columns import Coded, Columns, Tags, Texts
from core.schema import DAY, HOUR, EventType
from data_prep import profiles

NOTHING = Columns({"known": np.zeros(0, bool)})
VIEW, BUY = EventType.DETAIL_PAGE_VIEW, EventType.PURCHASE_COMPLETE
DAY0 = 19_723  # 2024-01-01, a Monday


def events(rows: list[tuple[int, int, int, EventType, int, float]]) -> Columns:
    """Rows of (user, item, hours since DAY0, type, session, price)."""
    user, item, hours, kind, session, price = zip(*rows, strict=True)
    n = len(rows)
    return Columns(
        {
            "user": np.array(user, np.int32),
            "item": np.array(item, np.int32),
            "time": DAY0 * DAY + np.array(hours, np.int64) * HOUR,
            "type": np.array([t.code for t in kind], np.int8),
            "session": np.array(session, np.int64),
            "price": np.array(price, np.float32),
            "quantity": np.ones(n, np.float32),
            "value": np.full(n, np.nan, np.float32),
            "position": np.full(n, -1, np.int32),
        }
    )


NAN = float("nan")
LOG = events(
    [
        (0, 0, 1, VIEW, 0, NAN),
        (0, 0, 2, BUY, 0, 4.0),
        (0, 1, 30, VIEW, 1, NAN),
        (1, 0, 23, VIEW, 2, NAN),
        (1, 0, 26, BUY, 2, 1.0),  # one session over midnight is there on both days
        (1, 1, 30, BUY, 3, 2.0),
    ]
)


def test_days_of_events() -> None:
    items = Columns({"known": np.ones(2, bool)})
    found = profiles.of_tables(LOG, items, NOTHING)["events"]
    assert (found["first"], found["last"], found["clock"]) == ("2024-01-01", "2024-01-02", 6 * 3600)
    first, second = found["days"]["2024-01-01"], found["days"]["2024-01-02"]
    assert first["types"] == {VIEW: 2, BUY: 1}
    assert second["types"] == {VIEW: 1, BUY: 2}
    assert [(d["people"], d["items"], d["sessions"]) for d in (first, second)] == [(2, 1, 2), (2, 2, 3)]
    # bins of 1, 2, 4 are 0, 8 and 16 eighths of an octave above 401; position and value are never sent
    assert first["columns"] == {
        "price": {"nulls": 2, "sessions": 1, "bins": {"417": 1}},
        "quantity": {"nulls": 0, "sessions": 2, "bins": {"401": 3}},
    }
    assert second["columns"]["price"] == {"nulls": 1, "sessions": 2, "bins": {"401": 1, "409": 1}}
    # the newest event is at six: of the first day the events at one and two come before that, the view at 23 does not
    assert found["until_clock"] == {"2024-01-01": {VIEW: 1, BUY: 1}, "2024-01-02": {VIEW: 1, BUY: 2}}


def test_only_the_newest_days_are_kept() -> None:
    rows = [(0, 0, 24 * d, VIEW, d, NAN) for d in range(profiles.DAYS + 5)]
    found = profiles.of_tables(events(rows), Columns({"known": np.ones(1, bool)}), NOTHING)["events"]
    assert found["first"] == "2024-01-01"
    assert next(iter(found["days"])) == "2024-01-06"
    assert len(found["days"]) == profiles.DAYS


def test_synthetic_clocks_have_no_days() -> None:
    assert "events" not in profiles.of_tables(LOG, Columns({"known": np.ones(2, bool)}), NOTHING, synthetic_time=True)


ITEMS = Columns(
    {
        "known": np.array([True, True, True, True, False]),
        "title": Texts.of(["ab", "", "abcd", "ab", "not in the table"]),
        "category": Coded.of(["Garden > Tools", "Garden > Tools", "Garden", "Toys", "Toys"]),
        "attribute.tags": Tags.of([["x", "y"], ["x"], [], ["x"], ["z"]]),
        "price": np.array([1.0, 2.0, 4.0, NAN, 9.0], np.float32),
        "available": np.array([True, False, True, True, True]),
        "created_at": np.array([7, -1, 9, -1, 1], np.int64),
    }
)


def test_columns_of_items() -> None:
    found = profiles.of_tables(LOG, ITEMS, NOTHING)["items"]
    assert (found["rows"], found["left_out"]) == (4, 0)
    columns: dict[str, Any] = found["columns"]
    assert columns["category"] == {
        "kind": "coded",
        "nulls": 0,
        "distinct": 3,
        "values": {"Garden": 3, "Toys": 1, "Garden > Tools": 2},
        "rest": 0,
        "unlisted": 0,
        "all_tops": True,
    }
    assert columns["attribute.tags"] == {
        "kind": "tags",
        "nulls": 1,
        "distinct": 2,
        "values": {"x": 3, "y": 1},
        "rest": 0,
        "unlisted": 0,
    }
    assert columns["available"]["values"] == {"true": 3, "false": 1}
    assert columns["created_at"] == {"kind": "time", "nulls": 2, "min": 7, "max": 9}
    assert columns["title"]["nulls"] == 1
    assert columns["title"]["lengths"]["bins"] == {"409": 2, "417": 1}  # 2, 2 and 4 letters
    price = columns["price"]
    assert (price["nulls"], price["distinct"], price["min"], price["max"]) == (1, 3, 1.0, 4.0)
    assert price["quantiles"][2] == 2.0
    assert price["bins"] == {"401": 1, "409": 1, "417": 1}


def test_values_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "VALUES", 2)
    # a 3, b 2, c 2, d 1: a and b are kept; c has the most of those left out
    table = Columns({"known": np.ones(8, bool), "brand": Coded.of(list("aaabbccd"))})
    found = profiles.of_tables(LOG, table, NOTHING)["items"]["columns"]["brand"]
    assert (found["values"], found["rest"], found["unlisted"], found["distinct"]) == ({"a": 3, "b": 2}, 3, 2, 4)


def test_without_a_table_every_row_counts() -> None:
    table = Columns({"known": np.zeros(2, bool), "price": np.array([1, 2], np.float32)})
    assert profiles.of_tables(LOG, table, NOTHING)["items"]["rows"] == 2


def test_stored_and_loaded(tmp_path: Path) -> None:
    LOG.write(tmp_path / "events")
    ITEMS.write(tmp_path / "items")
    NOTHING.write(tmp_path / "users")
    assert profiles.load(tmp_path) is None
    found = profiles.store(tmp_path)
    assert found == profiles.load(tmp_path) == json.loads(json.dumps(profiles.night(tmp_path)))


@given(st.lists(st.floats(-1e12, 1e12).filter(lambda x: x == 0 or abs(x) > 1e-12), min_size=2, max_size=20))
def test_bins_keep_the_order_and_hold_their_middle(numbers: list[float]) -> None:
    values = np.sort(np.array(numbers))
    found = profiles.bins(values)
    assert np.all(np.diff(found) >= 0)
    middles = np.array([profiles.middle(int(b)) for b in found])
    # a bin is an eighth of an octave: its middle is within a sixteenth of every number in it
    np.testing.assert_allclose(middles, values, rtol=2 ** (1 / 16) - 1 + 1e-9)
    assert np.array_equal(profiles.bins(middles), found)
