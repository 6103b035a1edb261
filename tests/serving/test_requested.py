"""Caps, diversity, promotions and candidates that a request brings, beside the rules of the shop; and requests that are only checked."""

# bazel: size=medium

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisle.v1.recommender_pb2 import (
    BatchRecommendRequest,
    Cap,
    ExplainRequest,
    Promotion,
    RecommendRequest,
    SimilarItemsRequest,
)
from core.errors import InputError
from core.history import Query
from core.work import Work
from serving.answers import Answer, Request
from serving.client import Client
from serving.config import ServingConfig
from serving.process import ServingProcess
from serving.request_path import answer
from serving.rules.bound import PageRules, bound
from serving.rules.load import Rule
from serving.rules.requested import RequestRules
from serving.rules.schema import KINDS
from serving.validation import BadRequestError
from tests.serving.conftest import options_for
from tests.serving.ruled_shop import NOW, Shop, made_up, shop_of
from tests.serving.shop import PURCHASES, SOLD_OUT, TITLES


def ten(**keys: str) -> Shop:
    """Items i0 to i9, the best first, with attributes one by one."""
    return shop_of([{"item_id": f"i{n}", **{key: values[n] for key, values in keys.items()}} for n in range(10)])


def shops(shop: Shop, *rules: dict[str, Any]) -> PageRules:
    """Rules of the shop."""
    specs = [KINDS[keys["kind"]].model_validate({"name": f"r{n}", **keys}) for n, keys in enumerate(rules)]
    return bound([Rule(spec, "rules.yaml", n, *spec.in_force) for n, spec in enumerate(specs)], shop.release, NOW)


def page(shop: Shop, k: int, *rules: dict[str, Any], **request: Any) -> Answer:
    """Of a request that brings something, over the rules of a shop."""
    found = RequestRules().of(RecommendRequest(**request), shop.release, NOW)
    assert found is not None
    return answer(shop.release, Request(Query(NOW), k, rules=found.over(shops(shop, *rules) if rules else None)))


def most(attribute: str, n: float, **more: Any) -> Cap:
    return Cap(attribute=attribute, cap_type=Cap.VALUE, max=n, **more)


def test_caps() -> None:
    shop = ten(brand="AAABBACCAB")
    assert page(shop, 4, caps=[most("brand", 2)]).rows.tolist() == [0, 1, 3, 4]
    # half of four places
    share = Cap(attribute="brand", cap_type=Cap.PERCENTAGE, max=50)
    assert page(shop, 4, caps=[share]).rows.tolist() == [0, 1, 3, 4]
    # never two in a row
    assert page(shop, 6, caps=[most("brand", 1, window=2)]).rows.tolist() == [0, 3, 1, 4, 2, 6]
    # the shop's cap and the request's both hold
    both = page(shop, 5, {"kind": "cap", "by": "brand", "most": 1}, caps=[most("brand", 2)])
    assert both.rows.tolist() == [0, 3, 6]


def test_promotions_come_after_the_places_of_the_shop() -> None:
    shop = ten(brand="AAAAAABBCC")
    blue, green = (Promotion(name=n, percent=20, filter=f"brand = '{b}'") for n, b in (("blue", "B"), ("green", "C")))
    # 20 % of ten: the fifth and the tenth; green finds these taken and has the next free one, the sixth, and none behind the tenth. When it is
    # the tenth's turn no B is left
    found = page(shop, 10, promotions=[blue, green])
    assert found.rows.tolist() == [0, 1, 2, 3, 6, 8, 4, 5, 7, 9]
    assert found.arranged is not None
    assert {at: rule.name for at, rule in found.arranged.put.items()} == {6: "blue", 8: "green"}
    pin = {"kind": "pin", "item": "i9", "at": 5}
    assert page(shop, 5, pin, promotions=[blue]).rows.tolist() == [0, 1, 2, 3, 9]
    paid = {"kind": "sponsor", "where": "brand = 'C'", "at": [5]}
    assert page(shop, 5, paid, promotions=[blue]).rows.tolist() == [0, 1, 2, 3, 8]
    hidden = {"kind": "hide", "where": "brand = 'B'"}
    assert page(shop, 5, hidden, promotions=[blue]).rows.tolist() == [0, 1, 2, 3, 4]


