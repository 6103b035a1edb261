"""Lists of several pages: nothing twice, nothing left out but what may no longer be shown, and no token but our own."""

# bazel: size=medium

from __future__ import annotations

import base64
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import Cap, RecommendRequest, RecommendResponse
from core.errors import ConfigError, InputError
from core.history import Query
from core.schema import DAY, HOUR
from core.work import Work
from serving.answers import Answer, Request
from serving.client import Client
from serving.config import PAGE_KEY, ServingConfig
from serving.page_tokens import Onward, PageTokens, secret_of
from serving.paging import Paging, next_page
from serving.process import ServingProcess
from serving.request_path import answer
from serving.rules.bound import PageRules, bound
from serving.rules.load import Rule
from serving.rules.schema import KINDS
from tests.serving.conftest import changed, options_for
from tests.serving.ruled_shop import NOW, Shop, made_up, shop_of
from tests.serving.shop import END, SOLD_OUT, make_shop

SECRET = bytes(range(32))
NONE = np.empty(0, np.int32)


def pages(
    shop: Shop, k: int, size: int, rules: PageRules | None = None, later: Shop | None = None, **query: Any
) -> list[list[str]]:
    """The pages of a list, until its end; the first by `shop`, the others by the `later` one."""
    paging, asked = Paging(PageTokens(SECRET, "default", 24)), RecommendRequest(list_size=size)
    request = Request(Query(NOW, **query), k, rules=rules, list_size=size)
    found: list[list[str]] = []
    onward: Onward | None = None
    while True:
        release = (later or shop).release if found else shop.release
        page: Answer = answer(release, request) if onward is None else next_page(release, request, onward)
        found.append([release.item_ids[row] for row in page.rows.tolist()])
        token = paging.token(asked, release, page, onward, NOW, NONE)
        if not token:
            return found
        onward = paging.onward(RecommendRequest(list_size=1, page_size=3, page_token=token), NOW)


def rules_of(shop: Shop, *rules: dict[str, Any]) -> PageRules:
    specs = [KINDS[keys["kind"]].model_validate({"name": f"r{n}", **keys}) for n, keys in enumerate(rules)]
    return bound([Rule(spec, "rules.yaml", n, *spec.in_force) for n, spec in enumerate(specs)], shop.release, NOW)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(0, 60), seed=st.integers(0, 5), k=st.integers(1, 20), size=st.integers(1, 70))
def test_the_pages_are_the_long_page_cut_in_pieces(n: int, seed: int, k: int, size: int) -> None:
    shop = shop_of(made_up(n, seed))
    found = pages(shop, k, max(k, size))
    whole = answer(shop.release, Request(Query(NOW), max(k, size))).rows.tolist()
    assert [i for page in found for i in page] == [shop.release.item_ids[row] for row in whole]
    assert all(len(page) == k for page in found[:-1])


capped = st.lists(
    st.fixed_dictionaries(
        {"kind": st.just("cap"), "by": st.sampled_from(["brand", "category", "colour"]), "most": st.integers(1, 3)}
    ),
    max_size=2,
)
others = st.lists(
    st.sampled_from(
        [
            {"kind": "bury", "where": "brand = 'Acme'", "places": 5.0},
            {"kind": "pin", "item": "item-3", "at": 2},
            {"kind": "sponsor", "where": "colour = 'red'", "share": 0.3},
            {"kind": "diversify", "level": 0.4, "by": "category"},
        ]
    ),
    max_size=3,
)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 50), k=st.integers(1, 12), caps=capped, more=others)
def test_with_rules_every_page_obeys_and_nothing_is_lost(
    n: int, k: int, caps: list[dict[str, Any]], more: list[dict[str, Any]]
) -> None:
    shop = shop_of(made_up(n, 3))
    found = pages(shop, k, 1000, rules_of(shop, *caps, *more))
    flat = [i for page in found for i in page]
    # caps hold items back from one page, not from the list
    assert sorted(flat) == sorted(i["item_id"] for i in shop.items if i["available"])
    pinned = {"item-3"} if any(m["kind"] == "pin" for m in more) else set()
    for page in found:
        rows = [shop.items[shop.row(i)] for i in page if i not in pinned]
        for cap in caps:
            values = [row.get(cap["by"]) for row in rows]
            each = [v for value in values for v in (value if isinstance(value, list) else [value]) if v is not None]
            assert all(each.count(v) <= cap["most"] for v in set(each))


