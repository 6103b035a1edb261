import json

import pytest
import redis as redis_py

from aisle.v1.events_pb2 import Event
from core.schema import EventType
from core.work import Work
from serving.client import Client, ServerError
from serving.config import ServingConfig
from serving.event_writer import EventWriter, WrittenEvent
from serving.failures import Failure, StoreError
from serving.keys import Keys
from serving.online_state import Person
from serving.packing import unpack_live
from serving.process import ServingProcess
from serving.redis_link import RedisLink
from tests.serving.conftest import options_for

FULL = Event(
    event_type="purchase-complete",
    event_time=1_700_000_000_000_000,
    item_id="tea-1",
    user_id="ann",
    visitor_id="web-1",
    session_id="s-1",
    event_id="e-1",
    quantity=2,
    price=0,
    currency="GBP",
    position=3,
    placement="home",
    query="grün",
    attribution_token="r.1",
    value=-1.5,
)


def written(number: int, who: str = "ann") -> WrittenEvent:
    columns = {"event_type": "click", "event_time": number, "item_id": f"item-{number}", "user_id": who}
    return WrittenEvent(EventType.CLICK, number, Person(who), columns)


def writer(url: str, config: ServingConfig, **changes: object) -> EventWriter:
    return EventWriter(RedisLink(url, config.redis), Keys("default"), config.events.model_copy(update=changes))


def test_the_stream_holds_every_column_that_was_given(ask: Client, store: redis_py.Redis) -> None:
    ask.write_events([FULL])
    ((_, entry),) = store.xrange("aisle:default:events")
    assert json.loads(entry[b"event"]) == {field.name: value for field, value in FULL.ListFields()}


def test_the_live_lists_of_user_visitor_and_session_get_it(ask: Client, store: redis_py.Redis) -> None:
    ask.write_events([FULL])
    for who in ("u:ann", "v:web-1", "s:s-1"):
        (packed,) = store.lrange(f"aisle:default:live:{who}", 0, -1)
        event = unpack_live(packed)
        assert (event.item_id, event.time, event.type) == ("tea-1", FULL.event_time, EventType.PURCHASE_COMPLETE.code)
        assert 29 * 86_400 < store.ttl(f"aisle:default:live:{who}") <= 30 * 86_400


def test_an_event_id_counts_once(ask: Client, store: redis_py.Redis) -> None:
    first = ask.write_events([FULL, Event(event_type="click", item_id="tea-2", user_id="bob", event_id="e-1")])
    assert (first.accepted, first.duplicates) == (1, 1)
    again = ask.write_events([FULL])
    assert (again.accepted, again.duplicates) == (0, 1)
    assert store.xlen("aisle:default:events") == store.llen("aisle:default:live:u:ann") == 1


def test_without_an_id_the_event_itself_is_the_key(ask: Client) -> None:
    event = Event(event_type="click", item_id="tea-1", user_id="ann", event_time=1_700_000_000_000_000)
    other = Event(event_type="click", item_id="tea-1", user_id="ann", event_time=1_700_000_000_000_001)
    assert ask.write_events([event, other]).accepted == 2
    assert ask.write_events([event, other]).duplicates == 2


def test_a_persons_list_is_bounded(redis_url: str, config: ServingConfig, store: redis_py.Redis) -> None:
    assert writer(redis_url, config, live_per_person=3).write([written(n) for n in range(1, 11)]) == 10
    kept = [unpack_live(e).item_id for e in store.lrange("aisle:default:live:u:ann", 0, -1)]
    assert kept == ["item-10", "item-9", "item-8"]
    assert store.xlen("aisle:default:events") == 10


def test_a_full_stream_refuses_rather_than_forgets(
    redis_url: str, config: ServingConfig, store: redis_py.Redis
) -> None:
    narrow = writer(redis_url, config, stream_events=2)
    assert narrow.write([written(1), written(2)]) == 2
    with pytest.raises(StoreError, match="2 events wait for the log; nothing was stored") as refused:
        narrow.write([written(3)])
    assert (refused.value.failure, refused.value.grpc_status) == (Failure.STREAM_FULL, "UNAVAILABLE")
    assert store.xlen("aisle:default:events") == 2
    store.xtrim("aisle:default:events", maxlen=0)
    assert narrow.write([written(3)]) == 1  # it left no memory of having been seen


def test_without_redis_events_are_not_acknowledged(shop: Work, config: ServingConfig) -> None:
    process = ServingProcess(options_for(shop, "unix:///nowhere/redis.sock", config))
    process.start()
    with (
        Client(f"127.0.0.1:{process.port}", timeout=20) as ask,
        pytest.raises(ServerError, match="UNAVAILABLE: redis-unreachable"),
    ):
        ask.write_events([FULL])
    process.stop()