def test_the_word_of_the_request_on_diversity_counts() -> None:
    shop = ten(category="AAAAAABBCC")
    plain = list(range(10))
    shops_own = {"kind": "diversify", "level": 0.5, "by": "category"}
    assert page(shop, 10, shops_own, diversity_level="no-diversity").rows.tolist() == plain
    strong = page(shop, 10, diversity_level="high-diversity").rows.tolist()
    # level 0.5 by category: i0, then the first of B, for 0.5 / log2(8) = 0.17 beats 0.5 / log2(3) - 0.5 < 0; then the first of C
    assert strong[:3] == [0, 6, 8]
    assert page(shop, 10, {**shops_own, "level": 0.1}, diversity_level="high-diversity").rows.tolist() == strong
    auto = RequestRules().of(RecommendRequest(diversity_level="auto-diversity"), shop.release, NOW)
    assert auto is None
    different = [
        len({"AAAAAABBCC"[row] for row in page(shop, 4, diversity_level=f"{level}-diversity").rows.tolist()})
        for level in ("no", "low", "medium", "high")
    ]
    assert different == sorted(different)
    assert (different[0], different[-1]) == (1, 3)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 5),
    k=st.integers(1, 30),
    caps=st.lists(
        st.builds(
            lambda by, kind, n, window: Cap(attribute=by, cap_type=kind, max=n, window=window),
            st.sampled_from(["brand", "category", "colour", "item_group_id"]),
            st.sampled_from([Cap.VALUE, Cap.PERCENTAGE]),
            st.integers(1, 4),
            st.sampled_from([0, 2, 5]),
        ),
        min_size=1,
        max_size=3,
    ),
)
def test_caps_are_never_exceeded(seed: int, k: int, caps: list[Cap]) -> None:
    shop = shop_of(made_up(60, seed))
    rows = page(shop, k, caps=caps).rows.tolist()
    for cap in caps:
        window = min(cap.window or k, k)
        allowed = max(1, int(window * cap.max / 100)) if cap.cap_type == Cap.PERCENTAGE else cap.max
        values = [shop.items[row][cap.attribute] for row in rows]
        for start in range(max(1, len(rows) - window + 1)):
            near = [
                v for value in values[start : start + window] for v in (value if isinstance(value, list) else [value])
            ]
            assert all(n <= allowed for v, n in Counter(near).items() if v is not None)


@pytest.mark.parametrize(
    ("request_", "where", "says"),
    [
        (RecommendRequest(caps=[most("brand", 1), most("brnd", 1)]), "caps[1].attribute", "did you mean 'brand'?"),
        (RecommendRequest(caps=[most("price", 1)]), "caps[0].attribute", "'price' does not hold texts"),
        (
            RecommendRequest(promotions=[Promotion(name="x", percent=10, filter="color = 'red'")]),
            "promotions[0].filter",
            "at character 1: unknown field 'color'",
        ),
    ],
)
def test_what_the_release_lacks_names_the_field(request_: RecommendRequest, where: str, says: str) -> None:
    with pytest.raises(BadRequestError) as refused:
        RequestRules().of(request_, shop_of(made_up(5, 0)).release, NOW, "request.")
    [(field, what)] = refused.value.violations
    assert (field, says in what) == (f"request.{where}", True), what


def test_what_is_bound_is_kept_while_the_items_are_the_same() -> None:
    rules, shop = RequestRules(), shop_of(made_up(20, 0))
    asked = RecommendRequest(caps=[most("brand", 1)])
    first = rules.of(asked, shop.release, NOW)
    assert rules.of(RecommendRequest(caps=[most("brand", 1)], user_id="x"), shop.release, NOW + 10**9) is first
    assert rules.of(RecommendRequest(caps=[most("brand", 2)]), shop.release, NOW) is not first
    assert rules.of(asked, replace(shop.release), NOW) is not first
    aged = RecommendRequest(promotions=[Promotion(name="new", percent=50, filter="age_days < 1")])
    at = [rules.of(aged, shop.release, NOW + later) for later in (0, 1, 10**9)]
    assert at[0] is at[1] is not at[2]  # ages count to the minute


def test_candidates_are_all_that_there_is() -> None:
    shop = ten(brand="AAABBACCAB")
    shop.release.available[7] = False
    only = np.array([3, 5, 7, 9], np.int32)
    asked = Request(Query(NOW, context=np.array([5], np.int32)), 10, fill=False, only=only)
    assert answer(shop.release, asked).rows.tolist() == [3, 9]
    pin = shops(shop, {"kind": "pin", "item": "i9", "at": 1}, {"kind": "pin", "item": "i0", "at": 2})
    ruled = answer(shop.release, replace(asked, rules=pin))
    assert ruled.rows.tolist() == [9, 3]  # what is not in the list is not brought in


