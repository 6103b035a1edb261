"""An acknowledged event is on disk, and reaches the stream once: with a durable Redis, another one, none, and one that comes back."""

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import redis as redis_py
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from aisle.v1 import events_pb2_grpc
from aisle.v1.events_pb2 import Event, WriteEventsRequest
from aisle.v1.recommender_pb2 import RecommendRequest
from core.programs import redis_server
from core.work import Work
from serving.client import Client, ServerError
from serving.config import ServingConfig
from serving.embedded_redis import EmbeddedRedis
from serving.event_store import EventStore
from serving.event_writer import EventWriter, WrittenEvent
from serving.failures import Failure, StoreError
from serving.keys import Keys
from serving.process import ServingProcess
from serving.redis_link import RedisLink, client
from serving.spool import Spool
from tests.serving.conftest import changed, options_for
from tests.waiting import until

STREAM = "aisle:default:events"


class Weak:
    """A Redis that keeps nothing on disk."""

    def __init__(self, folder: Path) -> None:
        self.url, self._folder = f"unix://{folder}/weak.sock", folder

    def start(self) -> redis_py.Redis:
        arguments = {"port": "0", "unixsocket": str(self._folder / "weak.sock"), "dir": str(self._folder), "save": ""}
        command = [str(redis_server()), *(part for k, v in arguments.items() for part in (f"--{k}", v))]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        store = client(self.url, 5, retries=0)
        until(lambda: answers(store))
        return store

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def answers(store: redis_py.Redis) -> bool:
    try:
        return bool(store.ping())
    except redis_py.RedisError:
        return False


@pytest.fixture
def weak(tmp_path: Path) -> Iterator[Weak]:
    server = Weak(tmp_path)
    yield server
    server.kill()


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[EmbeddedRedis]:
    server = EmbeddedRedis(tmp_path / "redis")
    server.launch()
    server.wait()
    yield server
    server.stop()


def click(number: int) -> WrittenEvent:
    return WrittenEvent.of({"event_type": "click", "event_time": number, "item_id": f"i-{number}", "user_id": "ann"})


def make(url: str, config: ServingConfig, spool: Path | None, limit: int = 1_000_000) -> EventStore:
    writer = EventWriter(RedisLink(url, config.redis), Keys("default"), config.events)
    return EventStore(writer, None if spool is None else Spool(spool, limit))


def streamed(store: redis_py.Redis) -> list[int]:
    return [json.loads(fields[b"event"])["event_time"] for _, fields in store.xrange(STREAM)]


def test_a_redis_that_is_not_durable_is_given_nothing(weak: Weak, config: ServingConfig) -> None:
    redis = weak.start()
    with pytest.raises(StoreError, match="appendonly yes, appendfsync always") as refused:
        make(weak.url, config, None).write([click(1)])
    assert (refused.value.failure, refused.value.grpc_status) == (Failure.NOT_DURABLE, "UNAVAILABLE")
    assert redis.dbsize() == 0


@pytest.mark.parametrize(
    ("setting", "bad", "good"), [("appendfsync", "everysec", "always"), ("no-appendfsync-on-rewrite", "yes", "no")]
)
def test_one_that_stops_being_durable_is_not_believed(
    own_redis: EmbeddedRedis, config: ServingConfig, setting: str, bad: str, good: str
) -> None:
    store, redis = make(own_redis.url, config, None), client(own_redis.url, 5, retries=0)
    assert store.write([click(1)]).accepted == 1
    redis.config_set(setting, bad)
    with pytest.raises(StoreError, match="redis-not-durable"):
        store.write([click(2)])
    redis.config_set(setting, good)
    assert store.write([click(2)]).duplicates == 1  # what it was given on the way counts once it is confirmed


def test_with_a_spool_events_reach_it_later_and_stay_on_disk_until_they_are_logged(
    weak: Weak, config: ServingConfig, tmp_path: Path
) -> None:
    redis, folder = weak.start(), tmp_path / "spool"
    store = make(weak.url, config, folder)
    store.start()
    taken = store.write([click(1), click(2)])
    assert (taken.accepted, taken.duplicates, taken.spooled) == (2, 0, 2)
    until(lambda: redis.xlen(STREAM) == 2)
    assert redis.llen("aisle:default:live:u:ann") == 2
    weak.kill()  # and with it all that it had
    redis = weak.start()
    until(lambda: redis.xlen(STREAM) == 2)
    assert streamed(redis) == [1, 2]
    assert store.spool_bytes > 0
    redis.xtrim(STREAM, maxlen=0)  # as the sink does when they are in the log
    until(lambda: store.spool_bytes == 0)
    assert redis.xlen(STREAM) == 0
    store.stop()


def test_while_redis_is_away_events_wait_and_each_comes_once(
    own_redis: EmbeddedRedis, config: ServingConfig, tmp_path: Path
) -> None:
    store, redis = make(own_redis.url, config, tmp_path / "spool"), client(own_redis.url, 5, retries=0)
    store.start()
    assert store.write([click(1)]).spooled == 0
    assert own_redis.pid is not None
    os.kill(own_redis.pid, signal.SIGSTOP)
    for n in range(2, 6):
        assert store.write([click(n)]).spooled == 1
    assert store.write([click(1), click(3)]).accepted == 2  # not known to be duplicates yet
    os.kill(own_redis.pid, signal.SIGCONT)
    until(lambda: store.spool_bytes == 0)
    assert sorted(streamed(redis)) == [1, 2, 3, 4, 5]
    until(lambda: store.write([click(6)]).spooled == 0)  # soon after a failure it is not tried yet
    until(lambda: store.spool_bytes == 0)
    store.stop()
    assert list((tmp_path / "spool").iterdir()) == []


