"""A broken input of each kind: one line that names the file and the fix, and nothing written."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import SparkSession

from core.config import PipelineConfig
from core.errors import InputError
from core.work import Work
from data_prep.prepare import run

EVENTS = pd.DataFrame(
    {
        "event_type": "purchase-complete",
        "event_time": pd.date_range("2024-05-01", periods=10, freq="7h", tz="UTC").as_unit("us"),
        "item_id": list("abcdeabcde"),
        "user_id": list("1122112211"),
    }
)


def refused(data: Path, settings: PipelineConfig) -> str:
    """The message; the work directory must be as it was."""
    work = Work(data.parent / "work")
    with pytest.raises(InputError) as error:
        run(data, work, settings, lambda _: None)
    assert not work.has("prepare")
    assert not [p for p in work.root.rglob("*") if p.is_file()]
    message = str(error.value)
    assert "\n" not in message
    return message


def file_of(data: Path, name: str, content: bytes) -> Path:
    (data / "events").mkdir(parents=True, exist_ok=True)
    (data / "events" / name).write_bytes(content)
    return data


HEADER = b"event_type,event_time,item_id,user_id\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.parquet",
            b"",
            r"events/a.parquet: an empty file \(0 bytes\), expected events rows; write it again, or remove it",
        ),
        (
            "a.parquet",
            b"junk" * 100,
            r"events/a.parquet: not a readable parquet file, as its name says \(.*\); write it again",
        ),
        ("a.csv", bytes(range(256)), r"events/a.csv: not UTF-8 text \(.*\); convert it to UTF-8"),
        ("a.csv", b"a\0b\n", r"events/a.csv: binary data, expected UTF-8 text"),
        ("a.csv", b"\n\n", r"events/a.csv: no header line, expected the column names in the first line"),
        ("a.csv", b"item_id,item_id\n", r"events/a.csv: column 'item_id' appears twice in the header"),
        ("a.csv.gz", b"not gzip", r"events/a.csv.gz: not a readable csv file, as its name says \(Not a gzipped file"),
        (
            "a.csv.gz",
            gzip.compress(HEADER * 9)[:20],
            r"events/a.csv.gz: not a readable csv file, as its name says \(Compressed file ended",
        ),
        ("a.jsonl", b"[1, 2]\nhello\n", r"events/a.jsonl: no line is a JSON object, expected JSON-lines"),
        ("a.xlsx", b"PK", r"events/a.xlsx: unsupported file type '.xlsx'; expected .parquet, .csv, .jsonl"),
        (
            "a.csv",
            b"event_type,event_time,itemid,user_id\n",
            r"a.csv: no column 'item_id', which events must have; it holds event_type, event_time, itemid, user_id; did you mean 'itemid'\?",
        ),
        (
            "a.csv",
            b"event_type,event_time,item_id\n",
            r"events/a.csv: neither 'user_id' nor 'visitor_id', one of which events must have",
        ),
    ],
)
def test_a_file_that_cannot_be_read(
    tmp_path: Path, settings: PipelineConfig, name: str, content: bytes, message: str
) -> None:
    assert re.search(message, refused(file_of(tmp_path / "data", name, content), settings))


def test_no_data_at_all(tmp_path: Path, settings: PipelineConfig) -> None:
    assert "data: no such directory" in refused(tmp_path / "data", settings)
    (tmp_path / "data" / "items").mkdir(parents=True)
    assert "events: no event files" in refused(tmp_path / "data", settings)


def test_no_rows(spark: SparkSession, tmp_path: Path, settings: PipelineConfig) -> None:
    assert "events: the files hold no rows" in refused(file_of(tmp_path / "data", "a.csv", HEADER), settings)


def test_dates_of_another_format(spark: SparkSession, put: Callable[..., Path], settings: PipelineConfig) -> None:
    data = put(events=EVENTS.assign(event_time=EVENTS.event_time.dt.strftime("%d/%m/%Y %H:%M")))
    message = refused(data, settings)
    assert message.startswith(
        "events: none of 10 rows can be used: unreadable event_time: 10 (e.g. '01/05/2024 00:00' in events/part-0.parquet)"
    )


def test_too_many_bad_rows(spark: SparkSession, put: Callable[..., Path], settings: PipelineConfig) -> None:
    types = ["purchase"] * 3 + ["purchase-complete"] * 7
    message = refused(put(events=EVENTS.assign(event_type=types)), settings)
    assert "30.0% of 10 rows cannot be used, more than the 20% of data.max_rejected_share" in message
    assert (
        "unknown event_type: 3 (e.g. 'purchase' (did you mean 'purchase-complete'?) in events/part-0.parquet)"
        in message
    )


def test_no_event_is_a_success(spark: SparkSession, put: Callable[..., Path], settings: PipelineConfig) -> None:
    assert "none is a success: the types impression all have gain 0" in refused(
        put(events=EVENTS.assign(event_type="impression")), settings
    )


def test_a_log_too_short_to_cut(spark: SparkSession, put: Callable[..., Path], settings: PipelineConfig) -> None:
    message = refused(put(events=EVENTS.assign(event_time=EVENTS.event_time.iloc[0])), settings)
    assert "successes of known users fall on 1 distinct times, at least 4 are needed" in message


def test_a_parquet_file_damaged_inside(spark: SparkSession, put: Callable[..., Path], settings: PipelineConfig) -> None:
    data = put(events=pd.concat([EVENTS] * 500).assign(item_id=[f"{i * 7919}" for i in range(5000)]))
    path = data / "events" / "part-0.parquet"
    content = bytearray(path.read_bytes())
    content[100:-4000] = np.random.default_rng(1).bytes(len(content) - 4100)  # the footer stays good
    path.write_bytes(bytes(content))
    assert "part-0.parquet: damaged: its rows cannot be read to the end" in refused(data, settings)
