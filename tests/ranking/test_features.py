"""The feature matrix on a case that a reader can do by hand, its laws, and that training and serving compute the same bits."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from core.candidates import Candidates, Scoring
from core.columns import Array, Coded, Columns, Tags
from core.history import History, Query
from core.ids import NO_ROW
from core.schema import DAY, Column
from ranking.feature_list import FEATURES, ITEM, NAMES, SOURCES, USER, schema_hash
from ranking.features import ItemTable, matrix
from ranking.item_table import ATTRIBUTES, FACT_NAMES, FACTS
from retrieval.sources.opinion import FewItems

NOW = 1_700_000_000_000_000
PRICES = [1.0, 3.0, 9.0, np.nan]


def item_table(synthetic_time: bool = False) -> ItemTable:
    """Four items: brands a a b -, one category, attributes red red blue -, prices 1, 3, 9 and none, popularity 0 -1 -2 -3."""
    facts = np.zeros((4, len(ITEM)), np.float32)
    facts[:, FACT_NAMES.index("item.price")] = np.log1p(np.nan_to_num(np.array(PRICES)))
    facts[:, FACT_NAMES.index("item.popularity")] = [0, -1, -2, -3]
    facts[:, FACT_NAMES.index("item.gap_days")] = [0, 20, 0, 0]
    items = Columns({Column.BRAND: Coded.of(["a", "a", "b", None]), Column.CATEGORY: Coded.of(["toys"] * 4)})
    statistics = Columns({FACTS: facts, ATTRIBUTES: Tags.of([["red"], ["red"], ["blue"], []])})
    return ItemTable.of(statistics, items, NOW, synthetic_time)


def history(*events: tuple[int, float, float]) -> History:
    """(item, days before NOW, gain), oldest first."""
    items, ago, gains = zip(*events, strict=True)
    times = NOW - (np.array(ago) * DAY).astype(np.int64)
    return History(np.array(items, np.int32), times, np.zeros(len(items), np.int8), np.array(gains, np.float32))


def proposals() -> Candidates:
    """Items 1, 2 and 3: transitions proposes 2 before 1, popularity 3."""
    scores = np.array([[1.0, 0.0], [4.0, 2.0], [0.0, 8.0]], np.float32)
    ranks = np.array([[1, NO_ROW], [0, NO_ROW], [NO_ROW, 0]], np.int32)
    return Candidates(np.array([1, 2, 3], np.int32), ("transitions", "popularity"), scores, ranks)


def column(rows: Array, name: str) -> list[float]:
    return [round(float(x), 4) for x in rows[:, NAMES.index(name)]]


# Item 1 was bought 40 and 10 days ago (with item 0 at the second time), item 0 only then, and item 2 was looked at 5 days ago.
PAST = history((1, 40, 1.0), (0, 10, 1.0), (1, 10, 1.0), (2, 5, 0.0))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("transitions.score", [0.25, 1, 0]),
        ("popularity.score", [0, 0.25, 1]),
        ("transitions.rank", [0.5, 1, 0]),
        ("item_knn.score", [0, 0, 0]),  # a source that the release does not have
        ("agree.score", [0.125, 0.625, 0.5]),
        ("agree.rank", [1 / 11, 1 / 10, 1 / 10]),
        ("agree.count", [1, 1, 1]),
        ("own.count", [2, 0, 0]),
        ("own.share", [2 / 3, 0, 0]),
        ("own.baskets", [1, 0, 0]),
        ("own.fading", [2 ** (-40 / 30) + 2 ** (-10 / 30), 0, 0]),
        ("own.baskets_since", [0, -1, -1]),
        ("own.events_since", [0, -1, -1]),
        ("own.days_since", [10, -1, -1]),
        ("own.gap_days", [30, -1, -1]),
        ("own.due", [10 / 30, -1, -1]),
        ("own.due_as_others", [10 / 20, -1, -1]),
        ("own.touched", [0, 1, 0]),
        ("brand.share", [1, 0, 0]),
        ("category.share", [1, 1, 1]),
        ("attributes.overlap", [1, 0, 0]),
        ("item.popularity", [-1, -2, -3]),
        # mean log price of the history: (log 4 + log 2 + log 4) / 3
        ("price.distance", [np.log(4) - np.log(32) / 3, np.log(10) - np.log(32) / 3, 0]),
        ("person.successes", [3, 3, 3]),
        ("person.items", [2, 2, 2]),
        ("person.repeats", [1 / 3] * 3),
        ("person.baskets", [2, 2, 2]),
        ("person.basket_size", [1.5] * 3),
        ("person.days_since", [10, 10, 10]),
        ("person.gap_days", [30, 30, 30]),
        ("person.taste", [-2 / 3] * 3),
    ],
)
def test_a_case_by_hand(name: str, expected: list[float]) -> None:
    rows = matrix(Query(NOW, 0, PAST), proposals(), item_table())
    assert column(rows, name) == pytest.approx([round(float(e), 4) for e in expected], abs=1e-4)


def test_shape_type_and_no_surprises() -> None:
    rows = matrix(Query(NOW, 0, PAST), proposals(), item_table())
    assert rows.dtype == np.float32
    assert rows.shape == (3, len(FEATURES))
    assert len(set(NAMES)) == len(NAMES) >= 40


@pytest.mark.parametrize("scores", [np.nan, -np.inf, 0.0])
def test_never_anything_but_numbers(scores: float) -> None:
    odd = dataclasses.replace(proposals(), scores=np.full((3, 2), scores, np.float32))
    with np.errstate(invalid="ignore"):
        assert np.isfinite(matrix(Query(NOW, 0, PAST), odd, item_table())).all()


def test_a_stranger_has_the_defaults() -> None:
    rows = matrix(Query(NOW), proposals(), item_table())
    for feature in FEATURES:
        if feature.source == "history":
            assert column(rows, feature.name) == [feature.default] * 3, feature.name
    assert column(rows, "person.days_since") == [-1] * 3


def test_a_snapshot_of_the_person_is_the_same_for_every_candidate() -> None:
    facts = np.arange(1, len(USER), dtype=np.float32)  # one fewer than features: the last says whether it expired
    known, absent = (matrix(Query(NOW, 0, PAST, facts=f), proposals(), item_table()) for f in (facts, None))
    for n, feature in enumerate(USER):
        assert column(known, feature.name) == [[1, 2, 3, 4, 5, 6, 7, 0][n]] * 3
        assert column(absent, feature.name) == [feature.default] * 3
    assert column(absent, "user.expired") == [1] * 3


def test_no_candidates() -> None:
    none = Candidates(np.empty(0, np.int32), ("popularity",), np.empty((0, 1), np.float32), np.empty((0, 1), np.int32))
    assert matrix(Query(NOW, 0, PAST), none, item_table()).shape == (0, len(FEATURES))


def test_an_invented_clock_switches_every_timed_feature_off() -> None:
    real, invented = (matrix(Query(NOW, 0, PAST), proposals(), item_table(s)) for s in (False, True))
    for feature in FEATURES:
        if feature.timed:
            assert column(invented, feature.name) == [pytest.approx(feature.default)] * 3, feature.name
        else:
            assert column(invented, feature.name) == column(real, feature.name), feature.name


def test_a_history_that_holds_what_came_after_the_request_is_refused() -> None:
    with pytest.raises(ValueError, match="what came after is not known"):
        matrix(Query(NOW - 11 * DAY, 0, PAST), proposals(), item_table())


def test_the_schema_hash_is_of_the_list_and_its_order() -> None:
    assert schema_hash() == schema_hash()
    assert tuple(n.removesuffix(".score") for n in NAMES[: len(SOURCES)]) == SOURCES


class Remembering:
    """A source that scores item 2 with the number of events it is asked about, and everything else 0."""

    name = "transitions"

    def scoring(self, query: Query) -> Scoring:
        return FewItems(np.array([2], np.int32), np.array([len(query.history)], np.float32))


def test_sources_are_asked_again_about_the_newest_basket() -> None:
    """The newest success is 10 days old; the basket then holds items 0 and 1, and a look at item 2 came after."""
    asked: list[int] = []

    class Counting(Remembering):
        def scoring(self, query: Query) -> Scoring:
            asked.append(len(query.history))
            return super().scoring(query)

    rows = matrix(Query(NOW, 0, PAST), proposals(), item_table(), (Counting(),))
    assert asked == [3]
    assert column(rows, "late.transitions") == [0, 1, 0]
    assert column(rows, "late.item_knn") == [0, 0, 0]
    assert column(rows, "strength.transitions") == pytest.approx([np.log1p(4)] * 3, abs=1e-4)
