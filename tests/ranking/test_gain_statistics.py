"""Tastes, cohorts and pairs as of a day, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from core.columns import Coded
from core.prepared import Prepared
from core.schema import DAY
from ranking.gain_statistics import Cohorts, affinity, tastes
from ranking.pair_statistics import PairStatistics
from ranking.user_statistics import UserStatistics
from tests.prepared_fixture import Row, make_prepared

BUY = "purchase-complete"


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    # items a and b are shoes, c is a hat; u:1 is German, u:2 is not known to be from anywhere
    rows: list[Row] = [
        ("u:1", "a", BUY, 100 * DAY),
        ("u:1", "b", BUY, 100 * DAY + 1),
        ("u:1", "c", BUY, 130 * DAY),
        ("u:2", "a", BUY, 130 * DAY),
        ("u:2", "c", BUY, 130 * DAY + 1),
    ]
    return make_prepared(
        tmp_path_factory.mktemp("shop"),
        rows,
        cuts=(100 * DAY, 110 * DAY, 120 * DAY, 125 * DAY, 131 * DAY),
        days=True,
        pairs=True,
        columns={"category": Coded.of(["shoes", "shoes", "hats"])},
        columns_of_people={"attribute.country": Coded.of(["DE", None])},
    )


def test_affinity_is_a_share_of_decayed_gain(prepared: Prepared) -> None:
    # categories: 0 hats, 1 shoes. u:1 as of day 131: shoes 2 * 2^(-31/30), hats 2^(-1/30)
    days, people = np.array([131, 131, 130, 131]), np.array([0, 0, 0, -1])
    taste = tastes(prepared, "category").as_of(people, np.array([0, 1, 0, 0]), days)
    gain = UserStatistics.of(prepared).as_of(people, days)[:, UserStatistics.names.index("user.gain_decayed")]
    shoes, hats = 2 * 2 ** (-31 / 30), 2 ** (-1 / 30)
    np.testing.assert_allclose(taste, [hats, shoes, 0, 0], rtol=1e-6)
    # the last day's hat is nothing yet as of its own morning
    np.testing.assert_allclose(affinity(taste, gain), [hats / (hats + shoes), shoes / (hats + shoes), 0, 0], rtol=1e-6)


def test_popularity_within_cohorts(prepared: Prepared) -> None:
    cohorts = Cohorts.of(prepared, ("country", "device"))
    assert cohorts.names == ("all", "category=hats", "category=shoes", "country=DE")
    # half-life 14 d, as of day 131. all: 2 of day 100, 3 of day 130; Germans: 2 and 1; item c: 2 of all, 1 of the Germans
    old, new = 2 ** (-31 / 14), 2 ** (-1 / 14)
    found = cohorts.popularity(np.array([0, 3, 1, 2]), np.array([2, 2, 2, 2]), np.full(4, 131))
    expected = [2 * new / (2 * old + 3 * new + 20), new / (2 * old + new + 20), 2 * new / (2 * new + 20), 0]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_pairs_are_known_from_the_day_after_their_cut(prepared: Prepared) -> None:
    pairs = PairStatistics(prepared)
    assert pairs.cut_days.tolist() == [110, 120, 125, 131]
    # a then b is known at the cut of day 110; a then c from 131 on; 109 and an unknown pair know nothing
    found = pairs.as_of(np.array([0, 0, 0, 0]), np.array([1, 1, 2, 2]), np.array([110, 109, 130, 131]))
    assert found[:, 2].tolist() == [1, 0, 0, 2]  # times c followed a within 3 places: u:1 (two places on) and u:2
    # alone, a pair has all of both totals: decayed / sqrt(decayed * decayed)
    np.testing.assert_allclose(found[0], [1, 1, 1, 1], rtol=1e-6)


def test_scores_do_not_see_the_age_of_the_log(prepared: Prepared) -> None:
    # `decayed` is relative to the newest event of the log; the score as of day 110 must not change when more is known later
    known = PairStatistics(prepared).known(1)
    assert known.source.tolist() == [0, 1]  # a with b, and b with a
    assert known.values[:, 1].tolist() == [1, 1]
