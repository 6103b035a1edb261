"""Rules on pages: each kind by hand, and for any set of rules what must always hold."""

# bazel: size=medium

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.columns import Array
from core.history import History, Query
from core.schema import DAY, EventType
from serving.answers import Answer, Request
from serving.explain import Outcome, explain
from serving.exploration import Chance
from serving.filters.masks import Masks
from serving.request_path import answer
from serving.ruled_answer import preview, ruled
from serving.rules.arrange import sponsored_places
from serving.rules.bound import PageRules, bound
from serving.rules.caps import CapCount, Capped
from serving.rules.live import Rules
from serving.rules.load import Rule, RuleSet
from serving.rules.schema import KINDS, RuleSpec, Sponsor
from serving.rules.similarity import category_levels, likeness
from tests.serving.exploring import drawing
from tests.serving.ruled_shop import NOW, Item, Shop, made_up, rules_of, shop_of


def rule(n: int = 0, **keys: Any) -> Rule:
    """A rule as of line n."""
    spec: RuleSpec = KINDS[keys["kind"]].model_validate({"name": f"r{n}", **keys})
    return Rule(spec, "rules.yaml", n, *spec.in_force)


def page(shop: Shop, k: int, *rules: dict[str, Any], **query: Any) -> Answer:
    return answer(shop.release, asked(shop, k, *rules, **query))


def asked(shop: Shop, k: int, *rules: dict[str, Any], **query: Any) -> Request:
    ordered = sorted((rule(n, **keys) for n, keys in enumerate(rules)), key=lambda r: -r.spec.priority)
    return Request(Query(NOW, **query), k, rules=bound(ordered, shop.release, NOW))


def ten(**keys: list[Any]) -> Shop:
    """Items i0 to i9, the best first, with attributes one by one."""
    return shop_of([{"item_id": f"i{n}", **{key: values[n] for key, values in keys.items()}} for n in range(10)])


LETTERS = list("AABBACCABD")


def test_nothing_in_force_is_exactly_no_rules(tmp_path: Path) -> None:
    shop = ten(brand=LETTERS)
    rules = Rules(rules_of(tmp_path, "rules:\n  - {name: a, kind: pin, item: i9, at: 1, placements: [elsewhere]}\n"))
    assert rules.of(shop.release, "home", NOW) is None
    assert rules.of(shop.release, "elsewhere", NOW) is not None
    assert Rules(RuleSet()).of(shop.release, "home", NOW) is None


def test_hide_and_include() -> None:
    shop = ten(brand=LETTERS)
    hide, include = {"kind": "hide", "where": "brand = 'A'"}, {"kind": "include", "where": "brand IN ('A', 'B')"}
    assert page(shop, 4, hide).rows.tolist() == [2, 3, 5, 6]
    assert page(shop, 10, include).rows.tolist() == [0, 1, 2, 3, 4, 7, 8]
    assert page(shop, 10, hide, include).rows.tolist() == [2, 3, 8]  # both hold
    # not by a pin either
    assert page(shop, 2, hide, {"kind": "pin", "item": "i0", "at": 1}).rows.tolist() == [2, 3]


def test_moves_are_exact_and_add_up() -> None:
    shop = ten(brand=LETTERS)
    up = {"kind": "boost", "where": "brand = 'D'", "places": 5}
    # i9 was the tenth, and is the fifth; those from there on make room
    assert page(shop, 10, up).rows.tolist() == [0, 1, 2, 3, 9, 4, 5, 6, 7, 8]
    down = {"kind": "bury", "where": "item_id = 'i0'", "places": 5}
    assert page(shop, 10, down).rows.tolist() == [1, 2, 3, 4, 5, 0, 6, 7, 8, 9]
    assert page(shop, 3, {**up, "places": "all"}).rows.tolist() == [9, 0, 1]
    assert page(shop, 10, {**down, "places": "all"}).rows.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 0]
    # 5 up and 2 down are 3 up: the seventh
    assert page(shop, 10, up, {"kind": "bury", "where": "brand = 'D'", "places": 2}).rows.tolist()[6] == 9


