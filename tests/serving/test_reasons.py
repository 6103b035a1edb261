"""What is said of an item is true: the named item is the one that speaks most for it, by an oracle that asks for each alone."""

from dataclasses import replace

import numpy as np
import pytest

from core.columns import Array, Coded, Columns, Tags
from core.history import History, Query
from core.schema import DAY, Column, EventType
from core.work import Work
from ranking.feature_list import ITEM
from ranking.groups import Group
from ranking.item_table import ATTRIBUTES, FACTS, ItemTable
from retrieval.sources.evidence import seeds
from serving.grounds import leaf, statements
from serving.reasons import own_history, reasons
from serving.release import Release
from serving.resident import made_up_history
from serving.trend import Trend
from tests.serving.shop import END

BOUGHT, CART, VIEW = EventType.PURCHASE_COMPLETE, EventType.ADD_TO_CART, EventType.DETAIL_PAGE_VIEW


@pytest.fixture(scope="module")
def release(shop: Work) -> Release:
    return Release.open(shop.current)


def row(release: Release, item: str) -> int:
    return release.item_ids.row(item)


def past(release: Release, *events: tuple[str, EventType, float]) -> History:
    n = len(events)
    return History(
        release.item_ids.rows(e[0] for e in events),
        END - DAY * np.arange(n, 0, -1),
        np.array([e[1].code for e in events], np.int8),
        np.array([e[2] for e in events], np.float32),
    )


def parts(release: Release, name: str, query: Query, item: int) -> dict[int, float]:
    """What each item of the person and the page adds to the score of `item`."""
    source = next(s for s in release.sources if s.name == name)
    n, none = len(release.item_ids), np.empty(0, np.int32)
    if name == "item_knn":
        items: Array = seeds(query, n, len(query.history), 0.0)[0]
        weights = np.ones(len(items))
    else:
        items, weights = seeds(query, n, 10, 1.0)
    alone = [Query(query.time, context=np.array([i], np.int32), history=History(none)) for i in items.tolist()]
    return {
        i: w * float(source.scoring(q).of(np.array([item], np.int32))[0])
        for i, w, q in zip(items.tolist(), weights.tolist(), alone, strict=True)
    }


@pytest.mark.parametrize("name", ["item_knn", "transitions", "covisitation", "content"])
def test_the_item_named_is_the_one_that_speaks_most(release: Release, name: str) -> None:
    rng = np.random.default_rng(5)
    named = 0
    for _ in range(100):
        items = rng.integers(0, len(release.item_ids), 6).astype(np.int32)
        query = Query(END, history=made_up_history(items, END), context=items[:1] if rng.random() < 0.5 else items[:0])
        item = int(rng.integers(0, len(release.item_ids)))
        found, each = release.explainers[name].because(query, item), parts(release, name, query, item)
        if found is None:
            assert max(each.values()) == 0
        else:
            named += 1
            assert each[found] == pytest.approx(max(each.values()))
    assert named > 10


