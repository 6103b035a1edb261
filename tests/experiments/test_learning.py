"""What a bandit learns from its counts: when units count, what they weigh, and what it decides."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from core.schema import DAY, HOUR, MINUTE
from experiments.config import Experiment
from experiments.learning import Group, Rewarding, Shares, by_arm, learned
from experiments.policies import FLOOR

TOLD: dict[str, Any] = {
    "name": "order",
    "owner": "ann",
    "hypothesis": "h",
    "unit": "session",
    "arms": {"a": {}, "b": {}},
    "control": "a",
    "allocation": {"policy": "ucb", "update_seconds": 600},
    "primary": {"name": "clicks", "events": ["click"]},
    "attribution_hours": 1,
}


def rewarding(**changes: Any) -> Rewarding:
    return Rewarding(Experiment.model_validate(TOLD | changes))


ORDER = rewarding()
# bucket 0 lasts 10 minutes; the window of its last unit is over 60 minutes later
GROUPS = (Group(0, 1, "a", 100, 10, 10, 10), Group(0, 1, "b", 100, 50, 50, 50))
OVER = 70 * MINUTE


def test_before_anything_is_seen_every_process_says_the_same() -> None:
    first = Shares.first(ORDER.experiment)
    assert (first.version, first.shares) == (1, {"a": 0.5, "b": 0.5})


def test_units_count_once_their_window_is_over() -> None:
    first = Shares.first(ORDER.experiment)
    assert learned(OVER - 1, ORDER, first, GROUPS, "l") is None
    second = learned(OVER, ORDER, first, GROUPS, "l")
    assert second is not None
    assert (second.version, second.at, second.life) == (2, OVER, "l")
    assert second.seen == {"a": (100, 10, 10), "b": (100, 50, 50)}
    assert second.shares == pytest.approx({"a": FLOOR / 2, "b": 1 - FLOOR / 2})
    assert learned(OVER + HOUR, ORDER, second, GROUPS, "l") is None  # nothing new


def test_what_is_old_weighs_less() -> None:
    fading = rewarding(allocation={"policy": "ucb", "half_life_days": 1})
    found = learned(10 * MINUTE + DAY, fading, Shares.first(fading.experiment), GROUPS, "l")
    assert found is not None
    assert found.seen == {
        "a": pytest.approx((50, 5, 5)),
        "b": pytest.approx((50, 25, 25)),
    }  # one half-life after it ended


def test_steps_are_parts_of_the_cap() -> None:
    primary = {"name": "sales", "events": ["purchase-complete"], "kind": "value"}
    sales = rewarding(primary=primary, allocation={"policy": "gaussian-thompson", "cap": 50})
    assert (sales.cap, sales.bucket) == (10_000, 10 * MINUTE)
    # 2 of 5 each are .2 of 50
    assert sales.reward({"event_type": "purchase-complete", "price": 5.0, "quantity": 2.0}) == 2_000
    assert sales.reward({"event_type": "purchase-complete", "value": 25.0}) == 5_000
    assert sales.reward({"event_type": "click", "value": 25.0}) is None
    found = learned(OVER, sales, Shares.first(sales.experiment), [Group(0, 1, "a", 4, 3, 15_000, 113_000_000)], "l")
    assert found is not None
    assert found.seen["a"] == pytest.approx((4, 1.5, 1.13))


def test_counts_that_redis_lost_stay_known() -> None:
    second = learned(OVER, ORDER, Shares.first(ORDER.experiment), GROUPS, "l")
    assert second is not None
    assert learned(OVER + 1, ORDER, second, (), "another life") is None  # nothing new: the shares stay
    bucket = OVER // ORDER.bucket + 1
    later = (bucket + 1) * ORDER.bucket + ORDER.window
    third = learned(later, ORDER, second, [Group(bucket, 2, "a", 10, 1, 1, 1)], "another life")
    assert third is not None
    assert third.seen == {"a": (110, 11, 11), "b": (100, 50, 50)}
    fourth = learned(later + 1, ORDER, third, [Group(bucket, 2, "a", 12, 1, 1, 1)], "another life")
    assert fourth is not None
    assert fourth.seen["a"] == (112, 11, 11)  # of the lives before once


def test_a_version_is_read_as_it_was_said() -> None:
    second = learned(OVER, ORDER, Shares.first(ORDER.experiment), GROUPS, "l")
    assert second is not None
    assert Shares.heard(second.said, ["a", "b"]) == second
    for text in (
        "{}",
        "[]",
        "no JSON",
        second.said.replace('"b"', '"c"'),
        '{"version": 1, "shares": {"a": 2, "b": 3}}',
    ):
        with pytest.raises(ValueError, match=r".*"):
            Shares.heard(text, ["a", "b"])


def test_units_by_arm_are_all_that_were_exposed() -> None:
    held = rewarding(holdout=0.1)
    groups = [*GROUPS, Group(9, 3, "a", 5, 0, 0, 0), Group(9, 3, "holdout", 2, 1, 1, 1)]
    assert by_arm(held.experiment, groups) == {"a": (105, 10), "b": (100, 50), "holdout": (2, 1)}


def test_another_way_of_counting_has_another_name() -> None:
    same = rewarding(owner="bob", lift=0.5, end="2030-01-01")
    others = [
        rewarding(arms={"a": {}, "b": {}, "c": {}}),
        rewarding(attribution_hours=2),
        rewarding(primary={"name": "clicks", "events": ["click", "add-to-cart"]}),
        rewarding(allocation={"policy": "ucb", "update_seconds": 900}),
    ]
    assert same.tag == ORDER.tag
    assert len({ORDER.tag, *(o.tag for o in others)}) == 5


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"primary": {"name": "m", "events": ["click"], "kind": "ratio", "per": ["click"]}}, "a ratio is of all units"),
        ({"allocation": {"policy": "ucb", "cap": 2}}, "a rate is 0 or 1 already"),
        ({"primary": {"name": "m", "events": ["click"], "kind": "count"}}, "say which count of one unit counts as 1"),
        (
            {
                "primary": {"name": "m", "events": ["click"], "kind": "count"},
                "allocation": {"policy": "ucb", "cap": 1.5},
            },
            "1.5 is no count",
        ),
    ],
)
def test_rewards_that_cannot_be_counted_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        rewarding(**changes)


def test_an_absurd_value_counts_as_the_cap_and_breaks_nothing() -> None:
    of = rewarding(primary={"name": "m", "events": ["click"], "kind": "value"}, allocation={"policy": "ucb", "cap": 50})
    large = [
        of.reward({"event_type": "click", **columns})
        for columns in ({"value": 1e308}, {"price": 1e200, "quantity": 1e200})
    ]
    small = of.reward({"event_type": "click", "value": -1e308})
    assert small is not None
    assert large == [-small, -small]
    assert of.cap < -small < 2**53 / 400  # sums of 400 are exact in Redis
