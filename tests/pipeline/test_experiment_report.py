"""The report of an experiment, from the two logs to the page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from core.errors import InputError, NotFoundError
from core.event_log import part
from core.schema import DAY, HOUR, MINUTE, EventType
from experiments.analysis import Question, analyse
from experiments.assign import Assignment, overridden, said
from experiments.config import Experiment, Metric
from experiments.table import AnalysisTable
from pipeline.experiment_page import page
from pipeline.experiment_report import reader_of, report
from pipeline.experiment_table import Assigned, Study, build
from pipeline.experiment_words import About, verdict
from pipeline.log_tables import EVENT_ROWS, PAGE_ROWS, write_parquet

NOON = 20_000 * DAY + 12 * HOUR
ARMS = ("control", "new")


def reader(row: Mapping[str, Any]) -> Assigned | None:
    """The tests' log says the arm in a label."""
    arm = dict(row["labels"] or ()).get("arm")
    return Assigned(arm, 0.5) if arm else None


REVENUE = Metric(name="revenue", events=(EventType.PURCHASE_COMPLETE,), kind="value")
CONVERSION = Metric(name="conversion", events=(EventType.PURCHASE_COMPLETE,))
CLICKS = Metric(name="clicks", events=(EventType.CLICK,), kind="count")
BASKET = Metric(name="basket", events=(EventType.PURCHASE_COMPLETE,), kind="ratio", per=(EventType.CLICK,))
METRICS = (CONVERSION, REVENUE, CLICKS, BASKET)
STUDY = Study(ARMS, "user", 24.0, NOON, NOON + 9 * DAY, METRICS, True, ("labels",), reader)


def shown(user: str, arm: str | None, time: int = NOON, items: int = 4, **more: Any) -> dict[str, Any]:
    labels = {"arm": arm} if arm else {}
    named = [f"i{n}" for n in range(items)]
    token = f"{user}-{time}"
    return {"time": time, "user_id": user, "attribution_token": token, "labels": labels, "items": named} | more


def event(user: str, kind: str, time: int, **more: Any) -> dict[str, Any]:
    return {"event_type": kind, "event_time": time, "item_id": "i0", "user_id": user} | more


def tables(folder: Path, pages: list[dict[str, Any]], events: list[dict[str, Any]]) -> AnalysisTable:
    for table, rows, shape in (("recommendations", pages, PAGE_ROWS), ("events", events, EVENT_ROWS)):
        file = folder / part(table, "2024-10-04", "1-0", "2-0")
        file.parent.mkdir(parents=True)
        write_parquet(file, rows, shape)
    return build(folder, STUDY)


def test_by_hand(tmp_path: Path) -> None:
    """ann (new) bought two at 5 and clicked twice; before, she bought once. bob (control) bought after his window. eve met both arms."""
    pages = [
        shown("ann", "new"),
        shown("ann", "new", NOON + HOUR),
        shown("bob", "control", NOON + MINUTE, level="warm"),
        shown("eve", "new", NOON + 2 * MINUTE),
        shown("eve", "control", NOON + 3 * MINUTE),
        shown("dan", None),
    ]
    events = [
        event("ann", "purchase-complete", NOON + HOUR, price=5.0, quantity=2),
        event("ann", "click", NOON + 2 * HOUR, value=9.0),
        event("ann", "click", NOON + 2 * HOUR),
        event("ann", "purchase-complete", NOON - DAY, price=7.0),
        event("bob", "purchase-complete", NOON + MINUTE + DAY, price=9.0),
    ]
    table = tables(tmp_path, pages, events)
    assert (table.arm.tolist(), table.mixed) == ([1, 0], 1)  # ann first
    assert table.outcomes["revenue"][0].tolist() == [10.0, 0.0]
    assert table.covariates["revenue"].tolist() == [7.0, 0.0]
    assert table.outcomes["conversion"][0].tolist() == [1.0, 0.0]
    assert table.outcomes["clicks"][0].tolist() == [2.0, 0.0]
    assert [part.tolist() for part in table.outcomes["basket"]] == [[10.0, 0.0], [2.0, 0.0]]
    assert table.segments["history"].tolist() == ["returning", "new"]