def test_freshness_fades_with_age() -> None:
    made = [None, *[NOW - 400 * DAY] * 7, NOW - 14 * DAY, NOW]
    # of today: 4 places, to the sixth; of two weeks: 2, to the seventh, and one down for the first; older and unknown ones stay
    found = page(ten(created_at=made), 10, {"kind": "freshness", "places": 4, "half_life_days": 14})
    assert found.rows.tolist() == [0, 1, 2, 3, 4, 9, 5, 8, 6, 7]


def test_low_stock_and_price_band() -> None:
    shop = ten(stock=[1.0, None, *[9.0] * 8], price=[None, 10.0, 40.0, *[20.0] * 7])
    assert page(shop, 10, {"kind": "low-stock", "below": 3, "places": "all"}).rows.tolist()[-1] == 0
    band = {"kind": "price-band", "least": 15, "most": 30, "places": "all"}
    assert page(shop, 10, band).rows.tolist() == [0, 3, 4, 5, 6, 7, 8, 9, 1, 2]
    # around i1 that is looked at: 5 to 30
    near = {"kind": "price-band", "least": 0.5, "most": 3, "times_price_of": "context", "places": "all"}
    assert page(shop, 10, near, context=np.array([1], np.int32)).rows.tolist() == [0, 3, 4, 5, 6, 7, 8, 9, 2]
    assert page(shop, 10, near).rows.tolist() == list(range(10))  # nothing is looked at: it says nothing
    mine = History(np.array([2], np.int32), np.array([NOW - 1]), np.array([7], np.int8), np.ones(1, np.float32))
    # around what was chosen before, 40: 20 and more
    history = {**near, "times_price_of": "history"}
    assert page(shop, 10, history, history=mine).rows.tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 9, 1]


def test_fatigue_counts_what_was_shown_lately() -> None:
    shown = [(0, 1), (0, 2), (0, 3), (1, 1), (1, 2), (2, 9), (2, 10), (2, 11)]  # item, days ago
    rows, days = map(np.array, zip(*sorted(shown, key=lambda s: -s[1]), strict=True))
    kind = np.full(len(rows), EventType.IMPRESSION.code, np.int8)
    history = History(rows.astype(np.int32), NOW - days * DAY, kind, np.zeros(len(rows), np.float32))
    rule = {"kind": "fatigue", "after": 2, "days": 7, "places": 2}
    # i0 three times: 2 x 2 places, to the fifth; i1 twice: 2 places, from the second to the fourth; i2 too long ago
    assert page(ten(), 10, rule, history=history).rows.tolist() == [2, 3, 1, 4, 0, 5, 6, 7, 8, 9]


def test_pins() -> None:
    shop = ten()
    shop.release.available[7] = False
    found = page(shop, 4, {"kind": "pin", "item": "i9", "at": 2}, {"kind": "pin", "item": "i0", "at": 4})
    assert found.rows.tolist() == [1, 9, 2, 0]
    first = {"kind": "pin", "item": "i9", "at": 1}
    assert page(shop, 3, first, {"kind": "pin", "item": "i8", "at": 1}).rows.tolist() == [9, 0, 1]
    assert page(shop, 3, first, {"kind": "pin", "item": "i8", "at": 1, "priority": 1}).rows.tolist() == [8, 0, 1]
    # nothing that cannot be shown, is there already, or lies beyond the page
    assert page(shop, 3, {"kind": "pin", "item": "i7", "at": 1}).rows.tolist() == [0, 1, 2]
    assert page(shop, 3, {"kind": "pin", "item": "i9", "at": 4}).rows.tolist() == [0, 1, 2]
    assert page(shop, 3, first, context=np.array([9], np.int32)).rows.tolist() == [0, 1, 2]
    request = replace(asked(shop, 3, first), filter=Masks().of("item_id != 'i9'", shop.release, NOW))
    assert answer(shop.release, request).rows.tolist() == [0, 1, 2]


