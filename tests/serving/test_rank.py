"""The caller's own list: everything in it that is known comes back once, in the order that `Recommend` would have."""

# bazel: imports=[cli.*]

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from aisle.v1.recommender_pb2 import RankRequest, RecommendRequest
from core.candidates import gather, listed
from core.errors import InputError
from core.history import Query
from core.work import Work
from serving.client import Client
from serving.embedded_redis import EmbeddedRedis
from serving.release import Release
from serving.resident import made_up_history
from tests.serving.shop import END, SOLD_OUT, TITLES


def test_a_list_of_everything_is_ordered_as_the_page(ask: Client) -> None:
    """Every source proposes all it knows of 18 items, so a page of everything and a list of everything have the same candidates."""
    for person in ("ann", "bob", "cid"):
        page = ask.recommend(RecommendRequest(user_id=person, page_size=500))
        found = ask.rank(RankRequest(user_id=person, item_ids=sorted(TITLES)))
        ordered = [r.item_id for r in found.results if r.item_id != SOLD_OUT]
        spoken = [r.item_id for r in page.results if r.source != "fill"]
        assert ordered[: len(spoken)] == spoken
        scores = {r.item_id: r.score for r in found.results}
        assert [scores[r.item_id] for r in page.results if r.source != "fill"] == pytest.approx(
            [r.score for r in page.results if r.source != "fill"]
        )
        assert (found.level, found.degraded) == (page.level, False)


def test_what_is_known_comes_back_once(ask: Client) -> None:
    found = ask.rank(RankRequest(user_id="ann", item_ids=["pot-6", "what", "tea-1", "cup-3", "tea-1", "who"]))
    assert sorted(r.item_id for r in found.results) == [
        "cup-3",
        "pot-6",
        "tea-1",
    ]  # pot-6 is sold out: it is the caller's list
    assert list(found.missing_ids) == ["what", "who"]
    assert [r.rank for r in found.results] == [1, 2, 3]
    assert found.results[0].item_id == "tea-1"  # which ann bought three times
    assert "you bought it 3 times" in found.results[0].reasons
    assert set(found.stage_latency_ms) == {"hydrate", "turn", "rank", "reasons", "total"}
    scores = [r.score for r in found.results]
    assert scores == sorted(scores, reverse=True)
    assert all(r.reasons and r.title == TITLES[r.item_id] for r in found.results)


def test_a_list_that_nothing_is_known_of_is_answered_empty(ask: Client) -> None:
    found = ask.rank(RankRequest(item_ids=["what"]))
    assert (list(found.results), list(found.missing_ids), found.level) == ([], ["what"], "popular")


def test_the_page_steers_a_strangers_list(ask: Client) -> None:
    found = ask.rank(RankRequest(item_ids=["pot-5", "cup-2"], context_item_ids=["tea-2", "hm"]))
    assert (found.results[0].item_id, found.level) == ("cup-2", "context")  # cups follow teas of the same number
    assert list(found.missing_ids) == ["hm"]


def test_parts_add_up(ask: Client) -> None:
    found = ask.rank(RankRequest(user_id="bob", item_ids=sorted(TITLES), explain=True))
    for result in found.results:
        assert sum(result.score_parts.values()) == pytest.approx(result.score, abs=1e-4)
    assert not any(r.score_parts for r in ask.rank(RankRequest(user_id="bob", item_ids=["tea-1"])).results)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"item_ids": []}, "item_ids"),
        ({"item_ids": ["x"] * 501}, "item_ids"),
        ({"item_ids": ["tea-1", ""]}, r"item_ids\[1\]"),
        ({"item_ids": ["tea-1"], "user_id": "x" * 257}, "user_id"),
    ],
)
def test_bad_requests_name_the_field(ask: Client, fields: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        ask.rank(RankRequest(**fields))


def test_unpersonalised_reads_nothing(ask: Client) -> None:
    of_ann = ask.rank(RankRequest(user_id="ann", personalize=False, item_ids=sorted(TITLES)))
    of_nobody = ask.rank(RankRequest(item_ids=sorted(TITLES)))
    assert [r.item_id for r in of_ann.results] == [r.item_id for r in of_nobody.results]
    assert of_ann.level == "popular"


def test_without_redis_the_list_is_still_ordered(ask: Client, redis_of_session: EmbeddedRedis, store: Any) -> None:
    store.flushall()  # the user state is gone
    found = ask.rank(RankRequest(user_id="ann", item_ids=sorted(TITLES)))
    assert (len(found.results), found.degraded, found.fallback_reason) == (18, True, "user-state-missing")


def test_listed_is_gather_over_a_catalogue_of_the_list(shop: Work) -> None:
    """Asked for everything, sources propose all they have evidence for: then both make the same candidates of it."""
    release, rng = Release.open(shop.current), np.random.default_rng(3)
    for _ in range(30):
        history = made_up_history(rng.integers(0, 18, int(rng.integers(0, 8))).astype(np.int32), END)
        query = Query(END, history=history, context=rng.integers(0, 18, int(rng.integers(0, 3))).astype(np.int32))
        quotas = dict.fromkeys((s.name for s in release.sources), 18)
        union = gather(release.sources, quotas, query, np.empty(0, np.int32))
        mine = listed(release.sources, quotas, query, union.rows)
        np.testing.assert_array_equal(mine.scores, union.scores)
        np.testing.assert_array_equal(mine.ranks, union.ranks)


def test_the_command(ask: Client, server: Any) -> None:
    called = [sys.executable, "-m", "cli", "rank", "--server", f"127.0.0.1:{server.port}", "--user", "ann"]
    done = subprocess.run(
        [*called, "--item", "cup-3", "--item", "tea-1", "--item", "nope"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert [r["item_id"] for r in said["results"]] == ["tea-1", "cup-3"]
    assert (said["missing_ids"], said["level"], said["degraded"]) == (["nope"], "warm", False)
