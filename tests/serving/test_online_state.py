import itertools

import numpy as np
import pytest
import redis as redis_py

from core.history import History
from core.schema import DAY, HOUR, EventType
from core.work import Work
from ranking.user_facts import NAMES, NEVER, Snapshot
from serving.config import ServingConfig
from serving.failures import Failure
from serving.keys import Keys
from serving.materialize import is_materialized, materialize
from serving.online_state import OnlineState, Person, joined
from serving.packing import LiveEvent, PackedPerson, pack_live, pack_person
from serving.redis_link import RedisLink
from serving.release import Release
from serving.user_state import UserState
from tests.serving.shop import END, PURCHASES

NOW = END + DAY
BOUGHT, CART = EventType.PURCHASE_COMPLETE.code, EventType.ADD_TO_CART.code
_number = itertools.count(1)


@pytest.fixture(scope="module")
def release(shop: Work) -> Release:
    return Release.open(shop.current)


@pytest.fixture
def state(redis_url: str, config: ServingConfig) -> OnlineState:
    return OnlineState(RedisLink(redis_url, config.redis), Keys("default"), 200)


def load(shop: Work, release: Release, url: str, window_end: int = END) -> int:
    return materialize(url, "default", shop.user_state(END), window_end, release.state_id, 100).users


def live(item: str, time: int, kind: int = CART, number: int | None = None) -> LiveEvent:
    return LiveEvent(next(_number) if number is None else number, kind, time, item)


def history(release: Release, *events: tuple[str, int, int]) -> History:
    items, times, types = zip(*events, strict=True)
    rows = release.item_ids.rows(items)
    return History(rows, np.array(times, np.int64), np.array(types, np.int8), np.ones(len(items), np.float32))


def named(release: Release, found: History) -> list[str]:
    return [release.item_ids[row] for row in found.items.tolist()]


def test_reads_what_was_materialized(shop: Work, release: Release, redis_url: str, state: OnlineState) -> None:
    assert load(shop, release, redis_url) == len(PURCHASES)
    offline = UserState.open(shop.user_state(END))
    for person, items in PURCHASES.items():
        kind, name = person.split(":")
        read = state.read(release, Person(user_id=name) if kind == "u" else Person(visitor_id=name), NOW)
        assert read.failure is None
        assert named(release, read.history) == items
        row = offline.ids.row(person)
        assert read.user == row
        assert read.history.times.tolist() == offline.histories.before(row).times.tolist()
        of_batch = offline.facts.at(row, NOW)
        assert read.facts is not None
        assert of_batch is not None
        assert read.facts.tolist() == of_batch.tolist()


