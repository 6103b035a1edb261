"""What two profiles written by hand say: tables, days of events, and the distances beneath."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.config import load_pipeline
from data_prep import distances
from data_prep.drift import compare

CONFIG = load_pipeline().drift


def table(rows: int, **columns: dict[str, Any]) -> dict[str, Any]:
    return {"rows": rows, "columns": columns, "left_out": 0}


def coded(values: dict[str, int], nulls: int = 0, rest: int = 0, unlisted: int = 0) -> dict[str, Any]:
    return {
        "kind": "coded",
        "nulls": nulls,
        "distinct": len(values),
        "values": values,
        "rest": rest,
        "unlisted": unlisted,
    }


def lines(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    empty = table(0)
    return [d.line for d in compare({"items": before, "users": empty}, {"items": now, "users": empty}, CONFIG)]


def test_rows_columns_and_values_of_a_table() -> None:
    full = {"a": 500, "b": 400, "c": 100}
    assert lines(table(1000), table(400)) == ["items: 400 rows, 1,000 last night"]
    assert lines(table(10), table(1)) == []  # fewer than min_count say nothing
    assert lines(table(1000, x=coded(full)), table(1000)) == [
        "items.x: the column vanished (100.0% of items had a value)"
    ]
    assert lines(table(1000, x=coded(full)), table(1000, x=coded({"a": 900, "d": 100}))) == [
        "items.x: 'b' vanished (had 40.0% of items)",
        "items.x: 'c' vanished (had 10.0% of items)",
        "items.x: 'd' is new (10.0% of items)",
    ]
    assert lines(table(1000, x=coded(full)), table(1000, x=coded(full | {"a": 200}, nulls=300))) == [
        "items.x: 30.0% missing, 0.0% last night"
    ]
    # .5 .4 .1 -> .1 .4 .5: PSI 2 x .4 ln 5 = 1.29
    assert lines(table(1000, x=coded(full)), table(1000, x=coded({"a": 100, "b": 400, "c": 500}))) == [
        "items.x: mixed unlike last night (PSI 1.28 > 0.2): most of all 'a', 50.0% before, 10.0% now"
    ]
    numbers = {"kind": "number", "nulls": 0, "distinct": 1, "bins": {"401": 1000}}
    assert lines(table(1000, x=coded(full)), table(1000, x=numbers)) == ["items.x: numbers, text values last night"]


def test_values_beyond_those_listed_are_not_said_to_be_gone() -> None:
    before = table(1000, x=coded({"a": 900, "b": 60, "c": 40}))
    # b and c are not listed now, and a value that is not may have up to 30 rows: half of what b had, more than half of c's 40
    now = table(1000, x=coded({"a": 900, "d": 40}, rest=60, unlisted=25))
    assert lines(before, now) == ["items.x: 'b' fell below 2.5% (had 6.0% of items)"]


def log(days: dict[str, dict[str, int]], clock: int = 86_399, **columns: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """An events profile; every event is a session of its own."""
    found = {
        d: {"types": t, "sessions": sum(t.values()), "columns": columns.get("of", {}).get(d, {})}
        for d, t in days.items()
        if t
    }
    profile = {
        "first": "2023-12-01",
        "last": max(found),
        "clock": clock,
        "days": found,
        "until_clock": {d: t for d, t in days.items() if t},
    }
    return {"items": table(0), "users": table(0), "events": profile}


def week(
    end: str, today: dict[str, int], days: int = 8, usual: dict[str, int] | None = None
) -> dict[str, dict[str, int]]:
    last = dt.date.fromisoformat(end)
    before = {(last - dt.timedelta(days=k)).isoformat(): usual or {"click": 100} for k in range(days - 1, 0, -1)}
    return before | {end: today}


def of_events(days: dict[str, dict[str, int]], before: dict[str, dict[str, int]] | None = None) -> list[str]:
    return [d.line for d in compare(log(before) if before else None, log(days), CONFIG)]


def test_days_without_events_and_with_many() -> None:
    assert of_events(week("2024-01-10", {"click": 100})) == []
    assert of_events(week("2024-01-10", {"click": 300})) == [
        "events: 300 in all on 2024-01-10, about 100 expected from the 7 days before"
    ]
    assert of_events(week("2024-01-10", {"click": 300}, days=3)) == []  # two days before are too few to say
    # Tuesday the 9th is missing in the log that goes on to Wednesday
    missing = week("2024-01-10", {"click": 100}) | {"2024-01-09": {}}
    assert of_events(missing, before=week("2024-01-08", {"click": 100})) == [
        "events: no event at all on 2024-01-09, 100 a day before"
    ]


def test_a_shop_that_is_closed_on_sundays() -> None:
    days = week("2024-01-14", {"click": 2}) | {"2024-01-07": {"click": 3}}
    assert of_events(days) == []
    # buy is never sold on Sundays: nothing stopped
    usual = week("2024-01-14", {"click": 100}, usual={"click": 100, "rating": 50}) | {"2024-01-07": {"click": 100}}
    assert of_events(usual) == []


def test_one_quiet_weekday_is_no_habit_and_two_are() -> None:
    """300 events on Wednesday the 17th; 1,000 on other days, 300 on the Wednesday before: (6 x 1,000 + 300) / 7 = 900 are expected. With 1,000 on the
    Wednesday before that, Wednesdays promise 650, 2.2 times as many as came; with 300 they promise 300."""
    days = week("2024-01-17", {"click": 300}, days=15, usual={"click": 1000}) | {"2024-01-10": {"click": 300}}
    assert of_events(days) == ["events: 300 in all on 2024-01-17, about 900 expected from the 7 days before"]
    assert of_events(days | {"2024-01-03": {"click": 300}}) == []


def test_a_day_that_was_not_over_is_new_again() -> None:
    half = log(week("2024-01-10", {"click": 40}), clock=43_200)
    # at noon the 40 clicks are all that usually comes by then
    for day in half["events"]["until_clock"]:
        half["events"]["until_clock"][day] = {"click": 42}
    assert [d.line for d in compare(None, half, CONFIG)] == []
    whole = week("2024-01-11", {"click": 100}) | {"2024-01-10": {"click": 700}}
    assert [d.line for d in compare(half, log(whole), CONFIG)] == [
        "events: 800 in all on 2024-01-10 to 2024-01-11, about 200 expected from the 6 days before"
    ]


# --- distances --------------------------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.integers(-5, 5).map(str), st.integers(1, 50), min_size=1), st.integers(1, 9))
def test_a_distribution_is_no_distance_from_itself(histogram: dict[str, int], times: int) -> None:
    assert distances.ks(histogram, {b: n * times for b, n in histogram.items()}) < 1e-12
    moved = {str(int(b) + 100): n for b, n in histogram.items()}
    assert distances.ks(histogram, moved) == pytest.approx(1.0)


def test_what_chance_gives_is_taken_off_the_index() -> None:
    """Samples of one distribution: the mean is near 0 whatever their size, where the plain index grows with small samples."""
    rng = np.random.default_rng(7)
    shares = np.array([0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
    found = [
        distances.psi(rng.multinomial(n, shares).tolist(), rng.multinomial(700, shares).tolist(), n, 700)
        for n in (60, 120, 500)
        for _ in range(300)
    ]
    assert abs(float(np.mean(found))) < 0.01
    # and what is beyond the threshold is not beyond chance
    assert CONFIG.psi.warn is not None
    assert max(found) > CONFIG.psi.warn
    assert max(found) < distances.psi_of_chance(6, 60, 700)  # 5 sqrt(10) (1/60 + 1/700) = 0.29
