"""Filters against an oracle that looks at one item at a time, in plain Python; and the contract of pages: full, and of such items alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.history import History, Query
from core.schema import DAY, EventType
from serving.answers import FILL, Request
from serving.filters.masks import Masks
from serving.filters.syntax import FilterError
from serving.request_path import answer
from tests.serving.ruled_shop import BRANDS, COLOURS, NOW, Item, Shop, made_up, shop_of

SHOPS = [shop_of(made_up(n, seed)) for n, seed in ((1, 0), (7, 1), (40, 2), (90, 3))]
Expression = tuple[str, Callable[[Item], bool]]


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def one_of(key: str, values: list[Any]) -> Expression:
    shown = [quoted(v) if isinstance(v, str) else str(v) for v in values]

    def holds(item: Item) -> bool:
        has = item[key] if isinstance(item[key], list) else [item[key]]
        return any(v in has for v in values)

    return f"{key} IN ({', '.join(shown)})", holds


def ranged(key: str, low: float, high: float, left: str, right: str) -> Expression:
    def holds(item: Item) -> bool:
        value = item[key]
        if value is None:
            return False
        return bool(
            (value >= low if left == "[" else value > low) and (value <= high if right == "]" else value < high)
        )

    return f"{key} IN {left}{low}..{high}{right}", holds


def under(path: str) -> Expression:
    def holds(item: Item) -> bool:
        levels = (item["category"] or "").split(" > ")
        wanted = path.split(" > ")
        return levels[: len(wanted)] == wanted

    return f"category UNDER {quoted(path)}", holds


def exists(key: str) -> Expression:
    return f"{key} EXISTS", lambda item: item[key] not in (None, [])


def younger(days: int) -> Expression:
    return f"age_days < {days}", lambda i: i["created_at"] is not None and (NOW - i["created_at"]) / DAY < days


def before(days: int) -> Expression:
    moment = NOW - days * DAY
    text = datetime.fromtimestamp(moment / 1e6, UTC).isoformat()
    return f"created_at <= '{text}'", lambda i: i["created_at"] is not None and i["created_at"] <= moment


some_texts = st.sampled_from(["nothing", "Home > Cups", *filter(None, BRANDS), *COLOURS])
numbers = st.sampled_from([0.0, 1.0, 2.0, 2.5, 5.0, 9.99, 10.0, 100.0])
tests = st.one_of(
    st.builds(
        one_of, st.sampled_from(["brand", "category", "colour", "item_group_id"]), st.lists(some_texts, min_size=1)
    ),
    st.builds(one_of, st.just("item_id"), st.lists(st.sampled_from(["item-0", "item-5", "gone"]), min_size=1)),
    st.builds(one_of, st.just("size"), st.lists(numbers, min_size=1)),
    st.builds(
        ranged,
        st.sampled_from(["price", "stock", "size"]),
        numbers,
        numbers,
        st.sampled_from("[("),
        st.sampled_from("])"),
    ),
    st.builds(under, st.sampled_from(["Home", "Home > Cups", "Garden", "Hom", "Home > Cups > Tea > x"])),
    st.builds(exists, st.sampled_from(["brand", "price", "colour", "stock", "created_at"])),
    st.builds(younger, st.integers(0, 500)),
    st.builds(before, st.integers(0, 500)),
    st.booleans().map(lambda b: (f"available = {b}", lambda i: i["available"] is b)),
)
expressions = st.recursive(
    tests,
    lambda inner: st.one_of(
        inner.map(lambda e: (f"NOT ({e[0]})", lambda i: not e[1](i))),
        st.tuples(inner, inner).map(lambda p: (f"({p[0][0]} AND {p[1][0]})", lambda i: p[0][1](i) and p[1][1](i))),
        st.tuples(inner, inner).map(lambda p: (f"({p[0][0]} OR {p[1][0]})", lambda i: p[0][1](i) or p[1][1](i))),
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(SHOPS), expressions)
def test_a_filter_holds_where_the_oracle_says(shop: Shop, expression: Expression) -> None:
    text, holds = expression
    assert Masks().of(text, shop.release, NOW).tolist() == [holds(i) for i in shop.items]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(SHOPS),
    expressions,
    st.integers(1, 60),
    st.integers(1, 20),
    st.lists(st.integers(0, 60), max_size=5),
)
def test_a_page_is_the_best_of_what_the_filter_leaves(
    shop: Shop, expression: Expression, k: int, quota: int, excluded: list[int]
) -> None:
    """Whatever the sources propose at first: never an item outside the filter, and as many as there are."""
    text, holds = expression
    few = shop.release.settings.model_copy(update={"quotas": {"popularity": quota}, "candidates": quota})
    release = replace(shop.release, settings=few)
    never = np.array(sorted({e for e in excluded if e < len(shop.items)}), np.int32)
    asked = Request(Query(NOW), k, never, filter=Masks().of(text, release, NOW))
    page = answer(release, asked)
    left = [row for row, i in enumerate(shop.items) if holds(i) and i["available"] and row not in never]
    # candidates and fill are in the same order here: the row is the rank
    assert page.rows.tolist() == left[:k]
    relaxed = answer(release, replace(asked, strict=False))
    others = [row for row, i in enumerate(shop.items) if i["available"] and row not in never and row not in left]
    assert relaxed.rows.tolist() == (left + others)[:k]
    assert set(relaxed.sources[len(left) :]) <= {FILL}


@pytest.mark.parametrize(
    ("text", "at", "says"),
    [
        ("bran = 'Acme'", 1, "unknown field 'bran'; did you mean 'brand'?"),
        ("price = 1 OR color = 'x'", 14, "unknown field 'color'; did you mean 'colour'?"),
        ("title = 'x'", 1, "unknown field 'title'"),
        ("known = true", 1, "unknown field 'known'"),
        ("price = '5'", 1, "holds numbers: expected a number without quotes, found '5'"),
        ("price UNDER 'x'", 1, "holds numbers or times"),
        ("brand = 5", 1, "holds texts: expected a text in quotes, found 5.0"),
        ("brand > 'A'", 1, "holds texts: expected =, !=, IN or UNDER"),
        ("colour < 3", 1, "holds texts"),
        ("available = 1", 1, "expected = true or = false"),
        ("created_at > 'soon'", 1, "holds times: expected a text such as '2026-11-27'"),
        ("item_id UNDER 'x'", 1, "expected =, != or IN"),
    ],
)
def test_what_the_release_does_not_have_is_refused(text: str, at: int, says: str) -> None:
    with pytest.raises(FilterError) as refused:
        Masks().of(text, SHOPS[2].release, NOW)
    assert refused.value.at == at
    assert says in str(refused.value)


TOKENS = [
    *("brand", "price", "created_at", "age_days", "item_id", "available", "colour", "stock", "size", "title", "`odd`"),
    *("AND", "OR", "NOT", "IN", "UNDER", "EXISTS", "true", "(", ")", "[", "]", "..", ",", "=", "!=", "<", ">="),
    *(
        "'Acme'",
        '"x',
        "''",
        "10",
        "1e400",
        "1e308",
        "-5",
        "0.1",
        "'0001-01-01'",
        "'9999-12-31T23:59:59-23:59'",
        "`",
        "\\",
        "é",
    ),
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(TOKENS), st.text(max_size=3)), max_size=9))
def test_any_text_is_a_filter_or_is_refused(tokens: list[str]) -> None:
    found: Any = None
    with suppress(FilterError):
        found = Masks().of(" ".join(tokens), SHOPS[2].release, NOW)
    assert found is None or (found.dtype, found.shape) == (np.dtype(bool), (40,))


def test_masks_are_kept_while_the_items_are_the_same_and_no_longer() -> None:
    shop, masks = SHOPS[2], Masks(most_bytes=100)  # two masks of 40 items
    first = masks.of("brand = 'Acme'", shop.release, NOW)
    assert masks.of("brand = 'Acme'", shop.release, NOW + DAY) is first
    masks.of("brand = 'Bolt'", shop.release, NOW)
    masks.of("brand = 'Caro'", shop.release, NOW)
    assert masks.of("brand = 'Acme'", shop.release, NOW) is not first  # pushed out by the two others
    again = masks.of("brand = 'Acme'", shop.release, NOW)
    assert masks.of("brand = 'Acme'", replace(shop.release), NOW) is not again  # another view of the items
    # what is available changes in place, ages by themselves
    gone = shop_of(shop.items)
    assert masks.of("available = true", gone.release, NOW).any()
    gone.release.available[:] = False
    assert not masks.of("available = true", gone.release, NOW).any()
    assert masks.of("age_days < 2", gone.release, NOW).any()
    assert not masks.of("age_days < 2", gone.release, NOW + 10 * DAY).any()


def test_exclude_purchased_keeps_what_was_only_looked_at() -> None:
    shop = shop_of([{"item_id": f"i{n}"} for n in range(6)])
    types = [EventType.PURCHASE_COMPLETE.code, EventType.DETAIL_PAGE_VIEW.code]
    history = History(
        np.array([1, 2], np.int32),
        np.array([NOW - 2, NOW - 1]),
        np.array(types, np.int8),
        np.array([1, 0.1], np.float32),
    )
    query = Query(NOW, history=history)
    assert answer(shop.release, Request(query, 4, exclude_purchased=True)).rows.tolist() == [0, 2, 3, 4]
    assert answer(shop.release, Request(query, 4, exclude_seen=True)).rows.tolist() == [0, 3, 4, 5]