def test_a_pin_brings_an_item_that_no_source_proposed() -> None:
    shop = ten()
    few = shop.release.settings.model_copy(update={"quotas": {"popularity": 3}, "candidates": 3})
    release = replace(shop.release, settings=few)
    # with one source the path asks for its whole quota, so a second, empty one is beside it
    sources = (
        release.sources[0],
        type("Nobody", (type(release.sources[0]),), {"name": "nobody"})(
            np.empty(0, np.int32), np.zeros(10, np.float32)
        ),
    )
    asked_ = asked(Shop(release, shop.items), 3, {"kind": "pin", "item": "i9", "at": 2})
    found = answer(release, asked_, sources)
    assert found.rows.tolist() == [0, 9, 1]
    assert found.sources == ("popularity", "rule", "popularity")
    assert 9 in found.candidates.rows


def test_sponsored_places() -> None:
    def places(k: int, **keys: Any) -> list[int]:
        return [p + 1 for p in sponsored_places(Sponsor(name="s", kind="sponsor", items=("x",), **keys), k)]

    assert places(10, share=0.2) == [5, 10]
    assert places(10, share=0.3) == [3, 6, 10]
    assert places(4, share=0.2) == []
    assert places(3, share=1) == [1, 2, 3]
    assert places(5, at=(4, 2, 9)) == [2, 4]
    shop = ten(brand=LETTERS)
    paid = {"kind": "sponsor", "where": "brand = 'C'", "share": 0.25}
    # of 8 places the fourth and the eighth, for i5 and i6; i4 moves one down
    found = page(shop, 8, paid)
    assert found.rows.tolist() == [0, 1, 2, 5, 3, 4, 6, 7]
    # i6 came seventh by its own rank, so no paid item is left for the eighth place
    assert found.arranged is not None
    assert {int(found.line[at]) for at in found.arranged.put} == {5}
    # the place of a share that a pin has is the next one
    assert page(shop, 5, paid, {"kind": "pin", "item": "i9", "at": 4}).rows.tolist() == [0, 1, 2, 9, 5]
    assert page(shop, 5, {"kind": "sponsor", "items": ["i8", "i7"], "at": [1, 2]}).rows.tolist() == [7, 8, 0, 1, 2]


def test_caps_by_hand() -> None:
    shop = ten(brand=LETTERS)  # A A B B A C C A B D
    assert page(shop, 6, {"kind": "cap", "by": "brand", "most": 1}).rows.tolist() == [
        0,
        2,
        5,
        9,
    ]  # there are four brands
    # no brand twice in 2 places: A B A B A C A C B D
    found = page(shop, 10, {"kind": "cap", "by": "brand", "most": 1, "window": 2})
    assert found.rows.tolist() == [0, 2, 1, 3, 4, 5, 7, 6, 8, 9]
    # i9 in the third place is D; half of 4 places are 2 of one brand
    share = page(shop, 4, {"kind": "cap", "by": "brand", "share": 0.5}, {"kind": "pin", "item": "i4", "at": 4})
    assert share.rows.tolist() == [0, 2, 3, 4]  # the pinned A counts from the start: one more A, two of B


def test_a_cap_of_categories_counts_a_level_and_of_lists_every_value() -> None:
    shop = ten(category=["H > a", "H > b", "G > a", "H", None, None, "G", "H > a", "I", "I > x"])
    found = page(shop, 6, {"kind": "cap", "by": "category", "levels": 1, "most": 1})
    assert found.rows.tolist() == [0, 2, 4, 5, 8]  # without a category nothing is counted
    colours = ten(colour=[["red"], ["red", "blue"], ["blue"], ["green"], [], [], ["green"], [], [], []])
    assert page(colours, 4, {"kind": "cap", "by": "colour", "most": 1}).rows.tolist() == [0, 2, 3, 4]


