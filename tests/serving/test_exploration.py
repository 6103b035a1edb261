"""Pages of which something is left to chance: how often each item stands in each place, what stays as it is, and what the calls say of it."""

# bazel: size=medium

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import redis as redis_py

from aisle.v1.recommender_pb2 import ExplainRequest, RecommendRequest
from core.columns import Array
from core.event_log import sampled
from core.history import Query
from core.schema import DAY
from core.work import Work
from serving.answers import NEW, Request
from serving.client import Client
from serving.config import ServingConfig
from serving.exploration import Chance, Exploration, new_items
from serving.filters.masks import Masks
from serving.plackett_luce import chances, worths
from serving.process import ServingProcess
from serving.request_path import answer
from serving.rules.bound import bound
from serving.rules.load import Rule
from serving.rules.schema import KINDS
from tests.serving.conftest import changed, options_for
from tests.serving.exploring import drawing
from tests.serving.ruled_shop import NOW, Shop, shop_of
from tests.waiting import until

DRAWS = 2_000
STEEP = drawing(steepness=1.0, reach=2.0, new_items__share=0.0)


def ten(**keys: list[Any]) -> Shop:
    """Items i0 to i9, the best first; every page of them without chance is 0, 1, 2, ..."""
    return shop_of([{"item_id": f"i{n}", **{key: values[n] for key, values in keys.items()}} for n in range(10)])


def rule(**keys: Any) -> Rule:
    spec = KINDS[keys["kind"]].model_validate({"name": "r", **keys})
    return Rule(spec, "rules.yaml", 1, *spec.in_force)


def chance(id: object, config: Any = STEEP, explored: bool = True, new: Any = ()) -> Chance:
    return Chance(str(id), config, explored, np.array(new, np.int32))


def often(shop: Shop, request: Request, config: Any = STEEP, **more: Any) -> tuple[Array, Array]:
    """How often each item stood in each place, int `[items, k]`, and the propensity that was said of it there; NaN where it never stood."""
    counts, said = np.zeros((len(shop.items), request.k)), np.full((len(shop.items), request.k), np.nan)
    for n in range(DRAWS):
        page = answer(shop.release, replace(request, chance=chance(n, config, **more)))
        assert page.drawn is not None
        counts[page.rows, range(len(page.rows))] += 1
        for place, (row, p) in enumerate(zip(page.rows.tolist(), page.drawn.propensities.tolist(), strict=True)):
            assert np.isnan(said[row, place]) or said[row, place] == pytest.approx(p, abs=1e-12)  # the same each time
            said[row, place] = p
    return counts, said


def check(counts: Array, said: Array) -> None:
    """What was said adds up in each place, and is how often it was: chi-square over the cells that are expected five times at least."""
    p = np.nan_to_num(said)
    for place in range(counts.shape[1]):
        expected = DRAWS * p[:, place]
        cells = expected >= 5
        assert p[:, place].sum() == pytest.approx(1, abs=5 / DRAWS)  # what never came is as rare as that
        statistic = ((counts[cells, place] - expected[cells]) ** 2 / expected[cells]).sum()
        assert statistic < 45, (place, statistic)  # at most 9 degrees of freedom: P(> 45) = 1e-6


def test_a_drawn_page_has_the_chances_of_plackett_luce() -> None:
    # three places, twice as many items: the first six, of worth 1, 1/2, ... 1/6
    shop, exact = ten(), chances(worths(6, 1.0), 3)
    counts, said = often(shop, Request(Query(NOW), 3))
    check(counts, said)
    assert not counts[6:].any()
    assert said[:6] == pytest.approx(exact, abs=1e-12)


def test_propensities_of_a_page_by_hand() -> None:
    # one place, two items of worth 1 and 1/2: the first stands there with 2/3
    found = {
        p.rows[0]: p.drawn.propensities[0] for p in pages(ten(), Request(Query(NOW), 1), 20) if p.drawn is not None
    }
    assert found == pytest.approx({0: 2 / 3, 1: 1 / 3}, abs=1e-12)


