"""The log of recommendations on its way to Redis: what it says, what it leaves out, and that no answer waits for it."""

import dataclasses
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis as redis_py

from aisle.v1.recommender_pb2 import RecommendRequest, RecommendResponse
from core.columns import Array, Coded, Columns, Tags
from core.history import Query
from core.ids import NO_ROW
from core.schema import Column
from core.work import Work
from ranking.feature_list import ITEM, NAMES, schema_hash
from ranking.features import ItemTable, matrix
from ranking.item_table import ATTRIBUTES, FACTS
from ranking.scorer import Scorer
from serving.answers import Request
from serving.client import Client
from serving.config import LogConfig, ServingConfig
from serving.keys import Keys
from serving.process import ServingProcess
from serving.redis_link import RedisLink
from serving.release import Release
from serving.request_path import answer
from serving.shown import Shown, ShownLog
from serving.tally import Tally
from tests.serving.conftest import changed, options_for
from tests.serving.shop import END
from tests.waiting import until

STREAM = "aisle:default:shown"
ALL = LogConfig(share=1, features_share=1, queue_pages=100, stream_pages=100)
ANN = RecommendRequest(
    user_id="ann",
    visitor_id="web-1",
    session_id="s-1",
    request_id="r-1",
    page_size=3,
    placement="home",
    context_item_ids=["tea-2", "gone"],
    exclude_item_ids=["cup-1"],
    exclude_seen=True,
    labels={"shelf": "top"},
)


@pytest.fixture
def ask(shop: Work, redis_url: str, config: ServingConfig) -> Iterator[Client]:
    """A server that logs every page, all of them with features."""
    process = ServingProcess(options_for(shop, redis_url, config.model_copy(update={"log": ALL})))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as connected:
        yield connected
    process.stop()


@pytest.fixture(scope="module")
def release(shop: Work) -> Release:
    return Release.open(shop.current)


def pages(store: redis_py.Redis) -> list[dict[str, Any]]:
    return [
        json.loads(fields[b"page"]) | {k.decode(): v for k, v in fields.items() if k != b"page"}
        for _, fields in store.xrange(STREAM)
    ]


def test_a_page_is_logged_as_it_was_answered(ask: Client, store: redis_py.Redis) -> None:
    answered = ask.recommend(ANN)
    until(lambda: store.xlen(STREAM) == 1)
    (page,) = pages(store)
    assert END < page.pop("time") <= time.time_ns() // 1_000
    assert len(np.frombuffer(page.pop("candidates"), "<i4")) >= 3
    assert page.pop("features") == b""  # no ranker in this release
    assert page.pop("user_row") >= 0
    assert page.pop("live_events", []) == []  # nothing happened since the user state
    assert page == {
        "request_id": "r-1",
        "attribution_token": answered.attribution_token,
        "tenant": "default",
        "release": answered.release,
        "window_end": END,
        "placement": "home",
        "user_id": "ann",
        "visitor_id": "web-1",
        "session_id": "s-1",
        "level": "warm",
        "degraded": False,
        "page_size": 3,
        "exclude_seen": True,
        "exclude_item_ids": ["cup-1"],
        "context_item_ids": ["tea-2", "gone"],
        "labels": {"shelf": "top"},
        "items": [r.item_id for r in answered.results],
        "positions": [1, 2, 3],
        "scores": pytest.approx([r.score for r in answered.results]),
        "sources": [r.source for r in answered.results],
        "propensities": [1.0, 1.0, 1.0],
        "explored": False,
        "pool": [],
        "experiments": [],
    }
    until(lambda: dict(ask.status().pages) == {"logged": 1})


def test_unpersonalised_means_that_no_person_is_written_down(ask: Client, store: redis_py.Redis) -> None:
    ask.recommend(RecommendRequest(user_id="ann", visitor_id="web-1", session_id="s-1", personalize=False))
    until(lambda: store.xlen(STREAM) == 1)
    ((_, fields),) = store.xrange(STREAM)
    assert not {"user_id", "visitor_id", "session_id", "user_row"} & set(json.loads(fields[b"page"]))
    assert not any(name in b"".join(fields.values()) for name in (b"ann", b"web-1", b"s-1"))