# --- through a running server ------------------------------------------------------------------------------------------


def ids(response: Any) -> list[str]:
    return [r.item_id for r in response.results]


@pytest.fixture
def ruled(shop: Work, redis_url: str, config: ServingConfig, tmp_path: Path) -> Iterator[Client]:
    """A server whose shop hides tea-1."""
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "a.yaml").write_text("rules:\n  - {name: recalled, kind: hide, where: 'item_id = \"tea-1\"'}\n")
    process = ServingProcess(options_for(shop, redis_url, config.with_rules(folder)))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as connected:
        yield connected
    process.stop()


def test_candidates_obey_rules_filters_and_exclusions(ruled: Client) -> None:
    listed = ["tea-1", "tea-2", "cup-1", "pot-2", "tea-2", SOLD_OUT, "nope"]
    asked: dict[str, Any] = {"user_id": "ann", "candidate_item_ids": listed, "exclude_item_ids": ["pot-2"]}
    found = ruled.recommend(RecommendRequest(**asked))
    assert set(ids(found)) == {"tea-2", "cup-1"}
    assert list(found.missing_ids) == ["nope"]
    # as `Rank` orders them, whose list has what the page lacks too
    assert ids(ruled.recommend(RecommendRequest(**asked, filter="item_id != 'cup-1'"))) == ["tea-2"]
    assert ids(ruled.recommend(RecommendRequest(user_id="ann", candidate_item_ids=["nope"]))) == []
    outcomes = {
        item: ruled.explain(ExplainRequest(request=RecommendRequest(**asked), item_id=item)).outcome
        for item in ("tea-1", "tea-2", "tea-3", "pot-2", SOLD_OUT)
    }
    assert list(outcomes.values()) == ["hidden", "on-page", "unlisted", "excluded", "unavailable"]


def test_promotions_and_caps_are_named(ruled: Client) -> None:
    asked = RecommendRequest(
        user_id="ann",
        page_size=4,
        promotions=[Promotion(name="spring", percent=25, filter="item_id IN ('pot-5', 'tea-1')")],
        caps=[most("category", 1)],
    )
    found = ruled.recommend(asked)
    assert (found.results[3].item_id, found.results[3].promotion_name) == ("pot-5", "spring")
    assert not found.results[3].sponsored
    why = ruled.explain(ExplainRequest(request=asked, item_id="pot-5"))
    assert (why.rule, why.rule_file, why.outcome) == ("spring", "", "on-page")
    assert why.summary.endswith("put there by 'spring' of the request")
    similar = ruled.similar(
        SimilarItemsRequest(
            item_ids=["cup-2"], page_size=4, promotions=asked.promotions, diversity_level="low-diversity"
        )
    )
    assert similar.results[3].promotion_name == "spring"


def test_only_checked(ruled: Client) -> None:
    before = dict(ruled.status().levels)
    asked = RecommendRequest(user_id="ann", request_id="r", validate_only=True, exclude_item_ids=["nope"])
    found = ruled.recommend(asked)
    assert (ids(found), list(found.missing_ids), found.request_id) == ([], ["nope"], "r")
    assert found.release
    for wrong in ({"filter": "colour = 1"}, {"page_token": "x"}, {"caps": [most("colour", 1)]}):
        with pytest.raises(InputError):
            ruled.recommend(RecommendRequest(validate_only=True, **wrong))
        with pytest.raises(InputError):
            ruled.recommend(RecommendRequest(**wrong))
    assert ids(ruled.similar(SimilarItemsRequest(item_ids=["tea-2"], validate_only=True))) == []
    assert dict(ruled.status().levels) == before


# --- several placements ------------------------------------------------------------------------------------------------


