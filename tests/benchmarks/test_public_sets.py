"""The public sets as they are measured: which events are kept."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.public_sets import development, write
from core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("AISLE_DATA") or ROOT.parent / "shared" / "data")


def test_of_online_retail_the_purchases_of_customers_are_kept(tmp_path: Path) -> None:
    lines = [
        ("1", "A", 2, 1.5, "17850"),
        ("1", "A", 2, 1.5, "17850"),  # a line that the invoice repeats is another purchase
        ("2", "B", 1, 2.0, None),  # a guest
        ("C3", "A", -1, 1.5, "17850"),  # a cancellation
        ("4", "B", 1, 2.0, "13047"),
        ("5", "B", 1, 0.0, "13047"),  # without a price
    ]
    columns = ["InvoiceNo", "StockCode", "Quantity", "UnitPrice", "CustomerID"]
    table = pd.DataFrame(lines, columns=columns).assign(
        Description="thing", InvoiceDate="2011-01-04 10:00:00", Country="France"
    )
    table.to_parquet(tmp_path / "online_retail.parquet")
    assert write("online-retail", tmp_path, tmp_path / "out") == 3
    events = pq.read_table(tmp_path / "out/events").to_pandas()
    assert events[["user_id", "item_id"]].to_numpy().tolist() == [["17850", "A"], ["17850", "A"], ["13047", "B"]]
    assert "visitor_id" not in events
    assert (tmp_path / "out/items").is_dir()
    assert (tmp_path / "out/dataset.yaml").is_file()


def events_at(*rows: tuple[str, int]) -> pa.Table:
    users, times = zip(*rows, strict=True)
    stamps = pa.array(times, pa.int64()).cast(pa.timestamp("us", "UTC"))
    return pa.table({"user_id": users, "event_time": stamps, "item_id": ["x"] * len(rows)})


def test_development_ends_before_what_judges() -> None:
    """Of the times 0 to 10 the 0.9 quantile is 9."""
    kept = development(events_at(*(("a", t) for t in (3, 10, 0, 1, 2, 4, 5, 6, 7, 8, 9))), last=False)
    assert np.flatnonzero(~kept).tolist() == [1, 10]


def test_development_lacks_the_last_event_of_whoever_has_three() -> None:
    kept = development(events_at(("b", 9), ("a", 3), ("a", 1), ("b", 1), ("a", 2)), last=True)
    assert kept.tolist() == [True, False, True, True, True]


def test_an_unknown_set_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no public set 'beauty'"):
        write("beauty", tmp_path, tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "events"),
    # the purchases of ../shared/data/README.md: 541,909 lines less guests, cancellations and free ones; the others whole
    [("online-retail", 397_884), ("amazon-beauty", 198_502), ("xwines", 150_000)],
)
def test_the_sets_have_as_many_events_as_the_published_comparison(name: str, events: int, tmp_path: Path) -> None:
    if not (DATA / name).is_dir():
        pytest.skip(f"public data: no {DATA / name}; set AISLE_DATA to the folder that holds it")
    assert write(name, DATA / name, tmp_path / "out") == events
