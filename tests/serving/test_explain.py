"""Why an item is there and why it is not, in the shop that a reader can reason about: every item ends in exactly one place."""

# bazel: imports=[cli.*]

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from aisle.v1.recommender_pb2 import ExplainRequest, ExplainResponse, RecommendRequest
from core.errors import InputError
from serving.client import Client
from tests.serving.shop import PURCHASES, SOLD_OUT, TITLES


def why(ask: Client, item: str, **request: Any) -> ExplainResponse:
    return ask.explain(ExplainRequest(request=RecommendRequest(**request), item_id=item))


def test_an_item_of_the_page(ask: Client) -> None:
    page = ask.recommend(RecommendRequest(user_id="ann", page_size=5, explain=True))
    for result in page.results:
        found = why(ask, result.item_id, user_id="ann", page_size=5)
        assert (found.outcome, found.rank, found.title) == ("on-page", result.rank, TITLES[result.item_id])
        assert (found.score, found.page_score) == (result.score, page.results[-1].score)
        assert (found.ranked_by, found.level, found.release) == ("blend", "warm", page.release)
        assert sum(p.value for p in found.score_parts) == pytest.approx(result.score, abs=1e-4)
        assert sum(result.score_parts.values()) == pytest.approx(result.score, abs=1e-4)
        assert {s.source: pytest.approx(s.score) for s in found.sources if s.score} == dict(result.contributions)
        assert found.reasons


def test_the_best_reason_comes_first(ask: Client) -> None:
    # ann bought tea-1 three times: own_frequency gives it the most, item_knn names tea-2, which is next to it
    found = why(ask, "tea-1", user_id="ann")
    assert "you bought it 3 times" in found.reasons
    assert "often follows Tea number 1, which you bought" in why(ask, "cup-1", user_id="ann").reasons
    values = [p.value for p in found.score_parts]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize(
    ("item", "request_fields", "outcome", "summary"),
    [
        (SOLD_OUT, {"user_id": "bob"}, "unavailable", "lost in the filter: it is not available"),
        ("tea-1", {"user_id": "ann", "exclude_item_ids": ["tea-1"]}, "excluded", "the request excludes it"),
        ("tea-1", {"user_id": "ann", "exclude_seen": True}, "seen", "has it already"),
        ("tea-2", {"context_item_ids": ["tea-2"]}, "on-context", "the page that the person looks at"),
        ("nope", {"user_id": "ann"}, "unknown-item", "the release does not know this item"),
        ("pot-1", {"user_id": "ann", "page_size": 1}, "below-page", "lost in ranking: place"),
    ],
)
def test_the_stage_that_lost_it(
    ask: Client, item: str, request_fields: dict[str, Any], outcome: str, summary: str
) -> None:
    found = why(ask, item, **request_fields)
    assert (found.outcome, summary in found.summary) == (outcome, True), found.summary
    assert found.available == (item not in (SOLD_OUT, "nope"))


def test_every_item_ends_in_one_place(ask: Client) -> None:
    """Places on and below the page number the candidates through; what is there is there, what is not is not."""
    for person in ("ann", "nobody"):
        request: dict[str, Any] = {"user_id": person, "page_size": 4, "exclude_item_ids": ["cup-4"]}
        page = [r.item_id for r in ask.recommend(RecommendRequest(**request)).results]
        found = {item: why(ask, item, **request) for item in TITLES}
        assert [i for i in page if found[i].outcome == "on-page"] == page
        assert sum(f.outcome == "on-page" for f in found.values()) == 4
        places = sorted(f.rank for f in found.values() if f.rank)
        assert places == list(range(1, len(places) + 1))
        assert {i for i, f in found.items() if f.outcome == "excluded"} == {"cup-4"}
        assert all(bool(f.score_parts) == (f.outcome in ("on-page", "below-page")) for f in found.values())
        below = [f for f in found.values() if f.outcome == "below-page"]
        assert all(f.score <= f.page_score for f in below)
        assert all(
            "bought" not in r
            for i, f in found.items()
            if i not in PURCHASES.get(f"u:{person}", [])
            for r in f.reasons
            if r.startswith("you bought it")
        )


def test_an_item_that_no_source_proposed(ask: Client) -> None:
    # with tea-6 on the page nothing is like a cup of another number but by popularity, which proposes all
    found = why(ask, "cup-1", context_item_ids=["tea-6"], page_size=3)
    assert {s.source: s.rank for s in found.sources}["transitions"] == 0
    assert all(s.rank <= s.proposed for s in found.sources)


def test_explaining_is_not_recorded(ask: Client) -> None:
    before = dict(ask.status().levels)
    why(ask, "tea-1", user_id="ann")
    assert dict(ask.status().levels) == before


def test_bad_requests_name_the_field(ask: Client) -> None:
    with pytest.raises(InputError, match="item_id: is required"):
        why(ask, "")
    with pytest.raises(InputError, match="page_size"):
        why(ask, "tea-1", page_size=501)


@pytest.mark.parametrize(("item", "outcome"), [("tea-1", "on-page"), (SOLD_OUT, "unavailable")])
def test_the_command(ask: Client, server: Any, item: str, outcome: str) -> None:
    called = [sys.executable, "-m", "cli", "explain", "--server", f"127.0.0.1:{server.port}", "--user", "ann"]
    done = subprocess.run([*called, "--item", item], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    assert (said["item_id"], said["outcome"]) == (item, outcome)
    assert np.isclose(sum(p["value"] for p in said["score_parts"]), said["score"], atol=1e-4)
    assert said["summary"] in " ".join(done.stderr.split())