@pytest.mark.parametrize(
    ("source", "item", "expected"),
    [
        ("own_frequency", "tea-1", ["you bought it twice"]),
        ("own_frequency", "cup-1", ["you put it in the cart once"]),
        ("own_frequency", "pot-1", ["you looked at it 3 times"]),
        ("transitions", "cup-2", ["often follows Tea number 2"]),
        ("covisitation", "cup-2", ["often together with Tea number 2"]),
        ("content", "tea-3", ["similar to Tea number 2"]),
        ("item_knn", "tea-3", ["people who chose Tea number 2 also chose it"]),
        ("item_knn", "tea-1", ["people who chose Tea number 2 also chose it", "you bought it twice"]),
        ("popularity", "tea-6", ["popular"]),
        ("recent_popularity", "pot-5", ["popular now"]),
        ("sequence", "pot-5", ["fits what you chose lately"]),  # a source that names no item
        ("fill", "pot-5", ["popular now"]),
        ("fill", "cup-5", ["popular"]),
    ],
)
def test_statements(release: Release, source: str, item: str, expected: list[str]) -> None:
    history = past(
        release,
        ("tea-1", BOUGHT, 1),
        ("tea-1", BOUGHT, 1),
        ("cup-1", CART, 0.4),
        *[("pot-1", VIEW, 0.1)] * 3,
        ("pot-1", EventType.IMPRESSION, 0),
        ("tea-2", BOUGHT, 1),
    )
    assert reasons(release, Query(END, history=history), [row(release, item)], [source]) == [expected]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ({BOUGHT: 1, VIEW: 90}, "bought once in the last hour"),
        ({CART: 2, EventType.ADD_TO_WISHLIST: 5}, "put in the cart twice in the last hour"),
        ({VIEW: 9, EventType.CLICK: 3}, "looked at 12 times in the last hour"),
        ({EventType.RATING: 3}, "rated 3 times in the last hour"),
        ({EventType.SEARCH: 3}, "popular in the last hour"),
    ],
)
def test_what_everybody_did_within_the_hour(release: Release, events: dict[EventType, int], expected: str) -> None:
    tea, counts = row(release, "tea-1"), np.zeros((1, len(EventType)), np.int32)
    for kind, times in events.items():
        counts[0, kind.code] = times
    trend = Trend.of(release, np.array([tea], np.int32), counts, 0.0)
    assert reasons(release, Query(END), [tea], ["trending"], trend) == [[expected]]
    history = past(release, ("tea-1", BOUGHT, 1))
    assert reasons(release, Query(END, history=history), [tea], ["trending"], trend) == [
        [expected, "you bought it once"]
    ]


def test_a_stranger_is_told_nothing_about_a_past(release: Release) -> None:
    items = [row(release, i) for i in ("tea-1", "cup-1", "pot-1")]
    said = reasons(
        release, Query(END, context=np.array(items[:1], np.int32)), items, ["sequence", "transitions", "fill"]
    )
    assert said == [["fits this page"], ["often follows Tea number 1"], ["popular now"]]
    # somebody who said something of themselves, and did nothing yet
    told = Query(END, attributes=np.array([1], np.uint64))
    assert reasons(release, told, items[:1], ["towers"]) == [["fits what you say of yourself"]]


def bought_on(release: Release, *days: float) -> Query:
    """tea-1, bought so many days before the end of the window."""
    times = END - (np.array(days) * DAY).astype(np.int64)
    n = len(days)
    items, types = np.full(n, row(release, "tea-1"), np.int32), np.full(n, BOUGHT.code, np.int8)
    return Query(END, history=History(items, times, types, np.ones(n, np.float32)))


def with_clock(release: Release, *, synthetic: bool) -> Release:
    """The release with item statistics, as one with a ranker has them."""
    n = release.items.rows
    facts = Columns({FACTS: np.zeros((n, len(ITEM)), np.float32), ATTRIBUTES: Tags.of([[]] * n)})
    return replace(release, table=ItemTable.of(facts, release.items, END, synthetic))


@pytest.mark.parametrize(
    ("days", "said"),
    [
        ((91, 60, 30), ["you buy it about every 30 days"]),  # gaps 31 and 30
        ((91, 60, 60, 30), ["you buy it about every 30 days"]),  # two at one moment are one purchase
        ((60, 30), []),  # one gap
        ((100, 60, 50), []),  # gaps 40 and 10: 25 on average, further than half of that from it
        ((3, 2, 1), []),  # every day is no rhythm to speak of
    ],
)
def test_how_often_somebody_buys_it(release: Release, days: tuple[float, ...], said: list[str]) -> None:
    query, tea = bought_on(release, *days), row(release, "tea-1")
    assert own_history(with_clock(release, synthetic=False), query, tea)[1:] == said
    assert own_history(with_clock(release, synthetic=True), query, tea)[1:] == []  # of an invented clock
    assert own_history(release, query, tea)[1:] == []  # nothing says whether the clock is real