def pages(shop: Shop, request: Request, n: int, **more: Any) -> Iterator[Any]:
    for id in range(n):
        yield answer(shop.release, replace(request, chance=chance(id, **more)))


def test_pins_stay_and_the_others_are_drawn_around_them() -> None:
    shop = ten()
    rules = bound([rule(kind="pin", item="i8", at=2)], shop.release, NOW)
    counts, said = often(shop, Request(Query(NOW), 3, rules=rules))
    assert (counts[8, 1], said[8, 1]) == (DRAWS, 1.0)
    check(counts, said)
    # two places are drawn, from four items: 0, 1, 2, 3
    assert said[:4, [0, 2]] == pytest.approx(chances(worths(4, 1.0), 2), abs=1e-12)


def test_a_cap_holds_and_its_chances_are_exact() -> None:
    # usual page 0 (A), 1 (A), 3 (B), 4 (C); 2 is held back. Of A there are three, of others at most the two that are allowed: 0, 1, 2 change places with one
    # another, and so do 3, 4, 5, 6 of the eight that are drawn from (0, 1, 3, 4, 2, 5, 6, 7); 7 too
    shop = ten(brand=list("AAABCBCDDD"))
    rules = bound([rule(kind="cap", by="brand", most=2)], shop.release, NOW)
    assert answer(shop.release, Request(Query(NOW), 4, rules=rules)).rows.tolist() == [0, 1, 3, 4]
    counts, said = often(shop, Request(Query(NOW), 4, rules=rules))
    check(counts, said)
    assert said[[0, 1, 2]][:, [0, 1]] == pytest.approx(chances(worths(3, 1.0), 2), abs=1e-12)
    assert said[[3, 4, 5, 6, 7]][:, [2, 3]] == pytest.approx(chances(worths(5, 1.0), 2), abs=1e-12)


@pytest.mark.parametrize("capped", [False, True])
def test_drawn_pages_tell_what_another_order_is_worth(capped: bool) -> None:
    """Inverse propensities per position, on drawn pages alone, find the value of an order that was never the usual one: item i in place j is worth
    (i + 1) / 10 / (j + 1). With the cap on brands, the other order keeps to it too."""
    shop = ten(brand=list("AAABBBCCDD"))
    rules = bound([rule(kind="cap", by="brand", most=1)], shop.release, NOW) if capped else None
    request, worth = Request(Query(NOW), 3, rules=rules), np.outer(np.arange(1, 11) / 10, 1 / np.arange(1, 4))
    usual = answer(shop.release, request).rows.tolist()
    assert usual == ([0, 3, 6] if capped else [0, 1, 2])
    other = [2, 4, 6] if capped else [2, 0, 4]
    found = []
    for page in pages(shop, request, DRAWS):
        hits = [row == wanted for row, wanted in zip(page.rows.tolist(), other, strict=True)]
        found.append(float((hits * worth[page.rows, range(3)] / page.drawn.propensities).sum()))
    error = float(np.std(found)) / DRAWS**0.5
    assert abs(np.mean(found) - worth[other, range(3)].sum()) < 4 * error
    assert error < 0.05


def test_what_a_filter_forbids_never_comes_up() -> None:
    # only three items hold; two popular ones fill up, stay where they are, and are certain there
    shop = ten(price=[1.0, 9, 1, 9, 1, 9, 9, 9, 9, 9])
    mask = Masks().of("price < 5", shop.release, NOW)
    counts, said = often(shop, Request(Query(NOW), 5, filter=mask, strict=False))
    check(counts, said)
    assert said[[1, 3], [3, 4]].tolist() == [1, 1]
    assert said[[0, 2, 4], :3] == pytest.approx(chances(worths(3, 1.0), 3), abs=1e-12)


def test_long_pages_are_drawn_at_their_beginning() -> None:
    config = drawing(places=2, reach=2.0, new_items__share=0.0)
    page = answer(ten().release, Request(Query(NOW), 6, chance=chance("a", config)))
    assert page.drawn is not None
    assert page.drawn.pool.tolist() == [0, 1, 6, 7]
    assert page.rows[2:].tolist() == [2, 3, 4, 5]
    assert page.drawn.propensities[2:].tolist() == [1, 1, 1, 1]