def test_no_item_twice_on_one_page(ask: Client) -> None:
    requests = [
        RecommendRequest(user_id="ann", placement="top", page_size=5, request_id="a"),
        RecommendRequest(user_id="ann", placement="middle", page_size=5, context_item_ids=["tea-2"]),
        RecommendRequest(user_id="ann", placement="rest", page_size=20),
    ]
    found = ask.recommend_batch(requests)
    assert [len(r.results) for r in found] == [5, 5, 7]  # of 17 that are available
    shown = [i for r in found for i in ids(r)]
    assert sorted(shown) == sorted(set(TITLES) - {SOLD_OUT})
    alone = [ask.recommend(r) for r in requests]
    assert ids(found[0]) == ids(alone[0])
    excluded = RecommendRequest(exclude_item_ids=ids(found[0]))
    excluded.MergeFrom(requests[1])
    assert ids(found[1]) == ids(ask.recommend(excluded))
    assert "tea-2" not in ids(found[1])
    assert found[0].request_id == "a"
    # the person was read for the first; what one placement took is not counted for another
    assert [sorted(r.stage_latency_ms) for r in found] == [
        ["hydrate", "reasons", "recommend", "total", "turn"],
        *[["reasons", "recommend", "total", "turn"]] * 2,
    ]
    for r in found:
        stages = [ms for stage, ms in r.stage_latency_ms.items() if stage != "total"]
        assert r.stage_latency_ms["total"] == pytest.approx(sum(stages), rel=1e-5)
    assert len({r.attribution_token for r in found}) == 3
    assert ask.status().levels["warm"] == 3 + 3 + 1


def test_a_person_is_read_once(ask: Client, store: Any) -> None:
    requests = [RecommendRequest(user_id="ann", visitor_id="guest", session_id="s")] * 4
    ask.recommend_batch(requests)
    before = store.info("stats")["total_commands_processed"]
    ask.recommend_batch(requests)
    # MGET, three LRANGE; and the INFO above
    assert store.info("stats")["total_commands_processed"] - before == 4 + 1


def test_further_pages_of_a_placement_leave_out_what_the_others_showed(ask: Client) -> None:
    listed = RecommendRequest(user_id="ann", page_size=3, list_size=17)
    top, side = ask.recommend_batch([listed, RecommendRequest(user_id="ann", page_size=6)])
    more = ask.recommend(RecommendRequest(user_id="ann", page_size=20, page_token=top.next_page_token))
    assert sorted(ids(top) + ids(side) + ids(more)) == sorted(set(TITLES) - {SOLD_OUT})


def test_one_placement_that_is_only_checked(ask: Client) -> None:
    plain = RecommendRequest(user_id="bob", page_size=3)
    found = ask.recommend_batch([RecommendRequest(user_id="bob", validate_only=True), plain])
    assert [len(r.results) for r in found] == [0, 3]
    assert ids(found[1]) == ids(ask.recommend(plain))


@pytest.mark.parametrize(
    ("requests", "says"),
    [
        ([], "requests: has 0 entries, expected 1 to 20"),
        ([{}] * 21, "requests: has 21 entries, expected 1 to 20"),
        ([{}, {"page_size": -1}], r"requests\[1\].page_size: is -1"),
        ([{"user_id": "a"}, {"user_id": "b"}], r"requests\[1\].user_id: is 'b', that of requests\[0\] is 'a'"),
        ([{}, {"personalize": False}], r"requests\[1\].personalize: is False"),
        ([{"page_token": "x"}], r"requests\[0\].page_token: further pages are asked for one by one"),
        ([{"request_id": "r"}, {"request_id": "r"}], r"requests\[1\].request_id: 'r' is the name of an earlier"),
        ([{}, {"filter": "colour = 1"}], r"requests\[1\].filter: at character 1: unknown field 'colour'"),
        ([{}, {"caps": [most("colour", 1)]}], r"requests\[1\].caps\[0\].attribute: no text field 'colour'"),
    ],
)
def test_one_placement_that_is_wrong_stops_them_all(ask: Client, requests: list[dict[str, Any]], says: str) -> None:
    before = dict(ask.status().levels)
    with pytest.raises(InputError, match=says):
        ask.recommend_batch(BatchRecommendRequest(requests=[RecommendRequest(**r) for r in requests]).requests)
    assert dict(ask.status().levels) == before


def test_default_requests_are_not_touched(ask: Client) -> None:
    """Fields that say what holds anyway change nothing."""
    for person in [p.removeprefix("u:") for p in PURCHASES if p.startswith("u:")][:6]:
        plain = ask.recommend(RecommendRequest(user_id=person))
        said = RecommendRequest(user_id=person, diversity_level="auto-diversity", min_score=0, list_size=10)
        same = ask.recommend(said)
        assert [(r.item_id, r.score, r.source) for r in same.results] == [
            (r.item_id, r.score, r.source) for r in plain.results
        ]