def test_where_caps_hold_back_the_candidates_popular_items_fill_the_page() -> None:
    shop = shop_of([{"item_id": f"i{n}", "brand": "A" if n < 30 else None} for n in range(40)])
    few = shop.release.settings.model_copy(update={"quotas": {"popularity": 5}, "candidates": 5})
    shop = Shop(replace(shop.release, settings=few), shop.items)
    found = page(shop, 8, {"kind": "cap", "by": "brand", "most": 2})
    assert found.rows.tolist() == [0, 1, 30, 31, 32, 33, 34, 35]


def test_diversity_by_hand() -> None:
    shop = ten(category=["H > a", "H > a", "H > b", "G", *["H > a"] * 6])
    # level 0.5, worth 1, 0.63, 0.5, 0.43, 0.39 ...: after i0 (likeness 1, 0.5, 0) i3 has 0.43 / 2 + 1 / 2 = 0.72, i2 0.5, i1 0.32; then i2 has
    # 0.25 + 0.25, i1 0.32; then i1
    found = page(shop, 4, {"kind": "diversify", "by": "category", "level": 0.5, "first": 4})
    assert found.rows.tolist() == [0, 3, 2, 1]
    assert page(shop, 4, {"kind": "diversify", "by": "category", "level": 0.01}).rows.tolist() == [0, 1, 2, 3]
    # only the first two places
    assert page(shop, 4, {"kind": "diversify", "by": "category", "level": 0.5, "first": 2}).rows.tolist() == [
        0,
        3,
        1,
        2,
    ]


def test_likeness_of_categories_is_the_shared_part_of_the_longer_path() -> None:
    shop = shop_of(
        [{"item_id": f"i{n}", "category": c} for n, c in enumerate(["A > B > C", "A > B", "A", "B > A", None])]
    )
    alike = likeness("category", shop.release)
    assert alike is not None
    against = alike(np.arange(5, dtype=np.int32)).to
    assert against(0) == pytest.approx([1, 2 / 3, 1 / 3, 0, 0])
    assert against(1) == pytest.approx([2 / 3, 1, 1 / 2, 0, 0])
    assert against(4) == pytest.approx([0] * 5)  # what is not known is like nothing
    assert category_levels(shop.release.items["category"].values).shape == (4, 3)  # type: ignore[union-attr]


def test_every_item_says_which_rule(tmp_path: Path) -> None:
    shop = ten(brand=LETTERS)
    rules = (
        {"name": "no-c", "kind": "hide", "where": "brand = 'C'"},
        {"name": "two-a", "kind": "cap", "by": "brand", "most": 2},
        {"name": "d-up", "kind": "boost", "where": "brand = 'D'", "places": 2},
        {"name": "hero", "kind": "pin", "item": "i8", "at": 1},
    )
    request = asked(shop, 5, *rules)
    found = answer(shop.release, request)
    assert found.rows.tolist() == [8, 0, 1, 2, 9]
    why = {row: explain(shop.release, request, found, row) for row in range(10)}
    assert [why[row].outcome for row in (5, 4, 3, 8, 9)] == [
        Outcome.HIDDEN,
        Outcome.CAPPED,
        Outcome.CAPPED,
        Outcome.ON_PAGE,
        Outcome.ON_PAGE,
    ]
    assert why[5].summary == "hidden by rule 'no-c' of file rules.yaml, line 0"
    assert why[4].summary == "held back by rule 'two-a' of file rules.yaml, line 1"
    assert why[8].summary.endswith("; put there by rule 'hero' of file rules.yaml, line 3")
    assert why[9].summary.endswith("; moved up 2 places by rule 'd-up' of file rules.yaml, line 2")
    assert ruled(request, found, 0) == ""
    assert Counter(w.outcome for w in why.values())[Outcome.NOT_RETRIEVED] == 0
    seen = preview(shop.release, request)
    assert seen.in_force == ["no-c", "two-a", "d-up", "hero"]
    assert [(row, before, after) for row, before, after, _ in seen.items] == [
        (8, 0, 1), (0, 1, 2), (1, 2, 3), (2, 3, 4), (9, 0, 5), (3, 4, 0), (4, 5, 0),
    ]  # fmt: skip
    assert seen.items[-1][3] == ["held back by rule 'two-a' of file rules.yaml, line 1"]


