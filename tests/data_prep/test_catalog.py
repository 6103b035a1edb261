"""The log laid over the items table: of what is said of an item the newest counts, and a deletion until a later upsert."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.catalog_entry import Entry, Kind, Listings
from core.catalog_log import CatalogLog as Log
from core.columns import Coded, Columns, Tags, Texts
from core.errors import ArtifactError
from core.ids import IdMap
from core.schema import ITEMS
from data_prep.catalog import CatalogLog, Listed, listed
from data_prep.currency import Rates
from data_prep.inventory import InputFile
from data_prep.reading import AttributeKind
from data_prep.tables import SOURCE, Entities, empty, item_columns

OLD, NEW = "items/old.csv", "items/new.csv"
WRITTEN = {OLD: 100, NEW: 200}
TYPES = {"text": pa.string(), "number": pa.float64(), "integer": pa.int64(), "time": pa.int64(), "boolean": pa.bool_()}


def table(rows: dict[str, dict[str, object]], attributes: dict[str, AttributeKind] | None = None) -> Entities:
    """Rows by id; `file` says where one stood."""
    columns = {c.value: pa.array([r.get(c) for r in rows.values()], TYPES[kind]) for c, kind in ITEMS.kinds.items()}
    columns["item_id"] = pa.array(list(rows), pa.string())
    columns[SOURCE] = pa.array([r.get("file", OLD) for r in rows.values()], pa.string())
    for name, kind in (attributes or {}).items():
        type_ = {"list": pa.list_(pa.string()), "number": pa.float64()}.get(kind, pa.string())
        columns[f"attribute.{name}"] = pa.array([r.get(name) for r in rows.values()], type_)
    return Entities("item_id", pa.table(columns), pa.table({"reason": pa.array([], pa.string())}), attributes or {})


def upsert(time: int, *items: Mapping[str, object]) -> Entry:
    return Entry(Kind.UPSERT, time, items=items)


def delete(time: int, *ids: str) -> Entry:
    return Entry(Kind.DELETE, time, item_ids=ids)


def shelf(time: int, available: bool, *ids: str) -> Entry:
    return Entry(Kind.AVAILABILITY, time, item_ids=ids, available=available)


def over(items: Entities, *entries: Entry, rates: Rates | None = None) -> Listed:
    listings = Listings()
    for entry in entries:
        listings.apply(entry)
    return listed(items, CatalogLog("log", len(entries), listings.of, WRITTEN), rates or Rates(), lambda _: None)


def columns(found: Listed, *ids: str, seen: bool = True) -> Columns:
    n = len(ids)
    return item_columns(found.items, IdMap.of(ids), np.full(n, seen), np.full(n, np.nan), found.deleted, found.shelf)


def titles(found: Columns) -> list[str]:
    texts = found["title"]
    assert isinstance(texts, Texts)
    return list(texts)


def test_the_newer_of_file_and_upsert_counts() -> None:
    items = table(
        {
            "a": {"title": "a of a file", "price": 1.0, "file": OLD},
            "b": {"title": "b of a file", "price": 2.0, "file": NEW},
            "c": {"title": "c of a file", "price": 3.0, "file": OLD},
        }
    )
    said = {"a": "upserted later", "b": "upserted before", "d": "only upserted"}
    found = over(items, upsert(150, *({"item_id": i, "title": t} for i, t in said.items())))
    got = columns(found, "a", "b", "c", "d")
    assert titles(got) == ["upserted later", "b of a file", "c of a file", "only upserted"]
    # the upsert without a price means that it is unknown, not that it is kept
    np.testing.assert_array_equal(got.numbers("price"), np.array([np.nan, 2, 3, np.nan], np.float32))
    assert got.numbers("known").all()
    assert sorted(found.items.ids) == ["a", "b", "c", "d"]


def test_a_deletion_stands_until_a_later_upsert_whatever_a_file_says() -> None:
    items = table({"a": {"file": NEW}, "b": {"file": NEW}, "c": {"file": NEW}})
    found = over(items, delete(1, "a", "b", "x"), upsert(2, {"item_id": "b"}), shelf(300, True, "a"))
    got = columns(found, "a", "b", "c", "x")
    # b: the upsert took the deletion back, and the file is newer than the upsert: its row counts
    assert sorted(found.items.ids) == ["b", "c"]
    assert got.numbers("deleted").tolist() == [True, False, False, True]
    assert got.numbers("available").tolist() == [False, True, True, False]  # though events name a and x
    assert got.numbers("known").tolist() == [False, True, True, False]


def test_availability_is_as_last_said_by_whoever_says_something() -> None:
    items = table(
        {
            "newer": {"available": True, "file": NEW},  # says so after the log did
            "older": {"available": True, "file": OLD},
            "silent": {"file": NEW},
            "stocked": {"stock": 0, "file": OLD},
        }
    )
    found = over(items, shelf(150, False, "newer", "older", "silent", "event"), shelf(150, True, "stocked"))
    got = columns(found, "newer", "older", "silent", "stocked", "event", "other")
    assert got.numbers("available").tolist() == [True, False, False, True, False, True]
    assert not columns(over(items, shelf(150, False, "older")), "other", seen=False).numbers("available").any()


def test_an_upsert_sets_availability_and_what_comes_after_it_counts() -> None:
    one = {"item_id": "a", "stock": 0}
    assert columns(over(empty(ITEMS), upsert(1, one)), "a").numbers("available").tolist() == [False]
    later = over(empty(ITEMS), upsert(1, one), shelf(2, True, "a"))
    assert columns(later, "a").numbers("available").tolist() == [True]


def test_attributes_keep_the_kind_that_the_table_gives_them() -> None:
    kinds: dict[str, AttributeKind] = {
        "size": "csv",
        "code": "csv",
        "use": "list",
        "weight": "number",
        "colour": "text",
    }
    row = {"size": "10", "code": "007", "use": ["hall"], "weight": 1.5, "colour": "red"}
    mixed = {"size": "large", "code": 7.0, "use": "bath", "weight": "heavy", "colour": ["blue", "grey"], "kind": 3.0}
    plain = {"size": 12.0, "code": "008", "use": ["a", "b"], "weight": 2.0, "colour": 5.0, "kind": 4.5}
    found = over(
        table({"t": row}, kinds), upsert(9, *({"item_id": i, "attributes": a} for i, a in (("m", mixed), ("p", plain))))
    )
    got = columns(found, "m", "p", "t")
    # a word where numbers are is missing, a number where words are is a word, of a list the first
    np.testing.assert_array_equal(got.numbers("attribute.size"), np.array([np.nan, 12, 10], np.float32))
    np.testing.assert_array_equal(got.numbers("attribute.weight"), np.array([np.nan, 2, 1.5], np.float32))
    np.testing.assert_array_equal(got.numbers("attribute.kind"), np.array([3, 4.5, np.nan], np.float32))
    code, colour, use = got["attribute.code"], got["attribute.colour"], got["attribute.use"]
    assert isinstance(code, Coded)
    assert isinstance(colour, Coded)
    assert isinstance(use, Tags)
    assert [code[r] for r in range(3)] == ["7", "008", "007"]
    assert [colour[r] for r in range(3)] == ["blue", "5", "red"]
    assert [use[r] for r in range(3)] == [["bath"], ["a", "b"], ["hall"]]


def test_prices_of_upserts_come_into_the_shops_currency() -> None:
    rates = Rates("GBP", {"GBP": 1.0, "EUR": 0.5})
    items = ({"item_id": "a", "price": 8.0, "currency": "eur"}, {"item_id": "b", "price": 8.0})
    got = columns(over(empty(ITEMS), upsert(1, *items), rates=rates), "a", "b")
    assert got.numbers("price").tolist() == [4, 8]


IDS = ("a", "b", "c")
ENTRIES = st.lists(
    st.one_of(
        st.builds(
            lambda t, i, v: upsert(t, {"item_id": i, "title": f"{t}", **({} if v is None else {"available": v})}),
            st.integers(0, 300),
            st.sampled_from(IDS),
            st.sampled_from([None, True, False]),
        ),
        st.builds(delete, st.integers(0, 300), st.sampled_from(IDS)),
        st.builds(shelf, st.integers(0, 300), st.booleans(), st.sampled_from(IDS)),
    ),
    max_size=8,
).map(lambda entries: sorted(entries, key=lambda e: e.time))
ROWS = st.dictionaries(
    st.sampled_from(IDS),
    st.fixed_dictionaries({"file": st.sampled_from([OLD, NEW]), "available": st.sampled_from([None, True, False])}),
)


def by_hand(rows: dict[str, dict[str, object]], entries: list[Entry], item: str) -> tuple[bool, bool, str | None]:
    """Exists, is available, title: from the rules, statement by statement in the order of time; a file comes before an entry of its moment."""
    deleted, title, flag = False, None, None
    said: list[tuple[int, int, Entry | None]] = [(e.time, 1, e) for e in entries]
    if item in rows:
        said.append((WRITTEN[str(rows[item]["file"])], 0, None))
    exists = False
    for _, _, entry in sorted(said, key=lambda s: s[:2]):
        if entry is None:
            exists, title = True, ""
            flag = flag if rows[item]["available"] is None else bool(rows[item]["available"])
        elif entry.kind is Kind.UPSERT and entry.items[0]["item_id"] == item:
            exists, deleted, title, flag = True, False, entry.items[0]["title"], entry.items[0].get("available", True)
        elif entry.kind is Kind.DELETE and item in entry.item_ids:
            deleted = True
        elif entry.kind is Kind.AVAILABILITY and item in entry.item_ids:
            flag = entry.available
    if deleted:
        return False, False, None
    return exists, True if flag is None else flag, title


@settings(deadline=None)
@given(rows=ROWS, entries=ENTRIES)
def test_any_entries_over_any_table_are_what_the_rules_say(
    rows: dict[str, dict[str, object]], entries: list[Entry]
) -> None:
    found = over(table(rows), *entries)
    got = columns(found, *IDS)
    for at, item in enumerate(IDS):
        exists, available, title = by_hand(rows, entries, item)
        assert (item in found.items.ids) == exists, item
        assert bool(got.numbers("available")[at]) == available, item
        if exists:
            assert titles(got)[at] == title


def test_without_a_log_nothing_is_read_of_it(tmp_path: Path) -> None:
    found = CatalogLog.read(tmp_path / "catalog", tmp_path, [InputFile("items/none.csv", 1, "x")])
    assert found == CatalogLog()
    assert not (tmp_path / "catalog").exists()


def test_reading_ends_where_writing_did(tmp_path: Path) -> None:
    """A torn tail is none of the log; damage of what was acknowledged is an error; a file's touch is another fingerprint."""
    file, log = tmp_path / "items" / "a.csv", Log(tmp_path / "catalog")
    file.parent.mkdir()
    file.write_text("item_id\na\n")
    inputs = [InputFile("items/a.csv", 10, "x"), InputFile("events/e.csv", 10, "x")]
    log.append(delete(5, "a").payload)
    end = log.committed
    log.close()
    with (tmp_path / "catalog" / "log").open("ab") as f:
        f.write(b"half of a frame")
    os.utime(file, ns=(0, 7_000))
    found = CatalogLog.read(tmp_path / "catalog", tmp_path, inputs)
    assert (found.id, found.sequence, found.written) == (log.id, 1, {"items/a.csv": 7})
    assert found.listings["a"].deleted
    os.utime(file, ns=(0, 8_000))
    assert CatalogLog.read(tmp_path / "catalog", tmp_path, inputs).fingerprint() != found.fingerprint()
    data = bytearray((tmp_path / "catalog" / "log").read_bytes())
    data[end - 1] ^= 1
    (tmp_path / "catalog" / "log").write_bytes(data)
    with pytest.raises(ArtifactError, match="damaged at byte 16"):
        CatalogLog.read(tmp_path / "catalog", tmp_path, inputs)
