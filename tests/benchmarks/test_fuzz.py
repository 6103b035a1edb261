"""A few hundred random and broken requests to every method of a real server; `benchmarks.fuzz` sends many more."""

# bazel: size=medium

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from benchmarks.fuzz import WRONG, Fuzz, methods, oversized, send, words_of
from core.work import Work
from serving.config import load_serving
from serving.embedded_redis import EmbeddedRedis
from serving.process import ProcessOptions, ServingProcess
from serving.release import Release
from tests.serving.shop import make_shop


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Work:
    return make_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def channel(shop: Work, tmp_path_factory: pytest.TempPathFactory) -> Iterator[grpc.Channel]:
    """To a server with everything switched on."""
    redis = EmbeddedRedis(tmp_path_factory.mktemp("redis"))
    redis.launch()
    redis.wait()
    options = ProcessOptions(shop.current, shop.root, "127.0.0.1", 0, redis.url, embedded=True, config=load_serving())
    process = ServingProcess(options)
    process.start()
    with grpc.insecure_channel(f"127.0.0.1:{process.port}") as connected:
        yield connected
    process.stop()
    redis.stop()


def test_no_request_makes_the_server_fail(channel: grpc.Channel, shop: Work) -> None:
    fuzz = Fuzz(channel, words_of(Release.open(shop.current), ["ann", "bob"]))
    fuzz.run(400, 7)
    assert fuzz.tally.wrong == []
    assert fuzz.tally.statuses["OK"] > 40
    assert fuzz.tally.statuses["INVALID_ARGUMENT"] > 40
    assert len(fuzz.tally.by_method) == len(methods(channel))


def test_methods_are_those_the_server_speaks_of(channel: grpc.Channel) -> None:
    names = {m.full_name for m in methods(channel)}
    assert names >= {"aisle.v1.Recommender.Recommend", "aisle.v1.Admin.LoadRelease", "grpc.health.v1.Health.Watch"}


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\x05ab", b"\x1a\x02\xff\xfe"], ids=["no-tag", "cut-short", "no-utf8"])
def test_what_is_no_message_is_the_callers_fault(channel: grpc.Channel, data: bytes) -> None:
    # b"\x1a\x02": field 3 as two bytes; of Recommend that is `user_id`, a text
    (recommend,) = (m for m in methods(channel) if m.name == "Recommend")
    status, says = send(channel, recommend, data)
    assert status == "INVALID_ARGUMENT"
    assert "not a message" in says
    (watch,) = (m for m in methods(channel) if m.name == "Watch")
    assert send(channel, watch, b"\xff")[0] not in WRONG


def test_more_than_grpc_takes_is_refused(channel: grpc.Channel) -> None:
    assert set(oversized(channel)) == {"RESOURCE_EXHAUSTED"}


def test_the_longest_path_and_no_path_are_the_callers_fault(channel: grpc.Channel, tmp_path: Path) -> None:
    from aisle.v1.admin_pb2 import LoadReleaseRequest

    (load,) = (m for m in methods(channel) if m.name == "LoadRelease")
    (tmp_path / "file").write_text("no release")
    for path, status in (
        ("x" * 5_000, "INVALID_ARGUMENT"),
        ("a\0b", "INVALID_ARGUMENT"),
        ("x" * 300, "FAILED_PRECONDITION"),  # no name of a file is so long
        (str(tmp_path / "file"), "FAILED_PRECONDITION"),
        (str(tmp_path / "none"), "NOT_FOUND"),
    ):
        assert send(channel, load, LoadReleaseRequest(path=path).SerializeToString())[0] == status, path
