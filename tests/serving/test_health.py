"""grpc.health.v1 over a socket: what is said of the server, and that no number of watches stops it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.health import Health

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
def health() -> Health:
    return Health(["shop"])


@pytest.fixture
def stub(health: Health) -> Iterator[Any]:
    """Of a server whose only thread answers; watches must not take it."""
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield health_pb2_grpc.HealthStub(channel)
    server.stop(None).wait()


def asked(service: str = "") -> Any:
    return health_pb2.HealthCheckRequest(service=service)


def test_nothing_serves_until_it_is_said(stub: Any, health: Health) -> None:
    assert stub.Check(asked(), timeout=20).status == NOT_SERVING
    health.say(SERVING)
    assert [stub.Check(asked(s), timeout=20).status for s in ("", "shop")] == [SERVING, SERVING]
    with pytest.raises(grpc.RpcError, match="no service 'nobody'") as refused:
        stub.Check(asked("nobody"), timeout=20)
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def test_all_services_are_listed(stub: Any) -> None:
    found = stub.List(health_pb2.HealthListRequest(), timeout=20).statuses  # type: ignore[attr-defined]
    assert {name: answer.status for name, answer in found.items()} == {"": NOT_SERVING, "shop": NOT_SERVING}


def test_who_watches_hears_of_changes(stub: Any, health: Health) -> None:
    mine, unknown = stub.Watch(asked("shop"), timeout=20), stub.Watch(asked("nobody"), timeout=20)
    assert next(mine).status == NOT_SERVING
    assert next(unknown).status == UNKNOWN
    health.say(SERVING)
    assert next(mine).status == SERVING
    mine.cancel()
    unknown.cancel()


def test_watches_that_come_and_go_stop_nothing(stub: Any, health: Health) -> None:
    """With HealthServicer of grpcio-health-checking the server never answers again, most often after a few hundred."""

    def come_and_go() -> None:
        for n in range(400):
            watching = stub.Watch(asked("shop"), timeout=60)
            if n % 2:
                next(watching)
            watching.cancel()

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        for status in (SERVING, NOT_SERVING):
            health.say(status)
            assert stub.Check(asked(), timeout=30).status == status
    for thread in threads:
        thread.join()
    assert stub.Check(asked(), timeout=30).status == NOT_SERVING
    last = stub.Watch(asked(), timeout=30)
    assert next(last).status == NOT_SERVING
    last.cancel()