def test_who_met_an_arm_that_is_gone_is_nobody_elses(tmp_path: Path) -> None:
    """The file had a third arm once: its people were moved to the others when it was taken out."""
    pages = [
        shown("ann", "gone"),
        shown("ann", "new", NOON + HOUR),
        shown("bob", "control", NOON + MINUTE),
        shown("dan", "gone", NOON + 2 * MINUTE),
    ]
    table = tables(tmp_path, pages, [])
    assert (table.arm.tolist(), table.mixed) == ([0], 1)
    result = analyse(table, QUESTION, NOON + 8 * DAY)
    assert result.counted.tolist() == [1, 0]
    assert "not known yet" in page(ABOUT, result)  # an arm without anybody


def test_nobody_at_all_is_said_too(tmp_path: Path) -> None:
    result = analyse(tables(tmp_path, [shown("dan", "gone")], []), QUESTION, NOON + 8 * DAY)
    assert "too few people" in verdict(ABOUT, result).headline
    assert "nan" not in page(ABOUT, result).lower()


def test_a_ratio_without_what_it_is_per_is_not_known(tmp_path: Path) -> None:
    bought = [event("ann", "purchase-complete", NOON + HOUR, price=5.0)]  # and nobody clicked
    result = analyse(
        tables(tmp_path, [shown("ann", "new")], bought), replace(QUESTION, primary="basket"), NOON + 8 * DAY
    )
    assert np.isnan(result.curves[0].value)
    assert "e+30" not in page(ABOUT, result)


def test_no_log_and_no_page_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="events sink"):
        build(tmp_path, STUDY)
    with pytest.raises(InputError, match="no page of this experiment"):
        tables(tmp_path, [shown("dan", None)], [])


def big(tmp_path: Path, lift: float, lost: float = 0.0) -> AnalysisTable:
    """3000 people who buy at 30 %, the new arm more often."""
    rng = np.random.default_rng(5)
    pages, events = [], []
    for n in range(3_000):
        arm = int(rng.integers(2))
        if arm and rng.random() < lost:
            continue
        time = NOON + int(rng.integers(5 * DAY))
        pages.append(shown(f"u{n}", ARMS[arm], time))
        if rng.random() < 0.3 * (1 + lift * arm):
            events.append(event(f"u{n}", "purchase-complete", time + HOUR, price=3.0))
    return tables(tmp_path, pages, events)


ABOUT = About("big-buttons", "ann", "Bigger <buttons> sell more.", ARMS, NOON, NOON + 20 * DAY, 9_000)
QUESTION = Question("conversion", 0.2, ("revenue",), {"clicks": 0.1}, shares=(0.5, 0.5))


def test_the_page_stands_alone_and_says_what_happens(tmp_path: Path) -> None:
    result = analyse(big(tmp_path, 0.5), QUESTION, NOON + 8 * DAY)
    text = page(ABOUT, result)
    assert "Arm new is better" in text
    assert "Bigger &lt;buttons&gt;" in text
    assert not re.search(r"(src|href)=|@import|url\(|<script", text)  # nothing from elsewhere
    for chart in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(chart)
    assert "nan" not in text.lower().replace("finance", "")
    assert "prefers-color-scheme:dark" in text
    assert "@media print" in text


def test_verdicts(tmp_path: Path) -> None:
    nothing = analyse(big(tmp_path / "a", 0.0), QUESTION, NOON + 8 * DAY)
    what = verdict(ABOUT, nothing)
    assert what.headline.startswith("Not decided yet")
    assert "of the 9,000 people of the plan" in what.next
    assert "over without a finding" in verdict(replace(ABOUT, end=NOON + 7 * DAY), nothing).next
    lost = analyse(big(tmp_path / "b", 0.5, lost=0.3), QUESTION, NOON + 8 * DAY)
    assert verdict(ABOUT, lost).tone == "bad"  # a broken split comes before any finding
    early = analyse(big(tmp_path / "c", 0.5), QUESTION, NOON + DAY + HOUR)
    assert "too few people" in verdict(ABOUT, early).headline