def test_what_a_stopped_process_left_the_next_hands_over_in_order(
    redis_url: str, config: ServingConfig, store: redis_py.Redis, tmp_path: Path
) -> None:
    before = make("unix:///nowhere/redis.sock", config, tmp_path)
    before.start()
    for n in range(1, 5):
        before.write([click(n)])
    before.stop()
    after = make(redis_url, config, tmp_path)
    after.start()
    until(lambda: list(tmp_path.iterdir()) == [])
    after.stop()
    assert streamed(store) == [1, 2, 3, 4]


def test_a_full_spool_refuses(config: ServingConfig, tmp_path: Path) -> None:
    store = make("unix:///nowhere/redis.sock", config, tmp_path, limit=100)
    store.write([click(1)])
    with pytest.raises(StoreError, match="event-spool-full"):
        store.write([click(2)])


def test_a_full_stream_is_no_matter_for_the_spool(redis_url: str, config: ServingConfig, tmp_path: Path) -> None:
    narrow = changed(config, "events", stream_events=1)
    store = make(redis_url, narrow, tmp_path)
    store.write([click(1)])
    with pytest.raises(StoreError, match="1 events wait for the log") as refused:
        store.write([click(2)])
    assert (refused.value.grpc_status, refused.value.retry_seconds) == ("UNAVAILABLE", 5.0)


def test_the_server_spools_in_its_work_directory_and_says_so(
    shop: Work, own_redis: EmbeddedRedis, config: ServingConfig, tmp_path: Path
) -> None:
    spooling = changed(config, "events", spool=str(tmp_path / "spool"))
    process = ServingProcess(options_for(shop, own_redis.url, spooling))
    process.start()
    assert own_redis.pid is not None
    os.kill(own_redis.pid, signal.SIGSTOP)
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        taken = ask.write_events([Event(event_type="click", item_id="tea-1", user_id="newcomer")])
        assert (taken.accepted, taken.spooled) == (1, 1)
        status = ask.status()
        assert (status.events_accepted, status.events_spooled) == (1, 1)
        assert status.spool_bytes > 0
        os.kill(own_redis.pid, signal.SIGCONT)
        until(lambda: ask.status().spool_bytes == 0)
        until(lambda: ask.recommend(RecommendRequest(user_id="newcomer")).level == "short-history")
    process.stop()


def test_a_refusal_says_when_to_try_again(shop: Work, config: ServingConfig) -> None:
    process = ServingProcess(options_for(shop, "unix:///nowhere/redis.sock", config))
    process.start()
    asked = WriteEventsRequest(events=[Event(event_type="click", item_id="i", user_id="u")])
    with grpc.insecure_channel(f"127.0.0.1:{process.port}") as channel:
        stub = events_pb2_grpc.EventsStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.WriteEvents(asked, timeout=20)
    process.stop()
    status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
    assert status is not None
    (detail,) = status.details
    retry = error_details_pb2.RetryInfo()
    assert detail.Unpack(retry)
    assert retry.retry_delay.seconds == 1


def test_the_default_spool_is_in_a_work_directory_only(config: ServingConfig, shop: Work, tmp_path: Path) -> None:
    default = changed(config, "events", spool="work").events
    assert default.spool_folder(shop.root) == shop.root / "spool"
    assert default.spool_folder(tmp_path) is None
    assert config.events.spool_folder(shop.root) is None


def test_two_servers_and_a_killed_owner_of_the_redis(tmp_path: Path) -> None:
    """The second takes over only when the Redis of the first is gone: two on the same files would lose writes."""
    first, second = EmbeddedRedis(tmp_path), EmbeddedRedis(tmp_path)
    first.launch()
    first.wait()
    second.launch()
    second.wait()
    assert second.pid is None
    pid = first.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)  # it cannot end
    assert first._lock is not None
    first._stopping.set()
    first._keeper.join()
    first._lock.close()  # as if the first process had died
    assert not second._owned()
    os.kill(pid, signal.SIGKILL)
    until(lambda: second.pid is not None)
    second.wait()
    second.stop()


def test_without_spool_or_redis_nothing_is_acknowledged(config: ServingConfig) -> None:
    with pytest.raises(StoreError, match="redis-unreachable"):
        make("unix:///nowhere/redis.sock", config, None).write([click(1)])


def test_the_client_hears_it_in_one_line(shop: Work, weak: Weak, config: ServingConfig) -> None:
    weak.start()
    process = ServingProcess(options_for(shop, weak.url, config))
    process.start()
    with (
        Client(f"127.0.0.1:{process.port}", timeout=20) as ask,
        pytest.raises(ServerError, match=r"UNAVAILABLE: redis-not-durable: .*appendfsync always"),
    ):
        ask.write_events([Event(event_type="click", item_id="tea-1", user_id="ann")])
    process.stop()