wheres = st.sampled_from(
    [
        "brand = 'Acme'",
        "category UNDER 'Home'",
        "price < 10",
        "stock > 1 OR colour = 'red'",
        "age_days < 30",
        "size EXISTS",
    ]
)
places = st.one_of(st.integers(1, 30), st.just("all"))
specs = st.one_of(
    st.fixed_dictionaries({"kind": st.sampled_from(["hide", "include"]), "where": wheres}),
    st.fixed_dictionaries({"kind": st.sampled_from(["boost", "bury"]), "where": wheres, "places": places}),
    st.fixed_dictionaries({"kind": st.just("freshness"), "places": places, "half_life_days": st.floats(0.1, 100)}),
    st.fixed_dictionaries({"kind": st.just("low-stock"), "below": st.floats(1, 50), "places": places}),
    st.fixed_dictionaries({"kind": st.just("price-band"), "most": st.floats(1, 50), "places": places}),
    st.builds(
        lambda item, at: {"kind": "pin", "item": f"item-{item}", "at": at}, st.integers(0, 60), st.integers(1, 12)
    ),
    st.fixed_dictionaries({"kind": st.just("sponsor"), "where": wheres, "share": st.floats(0.05, 1)}),
    st.fixed_dictionaries(
        {"kind": st.just("sponsor"), "where": wheres, "at": st.lists(st.integers(1, 12), min_size=1)}
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("cap"),
            "by": st.sampled_from(["brand", "category", "colour", "item_group_id"]),
            "most": st.integers(1, 4),
        },
        optional={"window": st.integers(2, 8)},
    ),
    st.fixed_dictionaries(
        {
            "kind": st.just("diversify"),
            "by": st.just("category"),
            "level": st.floats(0.05, 1),
            "first": st.integers(1, 15),
        }
    ),
)
SHOPS = [shop_of(made_up(n, seed)) for n, seed in ((3, 1), (25, 2), (60, 3))]


def values_of(item: Item, by: str) -> list[str]:
    value = item[by]
    return value if isinstance(value, list) else [] if value is None else [value]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(SHOPS), st.lists(specs, max_size=6), st.integers(1, 14), st.sampled_from([4, 100]))
def test_whatever_the_rules(shop: Shop, given_: list[dict[str, Any]], k: int, quota: int) -> None:
    few = shop.release.settings.model_copy(update={"quotas": {"popularity": quota}, "candidates": quota})
    shop = Shop(replace(shop.release, settings=few), shop.items)
    request = asked(shop, k, *given_)
    found = answer(shop.release, request)
    assert found.rows.tolist() == answer(shop.release, asked(shop, k, *given_)).rows.tolist()  # deterministic
    check_page(shop, request, found, given_, k)
    assert set(found.candidates.rows.tolist()) <= {*found.rows.tolist(), *np.concatenate([*found.removed.values()])}
    assert found.drawn is None
    # and with chance: no more and no fewer places, under the same rules
    chance = Chance(f"r-{k}-{quota}-{len(given_)}", drawing(new_items__share=1.0), explored=True, new=newest(shop))
    left = replace(request, chance=chance)
    drawn = answer(shop.release, left)
    check_page(shop, left, drawn, given_, k)
    assert len(drawn.rows) == len(found.rows)
    assert drawn.drawn is not None
    assert ((drawn.drawn.propensities > 0) & (drawn.drawn.propensities <= 1 + 1e-12)).all()


