"""Events that come with a request count as the person's newest, for that answer."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
import redis as redis_py

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import ExplainRequest, RecentEvent, RecommendRequest, RecommendResponse
from core.errors import InputError
from core.history import History
from core.schema import EventType
from core.work import Work
from serving.client import Client
from serving.config import LogConfig, ServingConfig
from serving.online_state import PersonState
from serving.process import ServingProcess
from serving.recent_events import MAX_RECENT, with_recent
from serving.release import Release
from tests.serving.conftest import options_for
from tests.serving.shop import END
from tests.waiting import until

PICKS = [RecentEvent(item_id="tea-1"), RecentEvent(item_id="tea-2")]
WISH, VIEW = EventType.ADD_TO_WISHLIST.code, EventType.DETAIL_PAGE_VIEW.code


def ids(response: RecommendResponse) -> list[str]:
    return [r.item_id for r in response.results]


def test_picks_are_the_history_of_a_newcomer(ask: Client) -> None:
    stranger = ask.recommend(RecommendRequest(visitor_id="new"))
    welcomed = ask.recommend(RecommendRequest(visitor_id="new", recent_events=PICKS, exclude_seen=True))
    assert (stranger.level, welcomed.level) == ("popular", "short-history")
    assert ids(welcomed) != ids(stranger)
    assert not {"tea-1", "tea-2"} & set(ids(welcomed))
    # what teas lead to in this shop: cups of the same number
    assert {"cup-1", "cup-2"} <= set(ids(welcomed)[:6])
    # and nothing stays of them
    assert ids(ask.recommend(RecommendRequest(visitor_id="new"))) == ids(stranger)


def test_they_count_without_any_id(ask: Client) -> None:
    assert ask.recommend(RecommendRequest(recent_events=PICKS)).level == "short-history"


def test_unpersonalised_means_that_they_are_not_read(ask: Client) -> None:
    found = ask.recommend(RecommendRequest(recent_events=[*PICKS, RecentEvent(item_id="gone")], personalize=False))
    assert (found.level, list(found.missing_ids)) == ("popular", [])
    assert ids(found) == ids(ask.recommend(RecommendRequest()))


def test_they_count_as_the_same_events_written_would(ask: Client) -> None:
    ask.write_events([Event(event_type="add-to-cart", item_id="pot-1", user_id="one", event_time=END - 5)])
    told = RecentEvent(item_id="pot-1", event_type="add-to-cart", event_time=END - 5)
    assert ids(ask.recommend(RecommendRequest(user_id="two", recent_events=[told]))) == ids(
        ask.recommend(RecommendRequest(user_id="one"))
    )


def test_an_event_that_is_known_counts_once(shop: Work) -> None:
    release = Release.open(shop.current)
    row = release.item_ids.row("tea-1")
    known = History(
        np.array([row], np.int32), np.array([END - 9]), np.array([VIEW], np.int8), np.array([0.1], np.float32)
    )
    told = [
        RecentEvent(item_id="tea-1", event_type="detail-page-view", event_time=END - 9),
        RecentEvent(item_id="gone"),
        RecentEvent(item_id="cup-1"),
        RecentEvent(item_id="tea-1"),
    ]
    state, missing = with_recent(release, PersonState(history=known), told, END)
    # without a time: one after another, the last a microsecond ago; an unknown item is said
    assert state.history.times.tolist() == [END - 9, END - 2, END - 1]
    assert state.history.types.tolist() == [VIEW, WISH, WISH]
    assert state.history.items.tolist() == [row, release.item_ids.row("cup-1"), row]
    assert missing == ["gone"]
    assert with_recent(release, state, [], END) == (state, [])


def test_explain_reads_them_too(ask: Client) -> None:
    asked = ExplainRequest(request=RecommendRequest(recent_events=PICKS), item_id="cup-1")
    assert ask.explain(asked).level == "short-history"


@pytest.mark.parametrize(
    ("events", "field"),
    [
        ([RecentEvent()], "recent_events[0].item_id"),
        ([*PICKS, RecentEvent(item_id="a", event_type="bought")], "recent_events[2].event_type"),
        ([RecentEvent(item_id="a", event_time=-1)], "recent_events[0].event_time"),
        ([RecentEvent(item_id="a")] * (MAX_RECENT + 1), "recent_events: has 101 entries"),
    ],
)
def test_what_is_wrong_is_said(ask: Client, events: list[RecentEvent], field: str) -> None:
    with pytest.raises(InputError) as refused:
        ask.recommend(RecommendRequest(recent_events=events))
    assert field in str(refused.value)


@pytest.fixture
def logging(shop: Work, redis_url: str, config: ServingConfig) -> Iterator[Client]:
    everything = LogConfig(share=1, features_share=1, queue_pages=100, stream_pages=100)
    process = ServingProcess(options_for(shop, redis_url, config.model_copy(update={"log": everything})))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as connected:
        yield connected
    process.stop()


def test_their_pages_are_logged_without_features(logging: Client, store: redis_py.Redis) -> None:
    # no log will tell these events again, so nobody could compute the features anew
    logging.recommend(RecommendRequest(user_id="ann", request_id="r", recent_events=PICKS))
    until(lambda: store.xlen("aisle:default:shown") == 1)
    ((_, fields),) = store.xrange("aisle:default:shown")
    assert b"candidates" not in fields
    assert json.loads(fields[b"page"])["request_id"] == "r"
