from __future__ import annotations

from pathlib import Path

import numpy as np

from core.columns import Columns
from core.schema import DAY, HOUR, EventType
from data_prep.days import DaySums, net_money

BUY, VIEW, RETURN = EventType.PURCHASE_COMPLETE.code, EventType.DETAIL_PAGE_VIEW.code, EventType.RETURN.code


def test_a_return_takes_its_money_back_on_its_own_day(tmp_path: Path) -> None:
    # user 0 buys 2 of item 1 at 5.00 on day 100, views it twice, and returns one on day 103; user 1 buys one on day 100
    users = np.array([0, 0, 0, 0, 1])
    items = np.array([1, 1, 1, 1, 1])
    times = np.array([100, 100, 100, 103, 100]) * DAY + np.arange(5) * HOUR
    types = np.array([BUY, VIEW, VIEW, RETURN, BUY])
    money = net_money(types, np.array([5, 5, 5, 5, 5], np.float32), np.array([2, 1, 1, 1, 1], np.float32))
    assert money.tolist() == [10, 0, 0, -5, 5]
    sums = DaySums(2, 3, (100, 103), tmp_path)
    sums.add(users, items, times, types, money)
    assert sums.write(tmp_path) == {"item_days": 2, "user_days": 3}
    item_days, user_days = Columns.open(tmp_path / "item_days"), Columns.open(tmp_path / "user_days")
    assert rows(item_days, "item", "day", "purchase-complete", "detail-page-view", "return", "revenue", "users") == [
        (1, 100, 2, 2, 0, 15, 2),
        (1, 103, 0, 0, 1, -5, 1),
    ]
    assert rows(user_days, "user", "day", "purchase-complete", "spend", "items") == [
        (0, 100, 1, 10, 1),
        (0, 103, 0, -5, 1),
        (1, 100, 1, 5, 1),
    ]


def test_an_unknown_price_counts_no_money() -> None:
    assert net_money(np.array([BUY]), np.array([np.nan], np.float32), np.array([3], np.float32)).tolist() == [0]


def test_people_of_several_chunks_add_up(tmp_path: Path) -> None:
    # the same item and day in two chunks, each with another person
    sums = DaySums(2, 1, (0, 0), tmp_path)
    for user in (0, 1):
        sums.add(np.array([user]), np.array([0]), np.array([HOUR]), np.array([VIEW]), np.zeros(1))
    sums.write(tmp_path)
    assert rows(Columns.open(tmp_path / "item_days"), "item", "day", "detail-page-view", "users") == [(0, 0, 2, 2)]


def rows(columns: Columns, *names: str) -> list[tuple[float, ...]]:
    return list(zip(*(columns.numbers(n).tolist() for n in names), strict=True))