def newest(shop: Shop) -> Array:
    """The last quarter of the ranking, as if it were new."""
    n = len(shop.items)
    return np.arange(n - n // 4, n, dtype=np.int32)


def check_page(shop: Shop, request: Request, found: Answer, given_: list[dict[str, Any]], k: int) -> None:
    """What holds for a page whatever the rules."""
    rules, rows = request.rules, found.rows.tolist()
    assert rules is not None
    assert len(set(rows)) == len(rows) <= k
    assert all(shop.release.available[r] for r in rows)
    for spec in given_:  # hidden never shown
        if spec["kind"] in ("hide", "include"):
            mask = Masks().of(spec["where"], shop.release, NOW)
            assert all(mask[r] == (spec["kind"] == "include") for r in rows)
    showable = shop.release.available if rules.allowed is None else shop.release.available & rules.allowed
    pinned = {place: row for _, place, row in rules.pins if showable[row] and place < len(rows)}
    assert {place: rows[place] for place in pinned} == pinned  # exact
    for _, cap, _ in rules.caps:
        check_cap(shop, rows, set(pinned), k, cap.by, *cap.allowed(k))
    if not rules.caps:
        assert len(rows) == min(k, int(showable.sum()))  # full, unless a pin waits for a place that is not reached
    ends = [set(rows), *(set(r.tolist()) for r in found.removed.values())]
    assert sum(map(len, ends)) == len(set.union(*ends))  # each in one place
    assert np.isfinite(found.scores).all()


def check_cap(shop: Shop, rows: list[int], pinned: set[int], k: int, by: str, most: int, window: int) -> None:
    """In every window at most so many of each value, unless it holds pins that are more alone."""
    for start in range(max(1, min(k, len(rows)) - window + 1)):
        held = range(start, min(start + window, len(rows)))
        count = Counter(v for place in held for v in values_of(shop.items[rows[place]], by))
        fixed = Counter(v for place in held if place in pinned for v in values_of(shop.items[rows[place]], by))
        assert all(n <= max(most, fixed[v]) for v, n in count.items())


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_a_cap_blocks_exactly_what_would_break_it(data: st.DataObject) -> None:
    """Against counting every window of the page that would be."""
    k, n = data.draw(st.integers(1, 10)), 12
    window, most = data.draw(st.integers(1, k)), data.draw(st.integers(1, 3))
    value = data.draw(st.lists(st.integers(0, 2), min_size=n, max_size=n))
    fixed = dict(zip(data.draw(st.sets(st.integers(0, k - 1), max_size=3)), (9, 10, 11), strict=False))
    blocks = np.zeros(n, np.int32)
    count = CapCount(Capped(most, window, np.array(value), np.arange(n)), k, fixed, blocks)
    on_page = dict(fixed)
    left = list(range(9))
    for place in range(k):
        if place in fixed:
            count.put(fixed[place])
            continue
        for item in left:
            windows = [range(s, s + window) for s in range(k - window + 1) if s <= place < s + window]
            with_it = {**on_page, place: item}
            breaks = any(sum(p in with_it and value[with_it[p]] == value[item] for p in w) > most for w in windows)
            assert bool(blocks[item]) == breaks == count.holds_back(item)
        able = [i for i in left if not blocks[i]]
        if not able:
            return
        item = data.draw(st.sampled_from(able))
        left.remove(item)
        on_page[place] = item
        count.put(item)


def test_rules_are_bound_once_for_the_same_items(tmp_path: Path) -> None:
    shop = ten(brand=LETTERS, created_at=[NOW] * 10)
    text = "rules:\n  - {name: a, kind: hide, where: \"brand = 'A'\"}\n"
    rules = Rules(rules_of(tmp_path, text))
    first = rules.of(shop.release, "home", NOW)
    assert first is rules.of(shop.release, "cart", NOW + DAY)
    assert first is not rules.of(replace(shop.release), "home", NOW)
    aged = Rules(rules_of(tmp_path, "rules:\n  - {name: a, kind: hide, where: age_days > 1}\n"))
    young, old = aged.of(shop.release, "", NOW), aged.of(shop.release, "", NOW + 2 * DAY)
    assert isinstance(young, PageRules) and isinstance(old, PageRules)  # noqa: PT018
    assert young.allowed is not None and old.allowed is not None  # noqa: PT018
    assert (int(young.allowed.sum()), int(old.allowed.sum())) == (10, 0)
