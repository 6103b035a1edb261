"""What the story of the nights does to a day's file."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest

from benchmarks.story import GATES, MISHAPS, spoiled
from pipeline.gates import TODO

DAY = dt.datetime(2024, 1, 2, tzinfo=dt.UTC)
ROWS = pa.table(
    {
        "user_id": [f"u{n}" if n % 2 else None for n in range(1000)],
        "visitor_id": [None if n % 2 else f"v{n}" for n in range(1000)],
        "event_time": pa.array([DAY + dt.timedelta(seconds=n) for n in range(1000)], pa.timestamp("us", tz="UTC")),
    }
)


def test_an_empty_day_keeps_its_columns() -> None:
    assert spoiled(ROWS, "empty").num_rows == 0
    assert spoiled(ROWS, "empty").schema == ROWS.schema


def test_half_of_the_people_are_lost() -> None:
    # 1,000 people with a row each: five deviations of a fair coin are 79
    assert spoiled(ROWS, "halved").num_rows == pytest.approx(500, abs=79)


def test_a_clock_a_day_behind() -> None:
    late = spoiled(ROWS, "shifted").column("event_time").to_pylist()
    assert late[0] == DAY - dt.timedelta(days=1)
    assert spoiled(ROWS, "shifted").schema == ROWS.schema


def test_every_mishap_has_a_gate_that_there_is() -> None:
    assert set(MISHAPS.values()) == set(GATES)
    assert set(GATES.values()) <= set(TODO)
