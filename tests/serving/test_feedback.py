"""Feedback of bandits in a real Redis: every session and every reward counts once, in whatever order and however often they arrive."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.attribution import GivenArm, token_of
from core.erasure import Forgotten
from core.schema import SECOND
from experiments.assign import Assignment
from experiments.config import Experiment
from experiments.learning import Group, Rewarding
from serving.config import ServingConfig
from serving.event_writer import EventWriter, WrittenEvent
from serving.feedback import MOST_EVENTS, Exposure, Feedback, remembered
from serving.forget import forget
from serving.keys import Keys
from serving.redis_link import RedisLink
from serving.tally import Tally

KEYS = Keys("default")
AT = 1_700_000_000 * SECOND
WINDOW_SECONDS = 36


def experiment(**changes: Any) -> Rewarding:
    """Windows of 36 s, buckets of 10 s."""
    told: dict[str, Any] = {
        "name": "order",
        "owner": "ann",
        "hypothesis": "h",
        "unit": "session",
        "arms": {"a": {}, "b": {}},
        "control": "a",
        "allocation": {"policy": "thompson", "update_seconds": 10},
        "primary": {"name": "clicks", "events": ["click"]},
        "attribution_hours": WINDOW_SECONDS / 3600,
    }
    return Rewarding(Experiment.model_validate(told | changes))


ORDER = experiment()


class Shop:
    """What a server does of it: first pages and events."""

    def __init__(self, url: str, config: ServingConfig, of: Rewarding = ORDER) -> None:
        self.of, self.tally = of, Tally()
        link = RedisLink(url, config.redis)
        self.store = link.writes
        self.feedback = Feedback(KEYS, lambda: {of.experiment.name: of}, 7, self.tally)
        self.writer = EventWriter(link, KEYS, config.events, self.feedback)

    def page(self, session: str, arm: str, after: float = 0, version: int = 1, who: str = "") -> None:
        time = AT + round(after * SECOND)
        self.feedback.expose(
            self.store, [Exposure(self.of, Assignment("order", arm, 0.5, version), session, who, time)]
        )

    def event(self, session: str, arm: str, after: float, kind: str = "click", **more: Any) -> None:
        self.writer.write([event(session, arm, after, kind, **more)])

    @property
    def counts(self) -> dict[tuple[int, int, str], tuple[int, int, int, int]]:
        """(Bucket behind that of AT, version, arm) -> units, rewarded, total, squares."""
        found = {}
        for name, value in self.store.hgetall(KEYS.counts(self.of.tag)).items():
            g = Group.read(name.decode(), value.decode())
            found[g.bucket - AT // self.of.bucket, g.version, g.arm] = (g.units, g.rewarded, g.total, g.squares)
        return found


def event(session: str, arm: str, after: float, kind: str = "click", **more: Any) -> WrittenEvent:
    columns = {
        "event_type": kind,
        "event_time": AT + round(after * SECOND),
        "item_id": "i",
        "user_id": "ann",
        "session_id": session,
        "attribution_token": token_of("r", "q", [GivenArm("order", arm, 1)]),
    }
    return WrittenEvent.of({k: v for k, v in (columns | more).items() if v is not None})


@pytest.fixture
def shop(redis_url: str, config: ServingConfig) -> Shop:
    return Shop(redis_url, config)


def test_a_session_counts_once_and_its_rewards_are_capped(shop: Shop) -> None:
    shop.page("s1", "a")
    shop.page("s1", "a", 5)
    shop.page("s2", "b", 12)
    for after in (1, 2, 3):
        shop.event("s1", "a", after)
    assert shop.counts == {(0, 1, "a"): (1, 1, 1, 1), (1, 1, "b"): (1, 0, 0, 0)}


def test_the_window_is_half_open_and_begins_with_the_first_page(shop: Shop) -> None:
    for n, after in enumerate((-0.000001, 0, WINDOW_SECONDS - 0.000001, WINDOW_SECONDS)):
        shop.page(f"s{n}", "a")
        shop.event(f"s{n}", "a", after)
    assert shop.counts == {(0, 1, "a"): (4, 2, 2, 2)}
    # a page that was earlier and came later: s0's event at -1 µs is in its window now, and its bucket is the one before
    shop.page("s0", "b", -1)
    assert shop.counts == {(0, 1, "a"): (3, 2, 2, 2), (-1, 1, "b"): (1, 1, 1, 1)}


def test_events_before_the_record_of_the_page_and_duplicates(shop: Shop) -> None:
    late = event("s1", "a", 4, event_id="e1")
    assert shop.writer.write([late, late]) == 1
    assert shop.counts == {}
    shop.page("s1", "a")
    assert shop.writer.write([late]) == 0
    assert shop.counts == {(0, 1, "a"): (1, 1, 1, 1)}
    shop.store.delete(KEYS.event(late.hash))  # Redis has forgotten that it knows the event: the session has not
    assert shop.writer.write([late]) == 1
    assert shop.counts == {(0, 1, "a"): (1, 1, 1, 1)}


def test_a_value_is_capped_and_counted_in_ten_thousandths(redis_url: str, config: ServingConfig) -> None:
    primary = {"name": "sales", "events": ["purchase-complete"], "kind": "value"}
    of = experiment(primary=primary, allocation={"policy": "gaussian-thompson", "update_seconds": 10, "cap": 50})
    shop = Shop(redis_url, config, of)
    for n, prices in enumerate(((10.0,), (40.0, 30.0), (20.0, -5.0), (-5.0,))):
        shop.page(f"s{n}", "a")
        for at, price in enumerate(prices):
            shop.event(f"s{n}", "a", at, "purchase-complete", price=price)
    # of 50: .2, 1 (70 is more than the cap), .3, 0 (nothing is below 0): squares .04 + 1 + .09 = 1.13 of 10^8
    assert shop.counts == {(0, 1, "a"): (4, 3, 15_000, 113_000_000)}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"attribution_token": token_of("r", "q", [GivenArm("other", "a", 1)])}, "unknown-experiment"),
        ({"attribution_token": token_of("r", "q", [GivenArm("order", "c", 1)])}, "unknown-arm"),
        ({"session_id": None}, "no-session"),
        ({"attribution_token": token_of("r", "q", [GivenArm("order", "a", 0)])}, ""),
        ({"attribution_token": "@@@"}, ""),
        ({"attribution_token": None}, ""),
    ],
)
def test_what_cannot_be_attributed_is_stored_and_counts_for_nothing(
    shop: Shop, changes: dict[str, Any], why: str
) -> None:
    shop.page("s1", "a")
    shop.event("s1", "a", 1, **changes)
    assert shop.counts == {(0, 1, "a"): (1, 0, 0, 0)}
    assert shop.tally.of("feedback") == ({why: 1} if why else {})
    assert shop.store.xlen(KEYS.events) == 1


def test_a_token_that_is_made_up_moves_nothing(shop: Shop) -> None:
    shop.page("s1", "a")
    shop.event("s1", "b", 1)  # says another arm than the server gave
    shop.event("never seen", "b", 1)
    assert shop.counts == {(0, 1, "a"): (1, 1, 1, 1)}


def test_a_robots_events_end(shop: Shop) -> None:
    shop.page("s1", "a")
    shop.writer.write([event("s1", "a", n / 100, event_id=f"e{n}") for n in range(MOST_EVENTS + 5)])
    assert shop.store.hlen(KEYS.unit("s1")) == MOST_EVENTS


def test_sessions_are_forgotten_with_their_person(shop: Shop) -> None:
    shop.page("s1", "a", who="u:ann-of-old")
    shop.event("s1", "a", 1, user_id="ann-of-old")
    shop.page("s2", "b", who="u:bob-of-old")
    removed = forget(shop.store, KEYS, Forgotten.of([("ann-of-old", "")]))
    assert removed.units == 1
    assert shop.counts == {(0, 1, "b"): (1, 0, 0, 0)}
    assert not shop.store.exists(KEYS.unit("s1"), KEYS.units("u:ann-of-old"))
    assert shop.store.exists(KEYS.unit("s2"))


def test_everything_expires(shop: Shop) -> None:
    shop.page("s1", "a", who="u:ann")
    shop.event("s2", "a", 1)
    week = 7 * 86_400 + WINDOW_SECONDS
    for key in (KEYS.unit("s1"), KEYS.unit("s2"), KEYS.units("u:ann")):
        assert week - 100 < shop.store.ttl(key) <= week
    assert shop.store.ttl(KEYS.counts(ORDER.tag)) > 89 * 86_400


def test_what_was_given_is_remembered(shop: Shop) -> None:
    shop.page("s1", "b", version=7)
    said = shop.store.hget(KEYS.unit("s1"), ORDER.tag)
    assert isinstance(said, bytes)
    assert remembered("order", said) == Assignment("order", "b", 0.5, 7)


PAGES = st.tuples(st.just("page"), st.sampled_from("xyz"), st.sampled_from("ab"), st.integers(0, 60), st.integers(1, 2))
EVENTS = st.tuples(
    st.just("event"), st.sampled_from("xyz"), st.sampled_from(["click", "purchase-complete"]), st.integers(0, 90)
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.one_of(PAGES, EVENTS), max_size=12), st.randoms(use_true_random=False), st.data())
def test_any_order_and_any_repetition_gives_the_counts_of_the_definition(
    redis_url: str, config: ServingConfig, told: list[Any], chance: Any, data: st.DataObject
) -> None:
    shop = Shop(redis_url, config)
    shop.store.flushall()
    again = data.draw(st.lists(st.sampled_from(told), max_size=6)) if told else []
    order = told + again
    chance.shuffle(order)
    for one in order:
        if one[0] == "page":
            shop.page(one[1], one[2], one[3], one[4])
        else:
            shop.event(one[1], "a", one[3], one[2])
    expected: Counter[tuple[int, int, str]] = Counter()
    rewarded: Counter[tuple[int, int, str]] = Counter()
    for session in "xyz":
        pages = [(after, version, arm) for kind, s, arm, after, version in _of(told, "page") if s == session]
        if not pages:
            continue
        first, version, arm = min(pages)  # of one moment the text decides: version, then arm
        clicks = [
            t
            for _, s, what, t in _of(told, "event")
            if s == session and what == "click" and first <= t < first + WINDOW_SECONDS
        ]
        group = (first // 10, version, arm)  # AT is a multiple of the bucket
        expected[group] += 1
        rewarded[group] += bool(clicks)
    assert shop.counts == {g: (n, rewarded[g], rewarded[g], rewarded[g]) for g, n in expected.items()}


def _of(told: list[Any], kind: str) -> list[Any]:
    return [one for one in told if one[0] == kind]