def test_what_is_better_is_shipped_when_its_guardrails_are_safe(tmp_path: Path) -> None:
    table = big(tmp_path, 0.5)
    unsure = verdict(ABOUT, analyse(table, QUESTION, NOON + 8 * DAY))  # nobody clicked
    assert unsure.headline.startswith("Arm new is better")
    assert unsure.next.startswith("Do not ship arm new yet: not proven safe so far: clicks")
    safe = replace(QUESTION, guardrails={"revenue": 0.05}, secondary=())
    assert verdict(ABOUT, analyse(table, safe, NOON + 8 * DAY)).next.startswith("Ship arm new")


def test_nobody_ships_or_stops_the_holdout(tmp_path: Path) -> None:
    arms = ("control", "holdout")
    table = replace(big(tmp_path, 0.5), arms=(*arms, "new"))
    other = replace(table, arm=np.where(np.arange(len(table.arm)) % 2, 2, table.arm))
    about, shares = replace(ABOUT, arms=table.arms), (0.25, 0.25, 0.5)
    result = analyse(other, replace(QUESTION, guardrails={}, shares=shares), NOON + 8 * DAY)
    assert {c.arm: c.decision for c in result.curves if c.role == "primary"}["holdout"] == "better"
    assert "holdout" not in verdict(about, result).headline


FILE: dict[str, Any] = {
    "name": "trial",
    "owner": "ann",
    "hypothesis": "h",
    "arms": {"usual": {}, "new": {"weight": 3}},
    "control": "usual",
    "primary": {"name": "buys", "events": ["purchase-complete"]},
    "guardrails": [{"name": "clicks", "events": ["click"], "kind": "count", "most_lost": 0.02}],
}


def test_arms_are_read_as_the_log_says_them() -> None:
    read = reader_of(Experiment.model_validate(FILE))
    given = [Assignment("trial-two", "usual", 1.0), Assignment("trial", "new", 0.75, 7)]
    assert read({"experiments": said(given)}) == Assigned("new", 0.75)
    assert read({"experiments": said([overridden(Experiment.model_validate(FILE), "new")])}) is None
    assert read({"experiments": None}) is None
    with pytest.raises(InputError, match="probability"):
        read({"experiments": ["trial=new@7"]})


def test_a_file_and_its_logs_make_a_report(tmp_path: Path) -> None:
    experiment = Experiment.model_validate(FILE)
    pages, events = [], []
    for n in range(1_200):
        time = NOON + n * HOUR // 20
        arm = "trial=usual@0:0.25" if n % 4 == 0 else "trial=new@0:0.75"
        pages.append((time, f"u{n}", arm))
        if n % 3 == 0:
            events.append(event(f"u{n}", "purchase-complete", time + HOUR))
    file = tmp_path / part("recommendations", "2024-10-04", "1-0", "2-0")
    file.parent.mkdir(parents=True)
    columns = {name: pa.nulls(len(pages), pa.string()) for name in ("visitor_id", "session_id", "placement", "level")}
    columns["time"] = pa.array([t for t, _, _ in pages], pa.timestamp("us", tz="UTC"))
    columns["user_id"] = pa.array([u for _, u, _ in pages])
    columns["experiments"] = pa.array([[s] for _, _, s in pages])
    pq.write_table(pa.table(columns), file)
    file = tmp_path / part("events", "2024-10-04", "1-0", "2-0")
    file.parent.mkdir(parents=True)
    write_parquet(file, events, EVENT_ROWS)
    made = report(experiment, tmp_path, NOON + 9 * DAY)
    assert made.about.arms == ("usual", "new")
    with pytest.raises(InputError, match="one look after `end`"):
        report(experiment, tmp_path, NOON + 9 * DAY, fixed_horizon=True)
    assert made.result.counted.tolist() == [300, 900]
    assert made.result.ratio_p == 1.0
    assert made.result.curves[0].control == pytest.approx(1 / 3)