def test_a_share_of_the_pages_is_the_same_share_everywhere(
    redis_url: str, config: ServingConfig, store: redis_py.Redis, release: Release
) -> None:
    some, tally = ALL.model_copy(update={"share": 0.3, "queue_pages": 1000, "stream_pages": 1000}), Tally()
    for _ in range(2):
        log = ShownLog(RedisLink(redis_url, config.redis), Keys("default"), some, tally)
        for n in range(500):
            log.offer(shown(release, f"r-{n}"))
        log.start()
        log.stop()
    ids = [p["request_id"] for p in pages(store)]
    assert ids[: len(ids) // 2] == ids[len(ids) // 2 :]
    assert 100 < len(ids) // 2 < 200  # 150 expected, standard deviation 10
    assert tally.of("pages") == {"logged": len(ids)}


def shown(release: Release, name: str) -> Shown:
    return Shown(END, release, 3, RecommendRequest(), RecommendResponse(request_id=name), True, NO_ROW)


def test_what_does_not_fit_is_dropped_and_counted(
    redis_url: str, config: ServingConfig, store: redis_py.Redis, release: Release
) -> None:
    tally = Tally()
    narrow = ALL.model_copy(update={"queue_pages": 3, "stream_pages": 1})
    log = ShownLog(RedisLink(redis_url, config.redis), Keys("default"), narrow, tally)
    for n in range(5):
        log.offer(shown(release, f"r-{n}"))
    assert tally.of("pages") == {"dropped": 2}
    log.start()
    until(lambda: store.xlen(STREAM) == 3)
    log.offer(shown(release, "late"))
    log.stop()
    assert tally.of("pages") == {"dropped": 3, "logged": 3}
    assert store.xlen(STREAM) == 3


def test_without_redis_answers_go_on_and_pages_are_counted(shop: Work, config: ServingConfig) -> None:
    logging = changed(config, "log", share=1.0, queue_pages=2)
    process = ServingProcess(options_for(shop, "unix:///nowhere/redis.sock", logging))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        for _ in range(300):  # the writer holds at most one batch of 200, the queue two pages
            assert len(ask.recommend(RecommendRequest()).results) == 10
        assert ask.status().pages["dropped"] >= 98
    process.stop()


def test_a_batch_whose_answer_was_lost_is_stored_once(
    redis_url: str, config: ServingConfig, store: redis_py.Redis
) -> None:
    log = ShownLog(RedisLink(redis_url, config.redis), Keys("default"), ALL, Tally())
    assert log._add([b'{"n":1}', b"", b""], 1) == 1
    assert log._add([b'{"n":1}', b"", b""], 1) == 1  # the same batch number again
    log._batches += 1
    assert log._add([b'{"n":2}', b"", b""], 1) == 1
    assert pages(store) == [{"n": 1}, {"n": 2}]


class Popular:
    """A kernel that ranks by one feature."""

    n_features = len(NAMES)

    def predict(self, rows: Array) -> Array:
        return rows[:, NAMES.index("popularity.score")].astype(np.float64)


def ranked(release: Release) -> Release:
    """The same release with a ranker."""
    n = release.items.rows
    items = Columns({Column.BRAND: Coded.of([None] * n), Column.CATEGORY: Coded.of([None] * n)})
    facts = np.arange(n * len(ITEM), dtype=np.float32).reshape(n, len(ITEM))
    table = ItemTable.of(Columns({FACTS: facts, ATTRIBUTES: Tags.of([[]] * n)}), items, END, False)
    return dataclasses.replace(
        release, table=table, scorer=Scorer(Popular(), {"schema": schema_hash()}, Path("model.txt"))
    )


def test_the_features_are_those_that_the_ranker_read(
    redis_url: str, config: ServingConfig, store: redis_py.Redis, release: Release
) -> None:
    with_ranker, query = ranked(release), Query(END)
    page = answer(with_ranker, Request(query, 5))
    log = ShownLog(RedisLink(redis_url, config.redis), Keys("default"), ALL, Tally())
    log.offer(dataclasses.replace(shown(with_ranker, "r-1"), candidates=page.candidates.rows, features=page.features))
    log.start()
    log.stop()
    (found,) = pages(store)
    rows = np.frombuffer(found["candidates"], "<i4")
    features = np.frombuffer(found["features"], "<f4").reshape(len(rows), found["n_features"])
    assert found["feature_schema"] == schema_hash()
    assert rows.tolist() == page.candidates.rows.tolist()
    # computed again, the same bits
    assert with_ranker.table is not None
    again = matrix(query, page.candidates, with_ranker.table, with_ranker.sources)
    np.testing.assert_array_equal(features, again)
    # and they explain the page: the kernel's scores of what is available, best first
    best = np.sort(Popular().predict(features[release.available[rows]]))[::-1][:5]
    np.testing.assert_allclose(page.scores, best, rtol=1e-6)