def test_another_release_goes_on_in_the_order_of_the_first() -> None:
    names = [f"i{n}" for n in range(9)]
    shop = shop_of([{"item_id": name} for name in names])
    # other rows, another ranking; i4 is gone, i6 sold out, and one is new
    after = [{"item_id": i} for i in ("new", *reversed([n for n in names if n != "i4"]))]
    later = shop_of([{**item, "available": item["item_id"] != "i6"} for item in after])
    assert pages(shop, 3, 9, later=later) == [["i0", "i1", "i2"], ["i3", "i5", "i7"], ["i8"]]


def test_pins_are_of_the_first_page_and_caps_of_each() -> None:
    shop = shop_of([{"item_id": f"i{n}", "brand": "AAABBB"[n]} for n in range(6)])
    pin, cap = {"kind": "pin", "item": "i5", "at": 1}, {"kind": "cap", "by": "brand", "most": 1}
    # i5 is a B, so an A follows it; then one of each on every page
    assert pages(shop, 2, 6, rules_of(shop, pin, cap)) == [["i5", "i0"], ["i1", "i3"], ["i2", "i4"]]


def test_scores_and_sources_go_on() -> None:
    shop = shop_of([{"item_id": f"i{n}"} for n in range(6)])
    few = shop.release.settings.model_copy(
        update={"quotas": {"popularity": 2}, "candidates": 2, "candidates_per_place": 0}
    )
    release = replace(shop.release, settings=few)
    request = Request(Query(NOW), 2, list_size=6)
    whole, page = answer(release, replace(request, k=6, list_size=0)), answer(release, request)
    onward = replace(_onward(), item_ids=["i2", "i3"], scores=[3.0, 2.5], sources=["popularity", "fill"])
    more = next_page(release, request, onward)
    assert (more.scores.tolist(), more.sources) == ([3.0, 2.5], ("popularity", "fill"))
    assert page.rest is not None
    assert [*page.scores, *page.rest.scores] == whole.scores.tolist()
    assert (*page.sources, *page.rest.sources) == whole.sources


def _onward() -> Onward:
    return Onward(NOW, b"12345678", "release", "warm", False, 3, ["ü", "b"], [1.5, -2.0], ["popularity", "fill"])


def test_a_token_says_what_was_sealed_and_nothing_else_opens() -> None:
    tokens = PageTokens(SECRET, "default", 24)
    token = tokens.seal(_onward())
    assert tokens.open(token, b"12345678", NOW + DAY) == _onward()
    with pytest.raises(InputError, match="older than 24 hours"):
        tokens.open(token, b"12345678", NOW + DAY + HOUR)
    with pytest.raises(InputError, match="another request"):
        tokens.open(token, b"12345679", NOW)
    for other in (PageTokens(SECRET[::-1], "default", 24), PageTokens(SECRET, "shop-2", 24)):
        with pytest.raises(InputError, match="none that this server gave out"):
            other.open(token, b"12345678", NOW)


@settings(deadline=None)
@given(data=st.data())
def test_no_altered_token_opens(data: st.DataObject) -> None:
    tokens = PageTokens(SECRET, "default", 24)
    token = tokens.seal(_onward())
    raw = bytearray(base64.urlsafe_b64decode(token))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    made_up = data.draw(st.one_of(st.text(), st.just(token[:-4]), st.just(token + "AAAA")))
    for wrong in (base64.urlsafe_b64encode(bytes(raw)).decode(), made_up):
        with pytest.raises(InputError, match="none that this server gave out"):
            tokens.open(wrong, b"12345678", NOW)


def test_the_secret_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "key"
    first = secret_of(file)
    assert (len(first), secret_of(file)) == (32, first)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["key"]
    assert secret_of(None) != secret_of(None)
    file.write_bytes(b"short")
    with pytest.raises(ConfigError, match=r"key: holds 5 bytes, expected a secret of 32 to 64"):
        secret_of(file)
    with pytest.raises(ConfigError, match="cannot be read or made"):
        secret_of(tmp_path / "nowhere" / "key")


# --- through running servers -------------------------------------------------------------------------------------------


@pytest.fixture
def blind(shop: Work, config: ServingConfig) -> Iterator[Client]:
    """Another worker of the same server, which has lost Redis."""
    process = ServingProcess(options_for(shop, "redis://127.0.0.1:1/0", config))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as connected:
        yield connected
    process.stop()


def ids(response: RecommendResponse) -> list[str]:
    return [r.item_id for r in response.results]


