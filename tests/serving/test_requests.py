"""What is refused, and which field is named."""

import math
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from aisle.v1 import admin_pb2, admin_pb2_grpc, events_pb2, events_pb2_grpc, recommender_pb2_grpc
from aisle.v1.recommender_pb2 import Cap, Promotion, RecommendRequest, SimilarItemsRequest
from core.errors import InputError
from core.schema import HOUR
from serving.client import Client, ServerError, violations
from serving.process import ServingProcess
from serving.recommender_service import wall_clock

LONG = "x" * 257
GOOD: dict[str, Any] = {"event_type": "click", "item_id": "tea-1", "user_id": "ann"}


def fields(refused: grpc.RpcError) -> list[str]:
    assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT
    return [where for where, _ in violations(refused)]


@pytest.fixture
def channel(server: ServingProcess) -> grpc.Channel:
    return grpc.insecure_channel(f"127.0.0.1:{server.port}")


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (RecommendRequest(page_size=-1), ["page_size"]),
        (RecommendRequest(page_size=501), ["page_size"]),
        (RecommendRequest(user_id=LONG), ["user_id"]),
        (RecommendRequest(user_id="é" * 129), ["user_id"]),
        (RecommendRequest(visitor_id=LONG), ["visitor_id"]),
        (RecommendRequest(session_id=LONG), ["session_id"]),
        (RecommendRequest(request_id=LONG), ["request_id"]),
        (RecommendRequest(placement=LONG), ["placement"]),
        (RecommendRequest(context_item_ids=["a"] * 51), ["context_item_ids"]),
        (RecommendRequest(context_item_ids=["a", ""]), ["context_item_ids[1]"]),
        (RecommendRequest(exclude_item_ids=["a"] * 1001), ["exclude_item_ids"]),
        (RecommendRequest(exclude_item_ids=[LONG]), ["exclude_item_ids[0]"]),
        (RecommendRequest(labels={str(n): "" for n in range(65)}), ["labels"]),
        (RecommendRequest(labels={"k": LONG}), ["labels['k']"]),
        (RecommendRequest(page_size=-1, user_id=LONG), ["user_id", "page_size"]),
        (RecommendRequest(list_size=-1), ["list_size"]),
        (RecommendRequest(list_size=1001), ["list_size"]),
        (RecommendRequest(page_token="no token"), ["page_token"]),
        (RecommendRequest(page_token="x" * 1_000_001), ["page_token"]),
        (RecommendRequest(candidate_item_ids=["a"] * 1001), ["candidate_item_ids"]),
        (RecommendRequest(candidate_item_ids=["a", ""]), ["candidate_item_ids[1]"]),
        (RecommendRequest(diversity_level="some"), ["diversity_level"]),
        (RecommendRequest(min_score=-0.1), ["min_score"]),
        (RecommendRequest(min_score=math.nan), ["min_score"]),
        (RecommendRequest(min_score=1.5), ["min_score"]),
        (RecommendRequest(caps=[Cap()] * 17), ["caps"]),
        (RecommendRequest(caps=[Cap()]), ["caps[0].attribute", "caps[0].cap_type"]),
        (RecommendRequest(caps=[Cap(attribute="a", cap_type=Cap.VALUE, max=1.5)]), ["caps[0].max"]),
        (RecommendRequest(caps=[Cap(attribute="a", cap_type=Cap.VALUE, max=math.inf)]), ["caps[0].max"]),
        (RecommendRequest(caps=[Cap(attribute="a", cap_type=Cap.PERCENTAGE, max=math.nan)]), ["caps[0].max"]),
        (RecommendRequest(caps=[Cap(attribute="a", cap_type=Cap.PERCENTAGE, max=101)]), ["caps[0].max"]),
        (RecommendRequest(caps=[Cap(attribute="a", cap_type=Cap.VALUE, max=1, window=1)]), ["caps[0].window"]),
        (RecommendRequest(promotions=[Promotion()] * 11), ["promotions"]),
        (
            RecommendRequest(promotions=[Promotion(name="a b", percent=101, filter="=")]),
            ["promotions[0].name", "promotions[0].percent", "promotions[0].filter"],
        ),
        (
            RecommendRequest(promotions=[Promotion(name="a", percent=1, filter="x = 1")] * 2),
            ["promotions[1].name"],
        ),
    ],
    ids=lambda v: ",".join(v) if isinstance(v, list) else "",
)
def test_recommend_names_the_field(channel: grpc.Channel, request_: RecommendRequest, expected: list[str]) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        recommender_pb2_grpc.RecommenderStub(channel).Recommend(request_, timeout=20)
    assert fields(refused.value) == expected


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (SimilarItemsRequest(), ["item_ids"]),
        (SimilarItemsRequest(item_ids=["a"] * 51), ["item_ids"]),
        (SimilarItemsRequest(item_ids=["a"], page_size=-3), ["page_size"]),
        (
            SimilarItemsRequest(item_ids=["a"], diversity_level="x", caps=[Cap(attribute="a")]),
            ["diversity_level", "caps[0].cap_type"],
        ),
        (SimilarItemsRequest(item_ids=[""], exclude_item_ids=[""]), ["item_ids[0]", "exclude_item_ids[0]"]),
    ],
)
def test_similar_names_the_field(channel: grpc.Channel, request_: SimilarItemsRequest, expected: list[str]) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        recommender_pb2_grpc.RecommenderStub(channel).SimilarItems(request_, timeout=20)
    assert fields(refused.value) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"event_type": ""}, "event_type"),
        ({"event_type": "purchase"}, "event_type"),
        ({"item_id": ""}, "item_id"),
        ({"item_id": LONG}, "item_id"),
        ({"user_id": ""}, "user_id"),
        ({"visitor_id": LONG}, "visitor_id"),
        ({"session_id": LONG}, "session_id"),
        ({"event_id": LONG}, "event_id"),
        ({"currency": LONG}, "currency"),
        ({"placement": LONG}, "placement"),
        ({"query": LONG}, "query"),
        ({"attribution_token": "x" * 4097}, "attribution_token"),
        ({"event_time": -1}, "event_time"),
        ({"event_time": wall_clock() + 3 * HOUR}, "event_time"),
        ({"quantity": -1.0}, "quantity"),
        ({"price": math.nan}, "price"),
        ({"price": math.inf}, "price"),
        ({"position": -1}, "position"),
        ({"value": math.nan}, "value"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_write_events_names_the_event_and_the_field(
    channel: grpc.Channel, changes: dict[str, Any], expected: str
) -> None:
    events = [events_pb2.Event(**GOOD), events_pb2.Event(**{**GOOD, **changes})]
    with pytest.raises(grpc.RpcError) as refused:
        events_pb2_grpc.EventsStub(channel).WriteEvents(events_pb2.WriteEventsRequest(events=events), timeout=20)
    assert fields(refused.value) == [f"events[1].{expected}"]


def test_one_bad_event_stops_them_all(ask: Client) -> None:
    with pytest.raises(InputError, match=r"events\[1\]\.event_type: is 'purchase'; did you mean 'purchase-complete'\?"):
        ask.write_events([events_pb2.Event(**GOOD), events_pb2.Event(**{**GOOD, "event_type": "purchase"})])
    assert ask.write_events([events_pb2.Event(**GOOD, event_id="e", event_time=5)]).accepted == 1


@pytest.mark.parametrize("n", [0, 1001])
def test_the_number_of_events_is_bounded(ask: Client, n: int) -> None:
    with pytest.raises(InputError, match=rf"events: has {n} entries, expected 1 to 1000"):
        ask.write_events([events_pb2.Event(**GOOD)] * n)


def test_details_are_a_bad_request_of_google_rpc(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        admin_pb2_grpc.AdminStub(channel).LoadRelease(admin_pb2.LoadReleaseRequest(), timeout=20)
    status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]  # what is raised is a call too
    assert status is not None
    assert [d.type_url for d in status.details] == [
        "type.googleapis.com/" + error_details_pb2.BadRequest.DESCRIPTOR.full_name
    ]
    assert status.message == "path: is required"


def test_no_server_is_one_clear_line() -> None:
    with (
        Client("127.0.0.1:1") as nobody,
        pytest.raises(ServerError, match=r"^no server answers at 127\.0\.0\.1:1: start one"),
    ):
        nobody.recommend(RecommendRequest())
