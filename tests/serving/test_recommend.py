import threading
from concurrent import futures
from typing import Any

import grpc
import pytest
import redis as redis_py
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from aisle.v1 import events_pb2, recommender_pb2
from aisle.v1.recommender_pb2 import RecommendRequest, SimilarItemsRequest
from core.schema import DAY
from core.work import Work
from serving.batch import Batch, BatchQuery
from serving.client import Client
from serving.config import ServingConfig
from serving.process import ServingProcess
from serving.recommender_service import wall_clock
from tests.serving.conftest import options_for
from tests.serving.shop import END, PURCHASES, SOLD_OUT, TITLES


def ids(response: recommender_pb2.RecommendResponse | recommender_pb2.SimilarItemsResponse) -> list[str]:
    return [r.item_id for r in response.results]


def event(kind: str, item: str, **who: Any) -> events_pb2.Event:
    return events_pb2.Event(event_type=kind, item_id=item, **who)


def test_the_same_answer_as_batch(ask: Client, shop: Work) -> None:
    batch = Batch(shop.current, shop.user_state(END))
    people = [p.removeprefix("u:") for p in PURCHASES if p.startswith("u:")]
    assert len(people) > 20
    for person in people:
        expected = batch.rendered(BatchQuery(person, person, wall_clock()), 10, exclude_seen=False)
        found = ask.recommend(RecommendRequest(user_id=person, page_size=10))
        assert ids(found) == expected.item_ids
        assert [r.score for r in found.results] == pytest.approx(expected.scores.tolist())
        assert [r.source for r in found.results] == list(expected.sources)


def test_a_page_says_what_it_is(ask: Client, shop: Work) -> None:
    found = ask.recommend(RecommendRequest(user_id="ann", page_size=8, request_id="r-1", explain=True))
    assert (found.level, found.degraded, found.fallback_reason) == ("warm", False, "")
    assert found.release == shop.current.resolve().name
    assert found.request_id == "r-1"
    assert found.attribution_token == f"{found.release}.r-1"
    assert [r.rank for r in found.results] == list(range(1, 9))
    assert all(r.title == TITLES[r.item_id] and r.source and r.reasons and r.contributions for r in found.results)
    scores = [r.score for r in found.results]
    assert scores == sorted(scores, reverse=True)
    assert set(found.stage_latency_ms) == {"hydrate", "turn", "recommend", "reasons", "total"}


def test_reasons_are_true_of_the_person(ask: Client) -> None:
    # ann bought tea-1 three times, tea-2 and cup-1 once; cups follow teas of the same number, kinds go together
    found = {r.item_id: r for r in ask.recommend(RecommendRequest(user_id="ann", page_size=17)).results}
    assert (found["tea-1"].source, list(found["tea-1"].reasons)) == ("own_frequency", ["you bought it 3 times"])
    assert found["cup-1"].reasons[0] in ("often follows Tea number 1", "often together with Tea number 1")
    assert found["cup-1"].reasons[1] == "you bought it once"
    assert found["tea-3"].reasons[0] in ("people who chose Tea number 2 also chose it", "similar to Tea number 2")
    assert all("you bought" not in " ".join(r.reasons) for i, r in found.items() if i not in PURCHASES["u:ann"])


@pytest.mark.parametrize(
    ("person", "level"),
    [
        ({"user_id": "ann"}, "warm"),
        ({"user_id": "cid"}, "short-history"),
        ({"visitor_id": "guest"}, "warm"),
        ({"user_id": "nobody"}, "popular"),
        ({}, "popular"),
    ],
)
def test_the_level_says_how_much_is_known(ask: Client, person: dict[str, Any], level: str) -> None:
    found = ask.recommend(RecommendRequest(page_size=10, **person))
    assert (found.level, found.degraded, len(found.results)) == (level, False, 10)
    assert all(r.reasons for r in found.results)


def test_a_strangers_page_is_led_by_what_is_on_it(ask: Client) -> None:
    found = ask.recommend(
        RecommendRequest(context_item_ids=["tea-2", "not-an-item"], page_size=5, placement="product-page")
    )
    assert found.level == "context"
    assert list(found.missing_ids) == ["not-an-item"]
    # two sources give their best to each of the three; popularity, which grows with the number, adds a little
    assert ids(found)[:3] == ["tea-3", "cup-2", "tea-1"]
    assert "tea-2" not in ids(found)
    assert "Tea number 2" in found.results[0].reasons[0]


def test_exclusions_and_availability_hold(ask: Client) -> None:
    everything = ask.recommend(RecommendRequest(user_id="bob", page_size=500))
    assert set(ids(everything)) == set(TITLES) - {SOLD_OUT}
    fewer = ask.recommend(
        RecommendRequest(user_id="bob", page_size=500, exclude_item_ids=["tea-1", "what"], exclude_seen=True)
    )
    assert set(ids(fewer)) == set(TITLES) - {SOLD_OUT, "tea-1", *PURCHASES["u:bob"]}
    assert list(fewer.missing_ids) == ["what"]


@pytest.mark.parametrize(
    "who", [{"user_id": "ann"}, {"visitor_id": "fresh"}, {"session_id": "s-9", "visitor_id": "other"}]
)
def test_three_events_change_the_answer(ask: Client, who: dict[str, Any]) -> None:
    asked = RecommendRequest(page_size=10, **who)
    before = ask.recommend(asked)
    taken = ask.write_events([event("add-to-cart", item, **who) for item in ("pot-2", "pot-3", "pot-4")])
    assert (taken.accepted, taken.duplicates) == (3, 0)
    after = ask.recommend(asked)
    assert ids(after) != ids(before)
    assert after.level == "warm"