def test_new_items_get_their_share_by_known_chances() -> None:
    # 0.1 of five places: half of the pages give one of them to one of 7, 8, 9. Of these 8 is of a category of the page: three times as likely
    shop = ten(category=["Cups"] * 5 + ["Pots"] * 3 + ["Cups", "Pans"])
    config = drawing(new_items__share=0.1, new_items__kin=3.0)
    counts, said = often(shop, Request(Query(NOW), 5), config, explored=False, new=[7, 8, 9])
    check(counts, said)
    assert said[range(5), range(5)] == pytest.approx(0.9)
    assert said[[7, 8, 9]] == pytest.approx(np.outer([0.02, 0.06, 0.02], np.ones(5)))
    assert not counts[[5, 6]].any()


def test_new_items_beside_a_drawn_order() -> None:
    # 0.2 of three places: a place is what the order made it with 0.8
    shop, config = ten(), drawing(steepness=1.0, reach=2.0, new_items__share=0.2)
    counts, said = often(shop, Request(Query(NOW), 3), config, new=[8, 9])
    check(counts, said)
    assert said[:6] == pytest.approx(0.8 * chances(worths(6, 1.0), 3), abs=1e-12)
    assert said[8:] == pytest.approx(np.full((2, 3), 0.1), abs=1e-12)


def test_new_items_that_may_not_be_shown_get_no_place() -> None:
    shop = ten(available=[True] * 9 + [False], brand=list("AAAABBBBCB"))
    hide = rule(kind="hide", where="brand = 'C'")
    cap = rule(kind="cap", by="brand", most=2)
    config = drawing(new_items__share=1.0)
    for rules in (bound([hide], shop.release, NOW), bound([hide, cap], shop.release, NOW)):
        request = Request(Query(NOW), 4, excluded=np.array([7], np.int32), rules=rules)
        for page in pages(shop, request, 30, config=config, explored=False, new=[6, 7, 8, 9]):
            # 7 is excluded, 8 hidden, 9 not there; under the cap two of B stand on the page already
            assert set(page.rows.tolist()) & {6, 7, 8, 9} <= ({6} if rules.caps == () else set())
            assert page.sources.count(NEW) == (rules.caps == ())


def test_every_candidate_ends_in_one_place() -> None:
    config = drawing(new_items__share=1.0)
    for page in pages(ten(), Request(Query(NOW), 3), 20, config=config, new=[8, 9]):
        below = [row for rows in page.removed.values() for row in rows.tolist()]
        assert sorted([*page.rows.tolist(), *below]) == list(range(10))
        assert np.isfinite(page.scores).all()


def test_without_chance_pages_are_bit_for_bit_as_they_were() -> None:
    shop = ten()
    usual = answer(shop.release, Request(Query(NOW), 5))
    same = answer(shop.release, Request(Query(NOW), 5, chance=chance("a", explored=False)))
    assert usual.drawn is None
    for a, b in ((usual.rows, same.rows), (usual.scores, same.scores), (usual.every, same.every)):
        assert a.tobytes() == b.tobytes()
    assert usual.sources == same.sources


def test_which_items_are_new() -> None:
    # the popularity source gives 10 to the best, 1 to the last
    shop = ten(created_at=[NOW - DAY] * 3 + [NOW - 99 * DAY, None, NOW + DAY, NOW - DAY, None, NOW - DAY, NOW - DAY])
    config = drawing(new_items__days=7, new_items__least_gain=4.5)
    assert new_items(shop.release, NOW, config, known=10).tolist() == [6, 8, 9]
    # what came into the catalogue since the release is new without a date
    assert new_items(shop.release, NOW, config, known=7).tolist() == [6, 7, 8, 9]


def test_which_pages(shop_of_ten: Shop) -> None:
    config, release = drawing(share=0.3, new_items__share=0.0), shop_of_ten.release
    some = Exploration(config, 1.0)
    explored = [n for n in range(2_000) if some.of(str(n), None, release, NOW, 10) is not None]
    assert 520 < len(explored) < 680  # 600 +- 4 standard deviations of 20
    assert explored == [n for n in range(2_000) if sampled("explore", str(n), 0.3)]
    assert all(some.of(str(n), True, release, NOW, 10) is not None for n in range(50))
    assert all(some.of(str(n), False, release, NOW, 10) is None for n in range(50))
    # nobody would learn from a page that is not logged
    assert Exploration(config, 0.0).of("1", True, release, NOW, 10) is None