def dressed(release: Release) -> Release:
    """Teas of the brand Leaf cost 3, cups of Clay 5, pots of Clay 50; a category each."""
    ids = [release.item_ids[r] for r in range(release.items.rows)]
    brand, price = {"tea": "Leaf", "cup": "Clay", "pot": "Clay"}, {"tea": 3.0, "cup": 5.0, "pot": 50.0}
    columns = {
        **dict(release.items.items()),
        Column.BRAND: Coded.of([brand[i[:3]] for i in ids]),
        Column.CATEGORY: Coded.of([f"Kitchen > {i[:3].title()}s" for i in ids]),
        Column.PRICE: np.array([price[i[:3]] for i in ids]),
    }
    return replace(release, items=Columns(columns))


@pytest.mark.parametrize(
    ("group", "item", "said"),
    [
        (Group.OWN, "tea-1", ["you bought it twice"]),
        (Group.OWN, "tea-3", []),
        (Group.RELATED, "cup-2", ["often follows Tea number 2, which you bought"]),
        (Group.RELATED, "cup-1", ["often follows Tea number 1, which you bought"]),
        (Group.RELATED, "pot-3", ["people who chose Pot number 1 also chose it, which you viewed"]),
        (Group.TASTE, "tea-4", ["you chose the brand Leaf 3 times", "you chose from Teas 3 times"]),
        (Group.TASTE, "cup-4", ["you chose the brand Clay 4 times"]),  # one cup, and a pot looked at three times
        (
            Group.PRICE,
            "tea-4",
            ["priced like what you usually choose"],
        ),  # 3, 3, 3, 5, 50, 50, 50: the quartiles are 3 and 50
        (Group.PERSON, "tea-4", []),
        (Group.POPULAR, "tea-6", []),  # six teas have no best tenth
    ],
)
def test_what_is_said_for_a_group(release: Release, group: Group, item: str, said: list[str]) -> None:
    history = past(
        release,
        ("tea-1", BOUGHT, 1),
        ("tea-1", BOUGHT, 1),
        ("cup-6", CART, 0.4),
        *[("pot-1", VIEW, 0.1)] * 3,
        ("tea-2", BOUGHT, 1),
    )
    query, shop = Query(END, history=history), dressed(release)
    assert statements(shop, query, row(release, item), {group: 1.0}) == said
    assert statements(shop, query, row(release, item), {group: -1.0}) == []  # what speaks against it is no reason


def test_popular_in_a_category(release: Release) -> None:
    """Of 18 items of one category one stands above the tenth: the sales of tea-6, pot-6 and cup-6 tie at the top."""
    n = release.items.rows
    columns = {**dict(release.items.items()), Column.CATEGORY: Coded.of(["Kitchen > Tea things"] * n)}
    one = replace(release, items=Columns(columns))
    said = {release.item_ids[r]: statements(one, Query(END), r, {Group.POPULAR: 0.5}) for r in range(n)}
    # recent popularity knows pots alone
    assert said["pot-6"] == said["pot-5"] == ["popular now in Tea things"]
    assert said["tea-6"] == said["cup-6"] == ["popular in Tea things"]
    assert said["tea-1"] == said["pot-4"] == []


def test_the_heaviest_reason_comes_first(release: Release) -> None:
    history = past(release, ("tea-1", BOUGHT, 1), ("tea-1", BOUGHT, 1), ("tea-2", BOUGHT, 1))
    query, tea = Query(END, history=history), row(release, "tea-1")
    weights = {"own-history": 0.2, "taste": 0.5, "base": 9.0}
    assert statements(dressed(release), query, tea, weights) == [
        "you chose the brand Leaf 3 times",
        "you chose from Teas 3 times",
        "you bought it twice",
    ]
    assert statements(release, query, tea, {"own_frequency": 0.1}) == ["you bought it twice"]  # where the blend ranked


def test_the_leaf_of_a_category() -> None:
    assert (leaf("A > B"), leaf("A")) == ("B", "A")
