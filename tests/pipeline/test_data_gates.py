"""Gates of the data on a log of literal rows and a profile made from it: late, ahead of the clock, halved, sent twice."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core import artifact
from core.config import GatesConfig, load_pipeline
from core.prepared import Prepared
from core.schema import DAY, HOUR, SECOND
from data_prep import profiles
from pipeline import data_gates
from pipeline.gates import Verdict
from tests.prepared_fixture import Row, make_prepared

START = 1_704_067_200 * SECOND  # Monday, 1 January 2024
DAYS = 10
BASE = load_pipeline()


def log(root: Path, newest: int, days: int = DAYS, **counts: Any) -> Prepared:
    """400 clicks of as many people on each of ten days, and `newest` of them on the tenth; a person's click is a session."""
    a_day = [400] * (days - 1) + [newest]  # from midnight until half past nine
    rows: list[Row] = [
        (f"u:{n:04}", "a", "click", START + d * DAY + n * int(0.4 * DAY / k))
        for d, k in enumerate(a_day)
        for n in range(k)
    ]
    end = max(r[3] for r in rows) + 1
    root.mkdir()
    told: dict[str, Any] = {"counts": {"events": len(rows)}, "rejected": {"events": {}}} | counts
    made = make_prepared(root, rows, cuts=[START, START + DAY, START + 2 * DAY, START + 3 * DAY, end], **told)
    profile = profiles.night(made.path)
    # written by hand: a fixture has no sessions of its own
    (made.path / profiles.FILE).write_text(json.dumps(profile))
    return Prepared(made.path)


def verdicts(data: Prepared, now: float, before: Path | None = None, **gates: Any) -> dict[str, Verdict]:
    config = GatesConfig.model_validate(BASE.gates.model_dump() | gates)
    return {v.gate: v for v in data_gates.judge(before, data.path, now, config, BASE.drift)}


@pytest.mark.parametrize(
    ("hours", "gates", "passed"),
    [
        (11.9, {"freshness_hours": 12}, True),
        (12.1, {"freshness_hours": 12}, False),
        (-0.9, {}, True),
        (-1.1, {}, False),  # ahead_hours: 1
        (9_000, {}, True),  # not asked
    ],
)
def test_the_newest_event_is_neither_old_nor_of_tomorrow(
    tmp_path: Path, hours: float, gates: dict[str, Any], passed: bool
) -> None:
    data = log(tmp_path / "log", 400)
    now = (data.cuts.end - 1 + hours * HOUR) / SECOND
    found = verdicts(data, now, **gates)
    assert found["freshness"].passed is passed if "freshness" in found else passed


@pytest.mark.parametrize(("newest", "passed"), [(400, True), (250, True), (200, False), (2000, True)])
def test_a_day_of_half_the_events_is_refused(tmp_path: Path, newest: int, passed: bool) -> None:
    """400 a day before: 250 are 1.6 times fewer, 200 twice; more are a sale. A session is an event: four deviations of 400 x 3 are 139."""
    before = log(tmp_path / "before", 400, days=9)
    found = verdicts(log(tmp_path / "log", newest), 2e9, before.path)["volume"]
    assert found.passed is passed, found


def test_more_events_are_refused_where_asked(tmp_path: Path) -> None:
    data, before = log(tmp_path / "log", 2000), log(tmp_path / "before", 400, days=9)
    assert not verdicts(data, 2e9, before.path, more_events=1.7)["volume"].passed


def test_a_first_night_takes_the_log_as_it_is(tmp_path: Path) -> None:
    assert "volume" not in verdicts(log(tmp_path / "log", 10), 2e9)


@pytest.mark.parametrize(("again", "passed"), [(0, True), (150, True), (400, False)])
def test_a_file_that_came_twice_is_refused(tmp_path: Path, again: int, passed: bool) -> None:
    """400 events are new, and some rows that had come before: 150 of 550 are 27 %, 400 of 800 half."""
    reason = "duplicate event_id"
    before = log(tmp_path / "before", 400, rejected={"events": {reason: 7}}, counts={"events": 3600})
    data = log(tmp_path / "log", 400, rejected={"events": {reason: 7 + again}}, counts={"events": 4000})
    # the fixture gives every data set the same id
    text = (data.path / artifact.MANIFEST).read_text().replace('"id": "fixture"', '"id": "tonight"')
    (data.path / artifact.MANIFEST).write_text(text)
    found = verdicts(data, 2e9, before.path)["resent"]
    assert found.passed is passed, found
