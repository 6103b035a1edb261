"""Every way to write a table arrives as the same typed rows."""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from core.schema import EVENTS, ITEMS, TableContract
from data_prep import inputs, reading
from data_prep.inventory import look
from data_prep.times import Clock, detect

NOON = pd.Timestamp("2024-05-01T12:00:00.25Z")
NOON_US = 1_714_564_800_250_000


def rows(
    spark: SparkSession, data: Path, contract: TableContract, said: list[str]
) -> tuple[list[dict[str, Any]], reading.TableRows]:
    table = reading.read(spark, inputs.groups(data, contract, said.append), contract, said.append)
    return [r.asDict() for r in table.rows.orderBy(reading.FILE, reading.BLOCK, reading.LINE).collect()], table


def test_one_table_in_nine_files_of_all_kinds(spark: SparkSession, tmp_path: Path, said: list[str]) -> None:
    events = tmp_path / "events"
    for day in ("2024-05-01", "day=2024-05-02"):
        (events / day).mkdir(parents=True)
    frame = pd.DataFrame(
        {
            "event_type": ["click"],
            "event_time": [NOON],
            "item_id": [7],
            "user_id": [17850.0],
            "quantity": [2],
            "extra": ["x"],
        }
    )
    frame.to_parquet(events / "a-ns.parquet")
    frame.to_parquet(events / "b-us.parquet", coerce_timestamps="us")
    naive = frame.assign(event_time=frame.event_time.dt.tz_localize(None))
    naive.to_parquet(events / "c-naive.parquet")
    pq.write_table(pa.Table.from_pandas(naive), events / "d-int96.pq", use_deprecated_int96_timestamps=True)
    frame.assign(event_time=NOON_US // 1000).to_parquet(events / "e-ms.parquet")
    text = "user_id,event_time,item_id,event_type,quantity\n17850,2024-05-01T14:00:00.25+02:00,7,click,2.0\n"
    (events / "2024-05-01" / "f.csv").write_text(text)
    (events / "2024-05-01" / "g.csv.gz").write_bytes(gzip.compress(text.encode()))
    line = json.dumps(
        {"event_type": "click", "event_time": 1714564800.25, "item_id": 7, "user_id": "17850", "quantity": "2"}
    )
    (events / "day=2024-05-02" / "h.jsonl").write_text(line + "\n")
    (events / "day=2024-05-02" / "i.jsonl.bz2").write_bytes(bz2.compress(line.encode()))
    (events / "_SUCCESS").touch()

    found, _ = rows(spark, tmp_path, EVENTS, said)

    wanted = {
        "event_type": "click",
        "event_time": NOON_US,
        "item_id": "7",
        "user_id": "17850",
        "quantity": 2.0,
        "visitor_id": None,
    }
    assert len(found) == 9
    for row in found:
        assert {c: row[c] for c in wanted} == wanted, row
    assert any("e-ms.parquet: event_time read as epoch milliseconds" in s for s in said)
    assert any("f.csv and 1 more: event_time read as ISO text" in s for s in said)
    assert any("h.jsonl and 1 more: event_time read as epoch seconds" in s for s in said)
    assert any("a-ns.parquet and 1 more: event_time read as timestamps in nanoseconds" in s for s in said)
    assert any("ignored column extra" in s for s in said)


def test_attributes_keep_their_kind_and_csv_quotes_hold_line_breaks(
    spark: SparkSession, tmp_path: Path, said: list[str]
) -> None:
    (tmp_path / "items").mkdir()
    pd.DataFrame(
        {
            "item_id": ["a"],
            "price": ["1.50"],
            "tags": [["x", "y"]],
            "size": [3],
            "made": [pd.Timestamp("1970-01-03")],
            "colour": ["red"],
            "dims": [{"w": 1}],
        }
    ).to_parquet(tmp_path / "items" / "a.parquet")
    (tmp_path / "items" / "b.csv").write_text('item_id,title,available,colour\nb,"two\nlines, ""quoted""",no,\n')
    found, table = rows(spark, tmp_path, ITEMS, said)
    assert table.attributes == {"colour": "text", "made": "number", "size": "number", "tags": "list"}
    a, b = found
    assert (a["price"], a["attribute.tags"], a["attribute.size"], a["attribute.made"], a["attribute.colour"]) == (
        1.5,
        ["x", "y"],
        3,
        2,
        "red",
    )
    assert (b["title"], b["available"], b["attribute.tags"], b["attribute.colour"]) == (
        'two\nlines, "quoted"',
        False,
        None,
        None,
    )
    assert "items: ignored attribute 'dims': neither a value nor a list of values" in said


def test_values_that_are_none_say_so(spark: SparkSession, tmp_path: Path, said: list[str]) -> None:
    (tmp_path / "events").mkdir()
    good = "click,2024-05-01,1,1,1"
    bad = [
        "click,01/12/2010 08:26,1,1,1",
        "click,12:30,1,1,1",
        "click,2024-05-01,1,1,many",
        "click,2024-05-01,1,1,1,extra",
    ]
    (tmp_path / "events" / "a.csv").write_text(
        "\n".join(["event_type,event_time,item_id,user_id,quantity", good, *bad, "click,2024-05-01, ,1,"])
    )
    found, _ = rows(spark, tmp_path, EVENTS, said)
    assert [r["_bad"] for r in found] == [
        None,
        "unreadable event_time",
        "unreadable event_time",
        "unreadable quantity",
        "malformed line",
        None,
    ]
    assert (found[5]["item_id"], found[5]["quantity"]) == (None, None)  # blank is missing


@pytest.mark.parametrize(
    ("type_name", "sample", "clock"),
    [
        ("timestamp[ns, tz=UTC]", [], Clock.NANOSECONDS),
        ("timestamp[us]", [], Clock.TIMESTAMP),
        ("date32[day]", [], Clock.TIMESTAMP),
        ("text", ["2024-05-01"], Clock.ISO),
        ("text", ["1714564800"], Clock.EPOCH_S),
        ("int64", [1_714_564_800_000_000], Clock.EPOCH_US),
        ("int64", [1_714_564_800_000_000_000], Clock.EPOCH_NS),
        ("int64", [3, 1_714_564_800_000, 1_714_564_800_001], Clock.EPOCH_MS),  # one stray value does not decide
    ],
)
def test_clocks_are_told_apart(type_name: str, sample: list[Any], clock: Clock) -> None:
    assert detect(type_name, sample) is clock


def test_the_fingerprint_is_that_of_the_content(put: Callable[..., Path]) -> None:
    frame = pd.DataFrame({"item_id": ["a"]})
    data = put(items=frame)
    before = look(data, {})
    (data / "items" / "part-0.parquet").touch()
    assert look(data, {}) == before
    assert look(put(items=pd.DataFrame({"item_id": ["b"]})), {}) != before


def test_values_of_items_that_cannot_be_read_are_counted_by_column(
    spark: SparkSession, tmp_path: Path, said: list[str]
) -> None:
    (tmp_path / "items").mkdir()
    lines = [
        "item_id,price,stock,available,created_at",
        "a,1.5,3,yes,2024-05-01",
        "b,free,,maybe,soon",
        "c,nan,many,no,",
        "d,12€,1,,",
    ]
    (tmp_path / "items" / "a.csv").write_text("\n".join(lines) + "\n")
    _, table = rows(spark, tmp_path, ITEMS, said)
    # free and 12€; many; maybe; soon. Blank and NaN are missing, not unreadable
    assert reading.unread(table, ITEMS) == {"price": 2, "stock": 1, "available": 1, "created_at": 1}


def test_ids_that_no_map_can_hold(spark: SparkSession, tmp_path: Path, said: list[str]) -> None:
    ids = [
        "é" * 128,
        "é" * 128 + "x",
        "a\tb",
        "a b",
        "a\u0085b",
    ]  # 256 bytes are the most; U+0085 is a control character, too
    (tmp_path / "items").mkdir()
    pd.DataFrame({"item_id": ids}).to_parquet(tmp_path / "items" / "a.parquet")
    found, _ = rows(spark, tmp_path, ITEMS, said)
    control = "control characters in item_id"
    assert [r["_bad"] for r in found] == [None, "item_id longer than 256 bytes", control, None, control]
