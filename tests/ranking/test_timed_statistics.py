"""Item and user statistics as of a day: by hand, against a plain recount of the raw events, and with a leak planted."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.prepared import Prepared
from core.schema import DAY, HOUR
from ranking.item_day_statistics import ItemStatistics
from ranking.statistics import STATISTICS
from ranking.user_statistics import UserStatistics, write_activity
from tests.prepared_fixture import Row, make_prepared

VIEW, CLICK, CART, BUY, BACK, SEEN = (
    "detail-page-view",
    "click",
    "add-to-cart",
    "purchase-complete",
    "return",
    "impression",
)


Price = Callable[[str, int], float]


def shop(tmp_path: Path, rows: list[Row], price: float = 5.0, **about: Any) -> Prepared:
    """Days 100 to 140."""
    cuts = (100 * DAY, 110 * DAY, 120 * DAY, 130 * DAY, 140 * DAY)
    return make_prepared(tmp_path, rows, cuts=cuts, days=True, price=lambda item, time: price, **about)


def facts(statistics: ItemStatistics | UserStatistics, row: int, day: int) -> dict[str, float]:
    values = statistics.as_of(np.array([row], np.int32), np.array([day], np.int32))[0]
    return {name.split(".")[1]: float(v) for name, v in zip(statistics.names, values, strict=True)}


def test_item_by_hand(tmp_path: Path) -> None:
    # item b: two views and a purchase on day 100 (price 5), a click on day 105, returned on day 106
    rows: list[Row] = [
        ("u:1", "b", VIEW, 100 * DAY),
        ("u:2", "b", VIEW, 100 * DAY + HOUR),
        ("u:1", "b", BUY, 100 * DAY + 2 * HOUR),
        ("u:2", "b", CLICK, 105 * DAY),
        ("u:1", "b", BACK, 106 * DAY),
        ("u:1", "a", SEEN, 100 * DAY),
    ]
    items = ItemStatistics.of(shop(tmp_path, rows))
    before = facts(items, 1, 106)
    # as of 106: views of the last 1 d (day 105) 1, of 7 d (99..105) 3; the return of that very day is not known
    assert (before["views_1d"], before["views_7d"], before["views_30d"]) == (1, 3, 3)
    assert (before["purchases_1d"], before["purchases_7d"]) == (0, 1)
    # half-life 14 d: 2 views 6 days old and 1 of 1 day
    assert math.isclose(before["views_decayed"], 2 * 2 ** (-6 / 14) + 2 ** (-1 / 14), rel_tol=1e-6)
    # (1 purchase + .03 * 30) / (3 views + 30); (0 returns + .05 * 10) / (1 + 10)
    assert math.isclose(before["conversion"], 1.9 / 33, rel_tol=1e-6)
    assert math.isclose(before["return_rate"], 0.5 / 11, rel_tol=1e-6)
    assert (before["price"], before["age_days"]) == (5, 6)
    # 4 events in both windows: log2((4/7 + .1) / (4/30 + .1))
    assert math.isclose(before["trend"], math.log2((4 / 7 + 0.1) / (4 / 30 + 0.1)), rel_tol=1e-6)
    after = facts(items, 1, 107)
    assert (after["purchases_1d"], after["purchases_7d"]) == (-1, 0)
    assert math.isclose(after["return_rate"], 1.5 / 11, rel_tol=1e-6)
    defaults = facts(items, 1, 100)
    assert (defaults["views_30d"], defaults["age_days"], defaults["price"]) == (0, -1, 0)
    assert facts(items, -1, 120) == defaults


def test_user_by_hand(tmp_path: Path) -> None:
    # u:1 buys two items at 5 on day 100, views on 103, returns one on 110; impressions are nothing that a person did
    rows: list[Row] = [
        ("u:1", "a", BUY, 100 * DAY),
        ("u:1", "b", BUY, 100 * DAY),
        ("u:1", "a", VIEW, 103 * DAY),
        ("u:1", "a", BACK, 110 * DAY),
        ("u:1", "a", SEEN, 112 * DAY),
    ]
    users = UserStatistics.of(shop(tmp_path, rows))
    at = facts(users, 0, 110)
    assert (at["events"], at["events_7d"], at["purchases"], at["spend_30d"]) == (3, 1, 2, 10)
    assert (at["tenure_days"], at["recency_days"], at["active_days"], at["active_days_30d"]) == (10, 7, 2, 2)
    assert math.isclose(at["price_level"], math.log(6), rel_tol=1e-6)
    assert math.isclose(at["gain_decayed"], 2 * 2 ** (-10 / 30), rel_tol=1e-6)
    later = facts(users, 0, 114)
    assert (later["purchases"], later["spend_30d"], later["recency_days"], later["events"]) == (1, 5, 4, 4)
    assert facts(users, 0, 100)["tenure_days"] == -1


def test_the_folder_of_user_state_answers_the_same(tmp_path: Path) -> None:
    rows: list[Row] = [("u:1", "a", BUY, 100 * DAY), ("v:x", "b", VIEW, 104 * DAY)]
    prepared = shop(tmp_path, rows)
    write_activity(prepared, tmp_path / "state")
    asked = np.array([0, 1, 5]), np.array([105, 105, 105])
    np.testing.assert_array_equal(
        UserStatistics.open(tmp_path / "state").as_of(*asked), UserStatistics.of(prepared).as_of(*asked)
    )


def test_an_invented_clock_leaves_timed_statistics_at_their_defaults(tmp_path: Path) -> None:
    prepared = shop(tmp_path, [("u:1", "a", BUY, 100 * DAY)], synthetic_time=True)
    for statistics in (ItemStatistics.of(prepared), UserStatistics.of(prepared)):
        values = facts(statistics, 0, 101)
        for s in statistics.statistics:
            assert not s.timed or math.isclose(values[s.field], s.default, rel_tol=1e-6)
    assert values["purchases"] == 1


def test_every_statistic_is_declared_once() -> None:
    names = [s.name for s in STATISTICS]
    assert len(set(names)) == len(names)
    assert all(s.name.startswith(f"{s.entity}.") for s in STATISTICS)
    assert all(s.ratio is None or {s.ratio.over, s.ratio.under} <= set(names) for s in STATISTICS)


def some_events(seed: int, n: int = 150) -> list[Row]:
    """Anything by 3 people with 3 items, at any microsecond of days 100 to 139; each id is there from the start."""
    rng = np.random.default_rng(seed)
    people, items, kinds = ["u:1", "u:2", "v:3"], ["a", "b", "c"], [VIEW, CLICK, CART, BUY, BUY, BACK, SEEN]
    whose, what, how = (rng.integers(0, len(x), n) for x in (people, items, kinds))
    when = rng.integers(100 * DAY, 140 * DAY, n)
    rows: list[Row] = [
        (people[u], items[i], kinds[k], int(t)) for u, i, k, t in zip(whose, what, how, when, strict=True)
    ]
    return rows + [(u, i, SEEN, 100 * DAY) for u, i in zip(people, items, strict=True)]


def some_price(item: str, time: int) -> float:
    return float("nan") if time % 3 == 0 else 1.0 + time % 7


def some_shop(tmp_path: Path, rows: list[Row]) -> Prepared:
    cuts = (100 * DAY, 110 * DAY, 120 * DAY, 130 * DAY, 140 * DAY)
    return make_prepared(tmp_path, rows, cuts=cuts, days=True, price=some_price)


@pytest.mark.parametrize("n", [3, 30, 150])
def test_as_of_is_a_recount_of_the_events_before_the_day(tmp_path: Path, n: int) -> None:
    rows = some_events(n, n)
    prepared = some_shop(tmp_path, rows)
    items, users = ItemStatistics.of(prepared), UserStatistics.of(prepared)
    for day in range(99, 143):
        for row in range(3):
            mine = [r for r in rows if r[1] == prepared.item_ids[row] and r[3] < day * DAY]
            assert_equal(facts(items, row, day), recount_item(mine, day, some_price))
            mine = [r for r in rows if r[0] == prepared.user_ids[row] and r[3] < day * DAY]
            assert_equal(facts(users, row, day), recount_user(mine, day, some_price))


@pytest.mark.parametrize("day", [101, 115, 139])
def test_planted_events_from_the_day_on_change_no_bit(tmp_path: Path, day: int) -> None:
    rows = some_events(day)
    known = [r for r in rows if r[3] < day * DAY]
    # at the very start of the day, and all that came after it
    planted: list[Row] = [("u:1", "a", BUY, day * DAY), ("u:2", "b", BACK, day * DAY)]
    answers = []
    for name, events in (("known", known), ("planted", rows + planted)):
        prepared = some_shop(tmp_path / name, events)
        asked = np.arange(3), np.full(3, day)
        answers.append([s.as_of(*asked) for s in (ItemStatistics.of(prepared), UserStatistics.of(prepared))])
    for a, b in zip(*answers, strict=True):
        np.testing.assert_array_equal(a, b)


def recount_item(rows: list[Row], day: int, price: Price) -> dict[str, float]:
    def count(kinds: tuple[str, ...], width: int | None = None) -> float:
        return sum(r[2] in kinds for r in rows if width is None or r[3] >= (day - width) * DAY)

    def faded(kinds: tuple[str, ...]) -> float:
        return float(sum(2.0 ** ((r[3] // DAY - day) / 14) for r in rows if r[2] in kinds))

    out: dict[str, float] = {}
    for what, plus, minus in (("views", (VIEW, CLICK), ()), ("carts", (CART,), ()), ("purchases", (BUY,), (BACK,))):
        for width in (1, 7, 30):
            out[f"{what}_{width}d"] = count(plus, width) - count(minus, width)
        out[f"{what}_decayed"] = faded(plus) - faded(minus)
    done = (VIEW, CLICK, CART, BUY, BACK)
    stated = max(((r[3], price(r[1], r[3])) for r in rows if price(r[1], r[3]) > 0), default=(0, 0.0))
    return out | {
        "conversion": min((count((BUY,), 30) + 0.9) / (count((VIEW, CLICK), 30) + 30), 1),
        "return_rate": min((count((BACK,)) + 0.5) / (count((BUY,)) + 10), 1),
        "price": stated[1],
        "age_days": day - min((r[3] // DAY for r in rows), default=day + 1),
        "trend": math.log2((count(done, 7) / 7 + 0.1) / (count(done, 30) / 30 + 0.1)),
    }


def recount_user(rows: list[Row], day: int, price: Price) -> dict[str, float]:
    rows = [r for r in rows if r[2] != SEEN]
    days = [r[3] // DAY for r in rows]
    paid = [price(r[1], r[3]) for r in rows]
    money = [0.0 if math.isnan(p) else p * ((r[2] == BUY) - (r[2] == BACK)) for r, p in zip(rows, paid, strict=True)]
    net = [float((r[2] == BUY) - (r[2] == BACK)) for r in rows]
    out: dict[str, float] = {}
    for what, values in (("events", [1.0] * len(rows)), ("purchases", net), ("spend", money)):
        for width in (1, 7, 30):
            out[f"{what}_{width}d"] = sum(v for v, d in zip(values, days, strict=True) if d >= day - width)
        out[f"{what}_decayed"] = sum(v * 2.0 ** ((d - day) / 30) for v, d in zip(values, days, strict=True))
    logs = [math.log1p(p) for r, p in zip(rows, paid, strict=True) if r[2] == BUY and p > 0]
    gains = [1.0 if r[2] == BUY else 0.0 for r in rows]
    return out | {
        "events": len(rows),
        "purchases": sum(net),
        "gain_decayed": sum(g * 2.0 ** ((d - day) / 30) for g, d in zip(gains, days, strict=True)),
        "tenure_days": day - min(days, default=day + 1),
        "recency_days": day - max(days, default=day + 1),
        "active_days": len(set(days)),
        "active_days_30d": len({d for d in days if d >= day - 30}),
        "price_level": sum(logs) / max(len(logs), 1),
    }


def assert_equal(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert math.isclose(found[name], value, rel_tol=1e-5, abs_tol=1e-5), (name, found[name], value)