def test_events_a_dead_redis_and_another_worker_change_nothing(ask: Client, blind: Client) -> None:
    request = RecommendRequest(user_id="ann", page_size=5, list_size=17)
    whole = ask.recommend(RecommendRequest(user_id="ann", page_size=17))
    first = ask.recommend(request)
    ask.write_events([Event(event_type="purchase-complete", item_id=f"pot-{n}", user_id="ann") for n in (3, 4, 5)])
    assert ids(ask.recommend(request)) != ids(first)  # who asks anew sees the new order
    found, page = [first], first
    for client in (blind, ask, blind):
        asked = RecommendRequest(user_id="ann", page_size=5, page_token=page.next_page_token, request_id="more")
        page = client.recommend(asked)
        found.append(page)
    assert [i for p in found for i in ids(p)] == ids(whole)
    assert [r.score for p in found for r in p.results] == [r.score for r in whole.results]
    assert [r.source for p in found for r in p.results] == [r.source for r in whole.results]
    assert [r.rank for p in found for r in p.results] == list(range(1, 18))
    assert [p.next_page_token == "" for p in found] == [False, False, False, True]
    assert [p.degraded for p in found] == [False, True, False, True]
    assert {p.level for p in found} == {"warm"}
    assert all(r.reasons for p in found for r in p.results)
    assert ask.recommend(RecommendRequest(user_id="ann")).next_page_token == ""


def test_a_swapped_release_goes_on(ask: Client, tmp_path: Path) -> None:
    request = RecommendRequest(user_id="bob", page_size=6, list_size=17)
    whole = ids(ask.recommend(RecommendRequest(user_id="bob", page_size=17)))
    first = ask.recommend(request)
    later = make_shop(tmp_path, end=END + DAY, sales=2)
    ask.load_release(str(later.current))
    more = ask.recommend(RecommendRequest(user_id="bob", page_size=50, page_token=first.next_page_token))
    assert more.release == later.current.resolve().name != first.release
    assert ids(first) + ids(more) == whole


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": "bob"},
        {"session_id": "s"},
        {"personalize": False},
        {"placement": "cart"},
        {"context_item_ids": ["tea-1"]},
        {"exclude_item_ids": ["tea-1"]},
        {"filter": "item_id != 'tea-1'"},
        {"strict_filtering": False},
        {"candidate_item_ids": ["tea-1", "tea-2"]},
        {"caps": [Cap(attribute="brand", cap_type=Cap.VALUE, max=1)]},
        {"min_score": 0.5},
    ],
    ids=lambda c: next(iter(c)),
)
def test_a_token_is_of_one_request(ask: Client, changes: dict[str, Any]) -> None:
    token = ask.recommend(RecommendRequest(user_id="ann", list_size=17)).next_page_token
    with pytest.raises(InputError, match="page_token: belongs to another request"):
        ask.recommend(RecommendRequest(**{"user_id": "ann", "page_token": token, **changes}))


def test_what_was_bought_or_excluded_meanwhile_is_not_shown(ask: Client) -> None:
    asked: dict[str, Any] = {"user_id": "cid", "exclude_purchased": True}
    first = ask.recommend(RecommendRequest(page_size=3, list_size=17, **asked))
    rest = ids(ask.recommend(RecommendRequest(page_size=17, page_token=first.next_page_token, **asked)))
    ask.write_events([Event(event_type="purchase-complete", item_id=rest[0], user_id="cid")])
    found = ids(ask.recommend(RecommendRequest(page_size=17, page_token=first.next_page_token, **asked)))
    assert found == rest[1:]
    assert SOLD_OUT not in found


def test_a_work_directory_that_cannot_be_written(
    shop: Work, redis_url: str, config: ServingConfig, tmp_path: Path
) -> None:
    """Lists go on as long as the server does."""
    work = tmp_path / "work"
    work.mkdir()
    for part in ("releases", "user_state"):
        (work / part).symlink_to(shop.root / part)
    (work / PAGE_KEY).mkdir()  # who tests is root, whom no permission stops
    options = replace(options_for(shop, redis_url, changed(config, "catalog", folder="none")), work=work)
    process = ServingProcess(options)
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        first = ask.recommend(RecommendRequest(page_size=5, list_size=17))
        more = ask.recommend(RecommendRequest(page_size=50, page_token=first.next_page_token))
        assert len(set(ids(first) + ids(more))) == 17
    process.stop()


def test_a_key_of_ones_own(shop: Work, redis_url: str, config: ServingConfig, tmp_path: Path) -> None:
    """What several hosts do: the same file on each."""
    own = changed(config, "paging", key=str(tmp_path / "key"))
    process = ServingProcess(options_for(shop, redis_url, own))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        token = ask.recommend(RecommendRequest(list_size=17)).next_page_token
        tokens = PageTokens((tmp_path / "key").read_bytes(), config.tenant, config.paging.hours)
        assert ids(ask.recommend(RecommendRequest(page_token=token))) == tokens._opened(token)[7]
    process.stop()