def test_a_session_counts_without_its_person(ask: Client) -> None:
    ask.write_events([event("add-to-cart", "pot-4", visitor_id="v-1", session_id="s-1")])
    assert ask.recommend(RecommendRequest(session_id="s-1")).level == "short-history"
    assert ask.recommend(RecommendRequest(session_id="s-2")).level == "popular"


def test_events_of_unknown_items_are_taken_and_do_not_count(ask: Client, store: redis_py.Redis) -> None:
    assert ask.write_events([event("click", "not-yet", user_id="fresh")]).accepted == 1
    assert ask.recommend(RecommendRequest(user_id="fresh")).level == "popular"
    assert b"not-yet" in store.lrange("aisle:default:live:u:fresh", 0, -1)[0]


def test_unpersonalised_means_that_nothing_is_read(ask: Client, store: redis_py.Redis) -> None:
    def commands() -> dict[str, int]:
        stats = store.info("commandstats")
        return {name: stats[name]["calls"] for name in stats if name not in ("cmdstat_info", "cmdstat_config|get")}

    before = commands()
    found = ask.recommend(RecommendRequest(user_id="ann", visitor_id="guest", session_id="s", personalize=False))
    assert (found.level, found.degraded) == ("popular", False)
    assert ids(found) == ids(ask.recommend(RecommendRequest()))
    assert commands() == before
    ask.recommend(RecommendRequest(user_id="ann", personalize=True))
    assert commands() != before


def test_one_round_trip_a_request(ask: Client, store: redis_py.Redis) -> None:
    ask.recommend(RecommendRequest(user_id="ann", visitor_id="guest", session_id="s"))
    before = store.info("stats")["total_commands_processed"]
    ask.recommend(RecommendRequest(user_id="ann", visitor_id="guest", session_id="s"))
    # MGET of marker and histories, LRANGE for user, visitor and session; and the INFO above
    assert store.info("stats")["total_commands_processed"] - before == 4 + 1


def test_similar_items(ask: Client) -> None:
    found = ask.similar(SimilarItemsRequest(item_ids=["tea-2", "gone"], page_size=3, exclude_item_ids=["tea-1"]))
    assert ids(found) == ["cup-2", "tea-3", "tea-4"]  # cups follow teas; teas by nearness, ties by row
    assert list(found.missing_ids) == ["gone"]
    assert all("Tea number 2" in r.reasons[0] for r in found.results)
    # only what has evidence: five other pots less the one that is sold out
    assert set(ids(ask.similar(SimilarItemsRequest(item_ids=["pot-1"], page_size=50)))) == {
        f"pot-{n}" for n in range(2, 6)
    }
    assert ids(ask.similar(SimilarItemsRequest(item_ids=["gone"]))) == []


def test_health_and_reflection(server: ServingProcess) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", "aisle.v1.Recommender", "aisle.v1.Events", "aisle.v1.Admin"):
            assert (
                health.Check(health_pb2.HealthCheckRequest(service=service)).status
                == health_pb2.HealthCheckResponse.SERVING
            )
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        (listed,) = stub.ServerReflectionInfo(iter([asked]))
        assert {s.name for s in listed.list_services_response.service} >= {
            "aisle.v1.Recommender",
            "aisle.v1.Events",
            "aisle.v1.Admin",
        }


def test_a_clock_behind_the_data_sees_all_of_it(shop: Work, redis_url: str, config: ServingConfig) -> None:
    """An invented clock may end after today; nothing of the window lies in the future then."""
    process = ServingProcess(options_for(shop, redis_url, config), clock=lambda: END - 30 * DAY)
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as early:
        assert early.recommend(RecommendRequest(user_id="ann")).level == "warm"
    process.stop()


def test_running_requests_end_before_the_server_does(shop: Work, redis_url: str, config: ServingConfig) -> None:
    started, running, go_on = threading.Event(), threading.Event(), threading.Event()

    def slow_clock() -> int:
        if started.is_set():
            running.set()
            assert go_on.wait(20)
        return wall_clock()

    process = ServingProcess(options_for(shop, redis_url, config), slow_clock)
    process.start()
    started.set()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask, futures.ThreadPoolExecutor() as pool:
        asked = pool.submit(ask.recommend, RecommendRequest(user_id="ann", page_size=17))
        assert running.wait(20)
        stopped = pool.submit(process.stop)
        with pytest.raises(futures.TimeoutError):
            stopped.result(0.05)  # it waits for the request
        go_on.set()
        assert len(asked.result(20).results) == 17
        stopped.result(20)


def test_statuses_count_what_happened(ask: Client, shop: Work) -> None:
    for person in ("ann", "bob", "nobody"):
        ask.recommend(RecommendRequest(user_id=person))
    ask.write_events([event("click", "tea-1", user_id="ann", event_id="one")])
    ask.write_events([event("click", "tea-1", user_id="ann", event_id="one")])
    status = ask.status()
    assert dict(status.levels) == {"warm": 2, "popular": 1}
    assert dict(status.degraded) == {}
    assert (status.events_accepted, status.events_duplicate) == (1, 1)
    assert (status.redis.state, status.redis.durable, status.redis.user_state) == ("up", True, True)
    assert status.release_path == str(shop.current.resolve())
    assert status.window_end == END