@pytest.fixture
def shop_of_ten() -> Shop:
    return ten()


@pytest.fixture
def exploring(shop: Work, redis_url: str, config: ServingConfig) -> Iterator[Client]:
    """A server that explores every page that it may."""
    log = changed(changed(config, "log", share=1.0), "exploration", share=1.0)
    process = ServingProcess(options_for(shop, redis_url, log))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as connected:
        yield connected
    process.stop()


def test_the_response_and_the_log_say_it(exploring: Client, store: redis_py.Redis) -> None:
    asked = RecommendRequest(user_id="ann", session_id="s-1", request_id="r-1", page_size=4)
    drawn, again = exploring.recommend(asked), exploring.recommend(asked)
    assert drawn.explored
    assert [r.item_id for r in drawn.results] == [r.item_id for r in again.results]
    assert all(0 < r.propensity < 1 for r in drawn.results)
    until(lambda: store.xlen("aisle:default:shown") == 2)
    ((_, fields), _) = store.xrange("aisle:default:shown")
    page = json.loads(fields[b"page"])
    assert page["explored"]
    assert page["propensities"] == [r.propensity for r in drawn.results]
    assert {r.item_id for r in drawn.results} <= set(page["pool"])
    usual = exploring.recommend(RecommendRequest(user_id="ann", page_size=4))
    assert page["pool"][:4] == [r.item_id for r in usual.results]
    assert dict(exploring.status().exploration) == {"explored": 2}


def test_explain_tells_of_the_page_that_was_drawn(exploring: Client) -> None:
    asked = RecommendRequest(user_id="ann", session_id="s-1", request_id="r-1", page_size=4)
    shown = [r.item_id for r in exploring.recommend(asked).results]
    usual = [r.item_id for r in exploring.recommend(RecommendRequest(user_id="ann", page_size=4)).results]
    assert shown != usual
    for place, item in enumerate(shown, 1):
        why = exploring.explain(ExplainRequest(request=asked, item_id=item))
        assert (why.outcome, why.rank) == ("on-page", place)
        assert why.summary.startswith(f"place {place} of 4 on the page, whose order was drawn at random: ")
    lost = next(item for item in usual if item not in shown)
    why = exploring.explain(ExplainRequest(request=asked, item_id=lost))
    assert why.outcome == "below-page"
    assert why.summary.startswith("lost in the draw of the page: ")


@pytest.mark.parametrize(
    ("fields", "explored"),
    [
        ({"session_id": "s"}, True),
        ({}, False),  # no visit: a job, an e-mail, a test
        ({"session_id": "s", "explain": True}, False),
        ({"session_id": "s", "explore": False}, False),
        ({"explore": True}, True),
        ({"session_id": "s", "personalize": False}, True),  # nothing of the person is needed
    ],
)
def test_who_is_explored(exploring: Client, fields: dict[str, Any], explored: bool) -> None:
    found = exploring.recommend(RecommendRequest(user_id="ann", **fields))
    assert found.explored == explored
    if not explored:
        assert {r.propensity for r in found.results} == {1.0}


def test_pairs_of_items_are_drawn_as_their_worth_says() -> None:
    # Luce's axiom: which of two items stands higher, where both are drawn, does not depend on the others. Worth 1 against 1/3: three times in four
    shop, above = ten(), Counter[bool]()
    config = drawing(steepness=1.0, reach=1.0, new_items__share=0.0)
    for page in pages(shop, Request(Query(NOW), 4), DRAWS, config=config):
        rows = page.rows.tolist()
        above[rows.index(0) < rows.index(2)] += 1
    assert abs(above[True] / DRAWS - 0.75) < 5 * (0.75 * 0.25 / DRAWS) ** 0.5
    assert len(set(itertools.chain(above))) == 2
