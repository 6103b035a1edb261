"""Features of items that came after the release: what the shop says of them, and declared defaults for what only events tell."""

import numpy as np

from core.candidates import Candidates
from core.columns import Array, Coded, Columns, Tags
from core.history import History, Query
from core.live_columns import LiveColumns
from core.schema import DAY, Column, EventType
from ranking.feature_list import FEATURES, ITEM, NAMES
from ranking.features import matrix
from ranking.item_table import ATTRIBUTES, FACT_NAMES, FACTS, ItemTable
from ranking.live_items import LiveItemTable

BRANDS = ["acme", "zeta", "acme"]


def tables(prices: list[float]) -> tuple[Columns, ItemTable]:
    """Three items with a brand each."""
    items = Columns({Column.BRAND: Coded.of(BRANDS), Column.CATEGORY: Coded.of([""] * 3)})
    facts = np.full((3, len(ITEM)), 0.25, np.float32)
    facts[:, FACT_NAMES.index("item.price")] = np.log1p(prices)
    statistics = Columns({FACTS: facts, ATTRIBUTES: Tags.of([[f"brand={b}"] for b in BRANDS])})
    return items, ItemTable.of(statistics, items, until=DAY, synthetic_time=False)


def live(prices: list[float]) -> tuple[LiveColumns, LiveItemTable]:
    items, table = tables(prices)
    return LiveColumns(items, 5), LiveItemTable(table, 5)


def features(table: ItemTable, rows: list[int]) -> Array:
    history = History(
        np.array([0], np.int32),
        np.array([DAY], np.int64),
        np.array([EventType.PURCHASE_COMPLETE.code], np.int8),
        np.ones(1, np.float32),
    )
    candidates = Candidates(
        np.array(rows, np.int32),
        ("towers",),
        np.ones((len(rows), 1), np.float32),
        np.zeros((len(rows), 1), np.int32),
    )
    return matrix(Query(2 * DAY, history=history), candidates, table)


def test_a_new_item_has_the_defaults_and_what_the_shop_says() -> None:
    columns, table = live([1.0, 2.0, 3.0])
    columns.write(3, {Column.BRAND: "acme"})
    table.write(3, 7.0, ["brand=acme", "brand=never seen"])
    got = dict(zip(NAMES, features(table.view(columns.view(4)), [1, 3])[1].tolist(), strict=True))
    for feature in ITEM:
        want = np.log1p(7.0) if feature.name == "item.price" else feature.default
        assert got[feature.name] == np.float32(want), feature.name
    assert got["brand.share"] == 1.0  # the one success is of acme too
    assert got["attributes.overlap"] == 1.0  # the attribute that nobody knows does not count


def test_a_changed_item_keeps_what_events_say_of_it() -> None:
    columns, table = live([1.0, 2.0, 3.0])
    columns.write(1, {Column.BRAND: "acme"})
    table.write(1, 9.0, ["brand=acme"])
    view = table.view(columns.view(3))
    assert view.facts[1, FACT_NAMES.index("item.price")] == np.float32(np.log1p(9.0))
    assert view.facts[1, FACT_NAMES.index("item.popularity")] == np.float32(0.25)
    assert view.brand.tolist() == [0, 0, 0]


def test_written_as_it_was_nothing_changes() -> None:
    prices = [1.0, 2.0, 3.0]
    columns, table = live(prices)
    columns.write(1, {Column.BRAND: "zeta"})
    table.write(1, 2.0, ["brand=zeta"])
    rows = [0, 1, 2]
    assert np.array_equal(features(table.view(columns.view(3)), rows), features(tables(prices)[1], rows))
    assert len(FEATURES) == features(tables(prices)[1], rows).shape[1]
