"""Each layout on a few rows written here, every expected value by hand."""

from __future__ import annotations

import datetime as dt
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from data_prep.importers.registry import import_data

RETAIL_HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


def rows(data: Path, table: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(data / table).to_pylist()
    return found


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def write(folder: Path, files: dict[str, str]) -> Path:
    """Files by name; those that end in .gz are compressed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return folder


@pytest.fixture
def retail(tmp_path: Path) -> Path:
    """A sale of two lines, a guest, a cancellation, and one line for each reason to reject."""
    text = RETAIL_HEADER + "".join(
        line + "\n"
        for line in (
            "1001,A1,RED MUG,6,2011-01-03 09:00:00,2.0,17.0,Spain",
            "1001,A1,RED MUG,6,2011-01-03 09:00:00,2.0,17.0,Spain",  # the same line again: both count
            "1002,A1,MUG RED,1,2011-01-03 10:30:00,4.0,,France",
            "C1003,A1,RED MUG,-2,2011-01-05 11:00:00,2.0,17.0,Portugal",
            "1004,POST,POSTAGE,1,2011-01-06 08:00:00,18.0,18,France",
            "1005,A2,,3,2011-01-06 08:00:00,0.0,18,France",
            "1006,A2,damaged,-3,2011-01-06 08:00:00,1.0,,France",
            "C1007,A2,LAMP,3,2011-01-06 08:00:00,1.0,18,France",
            "A1008,B,Adjust bad debt,1,2011-01-06 08:00:00,99.0,,France",
            "1009,A2,LAMP,3,someday,1.0,18,France",
            "1010,,LAMP,3,2011-01-06 08:00:00,1.0,18,France",
            "1011,A2,LAMP,three,2011-01-06 08:00:00,1.0,18,France",
            "1012,A2,LAMP,3,2011-01-06 08:00:00,free,18,France",
            ",A2,LAMP,3,2011-01-06 08:00:00,1.0,18,France",
            "1013,A2,LAMP,3",
        )
    )
    return write(tmp_path / "online-retail", {"retail.csv": text})


def test_online_retail_sales_guests_and_cancellations(retail: Path, tmp_path: Path) -> None:
    done = import_data("online-retail", retail, tmp_path / "out")

    events = rows(tmp_path / "out", "events")
    assert [
        (e["event_type"], e["item_id"], e["user_id"], e["visitor_id"], e["session_id"], e["quantity"]) for e in events
    ] == [
        ("purchase-complete", "A1", "17", None, "1001", 6.0),
        ("purchase-complete", "A1", "17", None, "1001", 6.0),
        ("purchase-complete", "A1", None, "1002", "1002", 1.0),
        ("return", "A1", "17", None, "C1003", 2.0),
        ("purchase-complete", "POST", "18", None, "1004", 1.0),
    ]
    assert events[0]["event_time"] == utc("2011-01-03T09:00:00")
    assert len({e["event_id"] for e in events}) == 5
    # A1: RED MUG on three of four accepted lines; prices 2, 2, 4, 2 -> median 2.
    assert rows(tmp_path / "out", "items") == [
        {"item_id": "A1", "title": "RED MUG", "price": 2.0, "currency": "GBP"},
        {"item_id": "POST", "title": "POSTAGE", "price": 18.0, "currency": "GBP"},
    ]
    # The country of the customer's first accepted line.
    assert rows(tmp_path / "out", "users") == [
        {"user_id": "17", "country": "Spain"},
        {"user_id": "18", "country": "France"},
    ]
    assert (done.rows_read, done.events, done.rejected, done.items, done.users) == (15, 5, 10, 2, 2)


def test_online_retail_keeps_each_reject_with_its_reason(retail: Path, tmp_path: Path) -> None:
    done = import_data("online-retail", retail, tmp_path / "out")

    assert done.reasons == {
        "a cancellation whose quantity is not negative": 1,
        "a row with another number of fields than the header": 1,
        "an accounting adjustment (invoice A...), not a sale": 1,
        "no invoice number": 1,
        "no readable date": 1,
        "no stock code": 1,
        "price is not a number": 1,
        "price is not positive": 1,
        "quantity is not a number": 1,
        "quantity is not positive and the invoice is no cancellation": 1,
    }
    kept = {r["reason"]: r for r in rows(tmp_path / "out", "rejected")}
    assert json.loads(kept["no readable date"]["content"])["InvoiceDate"] == "someday"
    assert kept["a row with another number of fields than the header"]["content"] == "1013,A2,LAMP,3"


def test_online_retail_csv_as_passed_around_is_latin_1_with_us_dates(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    line = "1001,A1,£1 MUG,6,12/31/2010 8:26,2.5,17,EIRE\n"
    (folder / "OnlineRetail.csv").write_bytes((RETAIL_HEADER + line).encode("latin-1"))

    import_data("online-retail", folder / "OnlineRetail.csv", tmp_path / "out")

    assert rows(tmp_path / "out", "events")[0]["event_time"] == utc("2010-12-31T08:26:00")
    assert rows(tmp_path / "out", "items")[0]["title"] == "£1 MUG"


def test_amazon_sequences_one_event_a_day_and_all_end_together(tmp_path: Path) -> None:
    source = write(
        tmp_path / "in",
        {
            "sequences.txt.gz": "u1 a b c\nu2 b\n\nu3\nu1 d e\n",
            "item2attributes.json": '{"a": [1, 2], "b": [], "c": [9]}',
            "attribute_names.json": '{"1": "Hair", "2": "Acme"}',
        },
    )

    done = import_data("amazon-sequences", source, tmp_path / "out")

    # The last of each at 1,400,000,000 s = 2014-05-13 16:53:20 UTC, earlier ones a day before each.
    assert [(e["user_id"], e["item_id"], e["event_time"]) for e in rows(tmp_path / "out", "events")] == [
        ("u1", "a", utc("2014-05-11T16:53:20")),
        ("u1", "b", utc("2014-05-12T16:53:20")),
        ("u1", "c", utc("2014-05-13T16:53:20")),
        ("u2", "b", utc("2014-05-13T16:53:20")),
    ]
    assert rows(tmp_path / "out", "items") == [
        {"item_id": "a", "attributes": ["Hair", "Acme"]},
        {"item_id": "b", "attributes": []},
        {"item_id": "c", "attributes": ["9"]},  # an id without a name keeps its id
    ]
    # u3 is one row without an item; the second line of u1 is two rows whose place among the others is not known.
    assert (done.rows_read, done.events, done.rejected, done.users) == (7, 4, 3, 2)
    dataset = yaml.safe_load((tmp_path / "out/dataset.yaml").read_text())
    assert dataset["layout"] == "amazon-sequences"
    assert dataset["synthetic_time"] is True
    assert dataset["sources"] == ["sequences.txt.gz", "item2attributes.json", "attribute_names.json"]


def test_movielens_ratings_with_value_and_genres_as_a_list(tmp_path: Path) -> None:
    source = write(
        tmp_path / "in",
        {
            "ratings.csv": (
                "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,32,x,1260759144\n2,31,4,1260759144000\n,31,4,1\n"
            ),
            "movies.csv.gz": (
                'movieId,title,genres\n31,"Minds, Dangerous (1995)",Drama|Comedy\n32,Untitled,(no genres listed)\n31,Twice,Drama\n'
            ),
        },
    )

    done = import_data("movielens", source, tmp_path / "out")

    assert rows(tmp_path / "out", "events") == [
        {
            "event_type": "rating",
            "event_time": utc("2009-12-14T02:52:24"),
            "item_id": "31",
            "user_id": "1",
            "value": 2.5,
        }
    ]
    assert rows(tmp_path / "out", "items") == [
        {"item_id": "31", "title": "Minds, Dangerous (1995)", "genres": ["Drama", "Comedy"], "year": 1995},
        {"item_id": "32", "title": "Untitled", "genres": [], "year": None},
    ]
    assert done.reasons == {"no user": 1, "rating is not a number": 1, "timestamp is not in epoch seconds": 1}
    assert "movies.csv.gz: 1 rows" in done.notes[0]


def test_movielens_without_movies_says_so_and_lists_the_ids(tmp_path: Path) -> None:
    source = write(tmp_path / "in", {"ratings.csv": "userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n"})

    done = import_data("movielens", source / "ratings.csv", tmp_path / "out")

    assert done.notes == ("no movies.csv: items carry no title and no genres",)
    assert rows(tmp_path / "out", "items") == [{"item_id": "31"}]


def test_xwines_lists_stay_lists(tmp_path: Path) -> None:
    header = "WineID,WineName,Type,Elaborate,Grapes,Harmonize,ABV,Body,Acidity,Country,RegionName,WineryName"
    wine = "100,Moscatel,Sparkling,Varietal,\"['Muscat', 'Riesling']\",\"['Pork']\",7.5,Light,High,Brazil,Serra,Casa"
    ratings = "7,1,100,N.V.,4.5,2021-11-02 20:52:59\n8,1,100,2001,4,soon\n"
    source = write(
        tmp_path / "in",
        {
            "XWines_Tiny_ratings.csv": "RatingID,UserID,WineID,Vintage,Rating,Date\n" + ratings,
            "XWines_Tiny_wines.csv": header + "\n" + wine + "\n",
        },
    )

    done = import_data("xwines", source, tmp_path / "out")

    (event,) = rows(tmp_path / "out", "events")
    assert (event["event_id"], event["value"], event["event_time"]) == ("7", 4.5, utc("2021-11-02T20:52:59"))
    (item,) = rows(tmp_path / "out", "items")
    assert item["grapes"] == ["Muscat", "Riesling"]
    assert (item["category"], item["brand"], item["abv"], item["region"]) == ("Sparkling", "Casa", 7.5, "Serra")
    assert done.reasons == {"no readable date": 1}


def test_alibaba_types_and_days_of_a_stated_year(tmp_path: Path) -> None:
    text = "user_id,brand_id,type,visit_datetime\n1,10,0,6-4\n1,10,0,6-4\n1,10,1,6月5日\n2,11,2,8-15\n2,11,3,4-15\n2,11,4,4-15\n2,11,0,2-30\n"
    source = write(tmp_path / "in", {"t_alibaba_data.csv": text})

    done = import_data("alibaba-2014", source, tmp_path / "out")

    events = rows(tmp_path / "out", "events")
    assert [(e["event_type"], e["item_id"], e["event_time"]) for e in events] == [
        ("click", "10", utc("2013-06-04")),
        ("click", "10", utc("2013-06-04")),
        ("purchase-complete", "10", utc("2013-06-05")),
        ("add-to-wishlist", "11", utc("2013-08-15")),
        ("add-to-cart", "11", utc("2013-04-15")),
    ]
    assert events[0]["event_id"] != events[1]["event_id"]
    assert done.reasons == {"type is none of 0, 1, 2, 3": 1, "visit_datetime is no month and day": 1}
    assert "2013" in yaml.safe_load((tmp_path / "out/dataset.yaml").read_text())["assumes"]
