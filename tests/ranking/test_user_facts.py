"""A person's snapshot as of the day of a request, and when it expires."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.columns import Array
from core.ids import NO_ROW
from core.prepared import Prepared
from core.schema import DAY
from ranking.user_facts import NAMES, NEVER, TTL, UserFacts
from ranking.user_statistics import write_activity
from tests.prepared_fixture import make_prepared

DAY_0 = 19_000  # days since the epoch
START = DAY_0 * DAY
NOON = DAY // 2
ROWS = [
    ("u:ann", "a", "purchase-complete", START + NOON),
    ("u:ann", "b", "detail-page-view", START + 9 * DAY + NOON),
    ("u:ann", "a", "purchase-complete", START + 10 * DAY + NOON),
    ("u:bob", "a", "impression", START + 1),  # which is nothing done
]
CUTS = [START, START + 1 * DAY, START + 2 * DAY, START + 3 * DAY, START + 10 * DAY + NOON + 1]


@pytest.fixture
def shop(tmp_path: Path) -> Prepared:
    return make_prepared(tmp_path, ROWS, cuts=CUTS, days=True, price=lambda item, _: 3.0 if item == "a" else 8.0)


def named(found: Array | None) -> dict[str, float]:
    assert found is not None
    return {name.removeprefix("user."): round(float(v), 4) for name, v in zip(NAMES, found, strict=True)}


# As of day 10: bought for 3 on day 0, looked on day 9; a purchase at noon of that very day is not in it.
# Decayed by a half-life of 30 days: 2^(-10/30) + 2^(-1/30) = 0.7937 + 0.9772.
ON_DAY_10 = {
    "tenure_days": 10,
    "recency_days": 1,
    "active_days_30d": 2,
    "purchases_30d": 1,
    "spend_30d": 3,
    "events_decayed": 1.7709,
    "price_level": 1.3863,  # log 4
}


@pytest.mark.parametrize("moment", [0, NOON, DAY - 1])
def test_a_request_sees_what_was_before_its_own_day(shop: Prepared, moment: int) -> None:
    ann = shop.user_ids.row("u:ann")
    assert named(UserFacts.of(shop).at(ann, START + 10 * DAY + moment)) == ON_DAY_10


def test_after_the_window_of_a_release_the_snapshot_stays(shop: Prepared) -> None:
    ann = shop.user_ids.row("u:ann")
    facts = UserFacts.of(shop, shop.cuts.end)
    assert named(facts.at(ann, START + 200 * DAY)) == ON_DAY_10
    assert named(facts.at_window_end(np.array([ann]))[0][0]) == ON_DAY_10
    assert named(UserFacts.of(shop).at(ann, START + 200 * DAY))["recency_days"] == 190


def test_it_expires_a_year_after_it_last_changed(shop: Prepared) -> None:
    """As of day 10 it last changed on day 10, when the look on day 9 became known."""
    ann, facts = shop.user_ids.row("u:ann"), UserFacts.of(shop, shop.cuts.end)
    assert facts.at(ann, START + 10 * DAY + TTL) is not None
    assert facts.at(ann, START + 10 * DAY + TTL + 1) is None


def test_leaving_a_window_is_a_change(shop: Prepared) -> None:
    """What was done on day 10 leaves the window of 30 days on day 41."""
    ann = np.array([shop.user_ids.row("u:ann")])
    days = [int(UserFacts.of(shop).as_of(ann, np.array([DAY_0 + d]))[1][0]) for d in (0, 1, 40, 41, 99)]
    assert days == [NEVER, *(DAY_0 + d for d in (1, 40, 41, 41))]


@pytest.mark.parametrize("who", ["u:bob", "u:nobody"])
def test_who_did_nothing_has_none(shop: Prepared, who: str) -> None:
    row = shop.user_ids.row(who)
    assert (row == NO_ROW) == (who == "u:nobody")
    assert UserFacts.of(shop).at(row, CUTS[-1]) is None


def test_a_purchase_on_the_day_itself_or_later_changes_nothing(shop: Prepared, tmp_path: Path) -> None:
    """A planted leak would: ann buys ten more things right after the snapshot's midnight."""
    (tmp_path / "more").mkdir()
    later = [("u:ann", "b", "purchase-complete", START + 10 * DAY + n) for n in range(10)]
    planted = make_prepared(tmp_path / "more", ROWS + later, cuts=CUTS, days=True, price=lambda *_: 3.0)
    ann = shop.user_ids.row("u:ann")
    assert named(UserFacts.of(planted).at(ann, START + 10 * DAY + NOON)) == ON_DAY_10


def test_with_an_invented_clock_nobody_has_one(tmp_path: Path) -> None:
    shop = make_prepared(tmp_path, ROWS, cuts=CUTS, days=True, synthetic_time=True)
    assert UserFacts.of(shop).at(shop.user_ids.row("u:ann"), CUTS[-1]) is None


def test_user_state_carries_all_that_is_needed(shop: Prepared, tmp_path: Path) -> None:
    write_activity(shop, tmp_path / "state")
    rows, days = np.arange(2), np.full(2, DAY_0 + 10)
    ours, stored = UserFacts.of(shop).as_of(rows, days), UserFacts.open(tmp_path / "state").as_of(rows, days)
    assert all(np.array_equal(a, b) for a, b in zip(ours, stored, strict=True))
