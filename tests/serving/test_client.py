"""The client: calls that are made again and calls that are not, the example of the docs, and a generic client that knows no proto of ours."""

# bazel: data=[//docs:all_files]

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict, ParseDict
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from aisle.v1 import catalog_pb2, catalog_pb2_grpc, events_pb2, events_pb2_grpc, recommender_pb2, recommender_pb2_grpc
from serving.client import Client, ServerError
from serving.process import ServingProcess

DOCS = Path(__file__).parents[2] / "docs"


class Unsteady(
    recommender_pb2_grpc.RecommenderServicer, events_pb2_grpc.EventsServicer, catalog_pb2_grpc.CatalogServicer
):
    """A server that cannot take the first calls."""

    def __init__(self, failures: int, code: grpc.StatusCode) -> None:
        self.failures, self.code = failures, code
        self.calls: list[Any] = []

    def _take(self, request: Any, context: grpc.ServicerContext, answer: Any) -> Any:
        self.calls.append(request)
        if len(self.calls) <= self.failures:
            context.abort(self.code, "not now")
        return answer

    def Recommend(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._take(request, context, recommender_pb2.RecommendResponse(level="warm"))

    def WriteEvents(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._take(request, context, events_pb2.WriteEventsResponse(accepted=len(request.events)))

    def DeleteItems(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return self._take(request, context, catalog_pb2.DeleteItemsResponse(deleted=1))

    BatchRecommend = SimilarItems = Rank = Explain = PreviewRules = None  # type: ignore[assignment]
    UpsertItems = SetAvailability = None  # type: ignore[assignment]


@contextmanager
def asking(servicer: Unsteady) -> Iterator[Client]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    recommender_pb2_grpc.add_RecommenderServicer_to_server(servicer, server)
    events_pb2_grpc.add_EventsServicer_to_server(servicer, server)
    catalog_pb2_grpc.add_CatalogServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with Client(f"127.0.0.1:{port}", timeout=20) as client:
        yield client
    server.stop(None).wait()


def test_a_call_that_only_reads_is_made_again() -> None:
    unsteady = Unsteady(2, grpc.StatusCode.UNAVAILABLE)
    with asking(unsteady) as client:
        assert client.recommend(recommender_pb2.RecommendRequest(user_id="ann")).level == "warm"
    assert [r.user_id for r in unsteady.calls] == ["ann"] * 3


def test_not_for_ever_and_not_what_would_fail_again() -> None:
    for code, calls in (
        (grpc.StatusCode.UNAVAILABLE, 4),
        (grpc.StatusCode.CANCELLED, 4),
        (grpc.StatusCode.INTERNAL, 1),
    ):
        unsteady = Unsteady(100, code)
        with asking(unsteady) as client, pytest.raises(ServerError, match=f"{code.name}: not now"):
            client.recommend(recommender_pb2.RecommendRequest())
        assert len(unsteady.calls) == calls


def test_events_that_are_sent_again_have_the_name_they_had() -> None:
    unsteady = Unsteady(1, grpc.StatusCode.UNAVAILABLE)
    mine = [
        events_pb2.Event(item_id="a", event_type="click"),
        events_pb2.Event(item_id="b", event_type="click", event_time=5),
        events_pb2.Event(item_id="c", event_type="click", event_id="c-1"),
    ]
    with asking(unsteady) as client:
        assert client.write_events(mine).accepted == 3
    first, again = unsteady.calls
    assert first == again
    # what has a name or a time is told from others by these
    assert [bool(e.event_id) for e in again.events] == [True, False, True]
    assert again.events[2].event_id == "c-1"
    assert not mine[0].event_id  # the caller's own stay as they were


def test_a_change_of_the_catalog_is_for_the_caller_to_repeat() -> None:
    unsteady = Unsteady(1, grpc.StatusCode.UNAVAILABLE)
    with asking(unsteady) as client, pytest.raises(ServerError, match="not now"):
        client.delete_items(["a"])
    assert len(unsteady.calls) == 1


@pytest.mark.parametrize("address", ["nonsense", "no.such.host.invalid:50051"])
def test_a_host_that_is_none_says_what_would_be(address: str) -> None:
    with Client(address) as client, pytest.raises(ServerError, match=r"such as 127\.0\.0\.1:50051, with --server"):
        client.status()


def test_the_example_of_the_docs_runs(server: ServingProcess, capsys: pytest.CaptureFixture[str]) -> None:
    [example] = re.findall(r"```python\n(.+?)```", (DOCS / "client.md").read_text(), re.DOTALL)
    exec(compile(example.replace("127.0.0.1:50051", f"127.0.0.1:{server.port}"), "client.md", "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "1 cup-1 often follows Tea number 1 you bought it once"
    assert [int(line.split()[0]) for line in said[:6]] == [1, 2, 3, 4, 5, 6]
    assert len({line.split()[1] for line in said[:6]}) == 6
    assert len(said) == 3 + 3 + 1  # two pages of three, and what was refused
    assert said[-1].startswith("filter: at character 1: unknown field 'colour'")


def test_a_generic_client_needs_nothing_but_reflection(server: ServingProcess) -> None:
    """What grpcurl does: the server describes its methods and messages, and is asked in JSON."""
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "aisle.v1.Recommender" in database.get_services()
        service = DescriptorPool(database).FindServiceByName("aisle.v1.Recommender")
        assert {m.name for m in service.methods} >= {"Recommend", "BatchRecommend", "SimilarItems", "Rank", "Explain"}
        method = service.methods_by_name["Recommend"]
        asked = ParseDict({"user_id": "ann", "page_size": 3}, GetMessageClass(method.input_type)())
        call: Any = channel.unary_unary(
            f"/{service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        found = MessageToDict(call(asked, timeout=20), preserving_proto_field_name=True)
    assert (found["level"], len(found["results"])) == ("warm", 3)
