"""What is said of an item is true: the named item is the one that speaks most for it, by an oracle that asks for each alone."""

import numpy as np
import pytest

from core.columns import Array
from core.history import History, Query
from core.schema import DAY, EventType
from core.work import Work
from retrieval.sources.evidence import chosen, on_page, seeds
from serving.reasons import reasons
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
        items: Array = np.unique(np.concatenate([on_page(query, n), chosen(query, n)]))
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
