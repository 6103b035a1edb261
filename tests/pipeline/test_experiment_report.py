"""The report of an experiment, from the two logs to the page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from core.errors import InputError, NotFoundError
from core.event_log import part
from core.schema import DAY, HOUR, MINUTE
from experiments.analysis import Question, analyse
from experiments.table import AnalysisTable
from pipeline.experiment_page import page
from pipeline.experiment_table import Assigned, Study, build
from pipeline.experiment_words import About, verdict
from pipeline.log_tables import EVENT_ROWS, PAGE_ROWS, write_parquet

NOON = 20_000 * DAY + 12 * HOUR
ARMS = ("control", "new")


def reader(row: Mapping[str, Any]) -> Assigned | None:
    """The tests' log says the arm in a label."""
    arm = dict(row["labels"] or ()).get("arm")
    return Assigned(arm, 0.5) if arm else None


STUDY = Study(ARMS, "user", 24.0, NOON, NOON + 9 * DAY, "labels", reader)


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
    """ann (new) bought two at 5 and clicked one of her page's items; before, she bought once. bob (control) bought after his window. eve met both arms."""
    pages = [
        shown("ann", "new"),
        shown("ann", "new", NOON + HOUR, degraded=True),
        shown("bob", "control", NOON + MINUTE, level="warm"),
        shown("eve", "new", NOON + 2 * MINUTE),
        shown("eve", "control", NOON + 3 * MINUTE),
        shown("dan", None),
    ]
    events = [
        event("ann", "purchase-complete", NOON + HOUR, price=5.0, quantity=2),
        event("ann", "click", NOON + 2 * HOUR, attribution_token=f"ann-{NOON}"),
        event("ann", "click", NOON + 2 * HOUR, attribution_token="elsewhere"),
        event("ann", "purchase-complete", NOON - DAY, price=7.0),
        event("bob", "purchase-complete", NOON + MINUTE + DAY, price=9.0),
    ]
    table = tables(tmp_path, pages, events)
    assert (table.arm.tolist(), table.mixed) == ([1, 0], 1)  # ann first
    assert table.outcomes["revenue"][0].tolist() == [10.0, 0.0]
    assert table.covariates["revenue"].tolist() == [7.0, 0.0]
    assert table.outcomes["clicks"][0].tolist() == [1.0, 0.0]
    assert table.outcomes["click_rate"][1].tolist() == [8.0, 4.0]
    assert table.outcomes["degraded"][0].tolist() == [1.0, 0.0]
    assert table.segments["history"].tolist() == ["returning", "new"]


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
QUESTION = Question("conversion", 0.2, ("revenue",), {"degraded": 0.1}, shares=(0.5, 0.5))


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
    said = verdict(ABOUT, nothing)
    assert said.headline.startswith("Not decided yet")
    assert "of the 9,000 people of the plan" in said.next
    assert "over without a finding" in verdict(replace(ABOUT, end=NOON + 7 * DAY), nothing).next
    lost = analyse(big(tmp_path / "b", 0.5, lost=0.3), QUESTION, NOON + 8 * DAY)
    assert verdict(ABOUT, lost).tone == "bad"  # a broken split comes before any finding
    early = analyse(big(tmp_path / "c", 0.5), QUESTION, NOON + DAY + HOUR)
    assert "too few people" in verdict(ABOUT, early).headline