def test_facts_are_as_of_the_windows_end_until_they_expire(
    shop: Work, release: Release, redis_url: str, state: OnlineState
) -> None:
    """ann bought on the 5 days before END, the last one at END - 1 day + 28 us, which is the day before END's."""
    load(shop, release, redis_url)
    later = state.read(release, Person("ann"), END + 300 * DAY).facts
    assert later is not None
    assert dict(zip(NAMES, later.tolist(), strict=True))["user.recency_days"] == 1
    assert dict(zip(NAMES, later.tolist(), strict=True))["user.active_days_30d"] == 5
    # the row changed last when the day before END became known: on END's day; 365 days and a microsecond later it is too old
    last = (END // DAY + 365) * DAY
    assert state.read(release, Person("ann"), last).facts is not None
    assert state.read(release, Person("ann"), last + 1).facts is None
    assert state.read(release, Person("nobody"), NOW).facts is None


def test_a_visitors_past_counts_only_where_the_user_has_none(
    shop: Work, release: Release, redis_url: str, state: OnlineState
) -> None:
    load(shop, release, redis_url)
    assert named(release, state.read(release, Person("cid", "guest"), NOW).history) == PURCHASES["u:cid"]
    assert named(release, state.read(release, Person("newcomer", "guest"), NOW).history) == PURCHASES["v:guest"]


def test_a_user_who_only_says_something_hides_no_visitors_past(
    shop: Work, release: Release, redis_url: str, state: OnlineState, store: redis_py.Redis
) -> None:
    load(shop, release, redis_url)
    key = Keys.history(Keys("default").window(END, release.state_id), "u:newcomer")
    snapshot, told = Snapshot(NEVER, np.zeros(len(NAMES), np.float32)), np.array([4, 7], np.uint64)
    store.set(key, pack_person(PackedPerson(99, History(), snapshot, told)))
    both = state.read(release, Person("newcomer", "guest"), NOW)
    assert named(release, both.history) == PURCHASES["v:guest"]
    assert both.attributes.tolist() == [4, 7]
    alone = state.read(release, Person("newcomer"), NOW)
    assert (len(alone.history), alone.facts, alone.failure) == (0, None, None)
    assert alone.attributes.tolist() == [4, 7]
    assert len(state.read(release, Person("ann"), NOW).attributes) == 0


def test_live_events_of_user_visitor_and_session_join_once(
    release: Release, state: OnlineState, store: redis_py.Redis
) -> None:
    both = live("tea-5", NOW - 3)
    for who, event in (("u:x", live("pot-1", NOW - 5)), ("v:y", both), ("s:z", both), ("s:z", live("pot-2", NOW - 1))):
        store.lpush(f"aisle:default:live:{who}", pack_live(event))
    read = state.read(release, Person("x", "y", "z"), NOW)
    assert named(release, read.history) == ["pot-1", "tea-5", "pot-2"]
    assert read.history.gains.tolist() == pytest.approx([0.4] * 3)  # of add-to-cart
    assert read.failure == Failure.STATE_MISSING  # the window is not there, and the answer says so


def test_without_the_marker_histories_do_not_count(
    shop: Work, release: Release, redis_url: str, state: OnlineState, store: redis_py.Redis
) -> None:
    load(shop, release, redis_url)
    assert state.holds(release)
    store.delete(*list(store.scan_iter("*:complete")))
    read = state.read(release, Person("ann"), NOW)
    assert (len(read.history), read.failure) == (0, Failure.STATE_MISSING)
    assert not state.holds(release)


def test_a_value_of_another_version_degrades(
    shop: Work, release: Release, redis_url: str, state: OnlineState, store: redis_py.Redis
) -> None:
    load(shop, release, redis_url)
    key = Keys.history(Keys("default").window(END, release.state_id), "u:ann")
    store.set(key, b"\x09" + pack_person(PackedPerson(0, History(), Snapshot(NEVER, np.zeros(0))))[1:])
    assert state.read(release, Person("ann"), NOW).failure == Failure.STATE_UNREADABLE


def test_an_event_already_in_the_window_counts_once(release: Release) -> None:
    past = history(release, ("tea-1", END - DAY, BOUGHT), ("tea-2", END - HOUR, BOUGHT))
    same, late, newer = (
        live("tea-2", END - HOUR, BOUGHT),
        live("cup-1", END - 2 * HOUR, BOUGHT),
        live("cup-2", END + 1, BOUGHT),
    )
    assert named(release, joined(release, past, [newer, late, same], NOW)) == ["tea-1", "cup-1", "tea-2", "cup-2"]


def test_unknown_items_do_not_count_and_a_fast_clock_hides_nothing(release: Release) -> None:
    ahead = joined(release, History(), [live("no-such-item", NOW), live("tea-3", NOW + HOUR)], NOW)
    assert named(release, ahead) == ["tea-3"]
    assert ahead.times.tolist() == [NOW - 1]  # strictly before the request


def test_events_of_one_moment_are_in_the_order_of_prepared_data(release: Release) -> None:
    """However they were written: by item row (of the sorted ids), then by type. So training sees the history that serving saw."""
    seen, bought = (live("tea-3", NOW - 9, t) for t in sorted((CART, BOUGHT)))
    past = history(release, ("pot-2", NOW - 9, BOUGHT))
    found = joined(release, past, [bought, live("cup-1", NOW - 9), seen], NOW)
    assert named(release, found) == ["cup-1", "pot-2", "tea-3", "tea-3"]
    assert found.types.tolist()[2:] == [seen.type, bought.type]


def test_no_more_than_the_release_reads(release: Release) -> None:
    many = [live("tea-1", NOW - n) for n in range(1, 300)]
    assert len(joined(release, History(), many, NOW)) == release.settings.history_events


def test_windows_that_no_release_needs_are_removed(
    shop: Work, release: Release, redis_url: str, store: redis_py.Redis
) -> None:
    store.set("aisle:default:live:u:ann", "stays")
    store.set("aisle:other:1:2:h:u:ann", "of another tenant")
    for window_end in (END, END + 1, END + 2):
        load(shop, release, redis_url, window_end)
    there = [is_materialized(redis_url, "default", end, release.state_id, 100) for end in (END, END + 1, END + 2)]
    assert there == [False, True, True]
    windows = 2 * (len(PURCHASES) + 1)
    assert store.dbsize() == windows + 3  # and the index of windows, a live list, the other tenant


def test_longer_histories_than_were_loaded_are_loaded_again(shop: Work, release: Release, redis_url: str) -> None:
    load(shop, release, redis_url)
    assert is_materialized(redis_url, "default", END, release.state_id, 100)
    assert not is_materialized(redis_url, "default", END, release.state_id, 101)
    assert not is_materialized(redis_url, "default", END, "0" * 64, 100)
