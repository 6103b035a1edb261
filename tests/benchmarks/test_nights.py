"""The days that `benchmarks.nights` deals out."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.nights import split_days


def test_the_last_days_with_events_become_files_of_their_own(tmp_path: Path) -> None:
    # events on the 1st, 2nd, 5th (twice) and 6th: nothing happened on the 3rd and 4th
    times = [dt.datetime(2024, 1, day, hour, tzinfo=dt.UTC) for day, hour in ((1, 9), (2, 9), (5, 0), (5, 23), (6, 1))]
    (tmp_path / "shop" / "events").mkdir(parents=True)
    (tmp_path / "shop" / "items").mkdir()
    (tmp_path / "shop" / "items" / "part.csv").write_text("item_id\na\n")
    events = pa.table({"event_time": pa.array(times, pa.timestamp("us", "UTC")), "item_id": list("abcde")})
    pq.write_table(events, tmp_path / "shop" / "events" / "part.parquet")
    days = split_days(tmp_path / "shop", tmp_path / "out", 2)
    assert [pq.read_table(day).column("item_id").to_pylist() for day in days] == [["c", "d"], ["e"]]
    (before,) = (tmp_path / "out" / "events").iterdir()
    assert pq.read_table(before).column("item_id").to_pylist() == ["a", "b"]
    assert (tmp_path / "out" / "items" / "part.csv").read_text() == "item_id\na\n"
