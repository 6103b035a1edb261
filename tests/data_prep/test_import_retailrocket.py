"""Retailrocket in its published columns, every expected value by hand."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from core.schema import Table
from data_prep.importers import retailrocket
from data_prep.importers.registry import import_data

EVENTS = """timestamp,visitorid,event,itemid,transactionid
1433221332117,257597,view,355908,
1433224214164,992329,addtocart,248676,
1433222276276,599528,transaction,356475,4000
1433222276276,599528,transaction,248676,4000
1433222276276,,view,1,
1433222276276,5,view,,
1433222276276,5,stare,1,
soon,5,view,1,
1433222276276000,5,view,1,
5,view,1
"""
HEADER = "timestamp,itemid,property,value\n"
# 355908 moves from category 20 to 30, and its price from 100 to 120; the newer row stands in part 1 or first in its part: time decides
PART1 = (
    HEADER
    + """1435460400000,355908,categoryid,30
1433041200000,355908,790,n100.000
1433041200000,355908,888,1116713 960601 n277.200
1433041200000,355908,available,1
1433041200000,248676,categoryid,99
1433041200000,248676,790,n-5.500
"""
)
PART2 = (
    HEADER
    + """1435460400000,355908,790,n120.000
1433041200000,355908,categoryid,20
1435460400000,355908,available,0
1433041200000,777,888,
1433041200000,777,364,n1.000 n2.000
1433041200000,777,rare,zzz
never,777,888,5
1433041200000,,888,5
1433041200000,777
"""
)
TREE = "categoryid,parentid\n30,20\n20,10\n10,\n40,41\n41,40\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    files = {"events": EVENTS, "item_properties_part1": PART1, "item_properties_part2": PART2, "category_tree": TREE}
    for name, text in files.items():
        (folder / f"{name}.csv").write_text(text)
    return folder


def rows(data: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(data / table).to_pylist()
    return found


def test_events_of_visitors(source: Path, tmp_path: Path) -> None:
    done = import_data("retailrocket", source, tmp_path / "out")

    events = rows(tmp_path / "out", "events")
    # two lines of one order are two purchases; what has no order has no event_id
    assert [(e["event_type"], e["item_id"], e["visitor_id"], e["event_id"]) for e in events] == [
        ("detail-page-view", "355908", "257597", None),
        ("add-to-cart", "248676", "992329", None),
        ("purchase-complete", "356475", "599528", "transaction 4000 356475"),
        ("purchase-complete", "248676", "599528", "transaction 4000 248676"),
    ]
    # 1,433,221,332 s = 2015-06-02 05:02:12 UTC
    assert events[0]["event_time"] == dt.datetime(2015, 6, 2, 5, 2, 12, 117_000, dt.UTC)
    assert (done.rows_read, done.events, done.rejected, done.items, done.users) == (10, 4, 6, 3, 0)
    assert done.reasons == {
        "a row with another number of fields than the header": 1,
        "event is none of view, addtocart, transaction": 1,
        "no item": 1,
        "no visitor": 1,
        "timestamp is not a number": 1,
        "timestamp is not in epoch milliseconds": 1,
    }
    dataset = yaml.safe_load((tmp_path / "out/dataset.yaml").read_text())
    assert dataset["sources"] == [
        f"{n}.csv" for n in ("events", "item_properties_part1", "item_properties_part2", "category_tree")
    ]


def test_items_with_their_newest_properties(source: Path, tmp_path: Path) -> None:
    done = import_data("retailrocket", source, tmp_path / "out")

    items = {i.pop("item_id"): i for i in rows(tmp_path / "out", "items")}
    assert list(items) == ["248676", "355908", "777"]  # 356475 is known by its purchase alone
    moved = items["355908"]
    assert (moved["category"], moved["available"]) == ("10 > 20 > 30", False)
    assert moved["property_790"] == 120.0
    assert moved["property_888"] == ["1116713", "960601", "n277.200"]
    other = items["248676"]
    assert (other["category"], other["available"]) == ("99", None)  # a category that the tree lacks is its own path
    assert other["property_790"] == -5.5
    # two numbers are no number: the property is a list for all
    assert items["777"]["property_364"] == ["n1.000", "n2.000"]
    assert items["777"]["property_888"] == []
    schema = pq.read_schema(next((tmp_path / "out" / "items").glob("*.parquet")))
    assert schema.field("property_790").type == pa.float64()
    assert done.notes == ("item properties: 3 rows that are malformed, without an item or without a time left out",)


def test_only_the_most_frequent_properties(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # rows, usable or not: 888 has 4, 790 has 3, 364 and rare have 1
    monkeypatch.setattr(retailrocket, "PROPERTIES", 2)
    done = import_data("retailrocket", source, tmp_path / "out")
    assert [n for n in rows(tmp_path / "out", "items")[0] if n.startswith("property_")] == [
        "property_888",
        "property_790",
    ]
    assert "4 properties: the 2 most frequent became attributes" in done.notes


def test_a_category_above_itself_ends() -> None:
    assert retailrocket._ancestry("40", {"40": "41", "41": "40"}) == ["41", "40"]


def test_newest_over_many_blocks() -> None:
    """The store grows past its first size, and a later block with an older time changes nothing."""
    import pandas as pd

    newest = retailrocket._Newest(["p"])

    def add(time: int, value: str) -> None:
        ids = pd.Series([str(i) for i in range(3000)])
        newest.add(ids, pd.Series(["p"] * 3000), pd.Series([float(time)] * 3000), pd.Series([value] * 3000))

    add(5, "new")
    add(4, "old")
    assert set(newest.column("p")) == {"new"}
    assert len(newest.rows) == 3000
    add(5, "later")
    assert set(newest.column("p")) == {"later"}


def test_without_the_other_files(source: Path, tmp_path: Path) -> None:
    for name in ("item_properties_part2", "category_tree"):
        (source / f"{name}.csv").unlink()
    done = import_data("retailrocket", source, tmp_path / "out")
    assert rows(tmp_path / "out", "items")[1]["category"] == "30"
    assert done.notes[0] == "no item_properties_part2.csv: items lack what stands there"
    (source / "item_properties_part1.csv").unlink()
    done = import_data("retailrocket", source, tmp_path / "events-alone")
    assert [i["item_id"] for i in rows(tmp_path / "events-alone", Table.ITEMS)] == ["248676", "355908", "356475"]
