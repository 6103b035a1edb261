"""Item statistics: by hand, and as of the cut to the microsecond: a planted leak is found."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.columns import Columns
from core.errors import ArtifactError
from core.prepared import TRAIN, TWIN, Prepared
from core.schema import DAY, HOUR
from ranking import item_statistics
from ranking.item_table import FACT_NAMES, FACTS, HEADER, ItemTable
from tests.prepared_fixture import make_prepared

START = 1_700_000_000_000_000
CUT = START + 100 * DAY  # T1
CUTS = [START, CUT, CUT + 10 * DAY, CUT + 20 * DAY, CUT + 30 * DAY]
BUY = "purchase-complete"
# Before T1: x by three people, one of whom came back after 20 days; y by one of them, long ago.
BEFORE = [
    ("u:1", "x", BUY, CUT - 30 * DAY),
    ("u:1", "x", BUY, CUT - 10 * DAY),
    ("u:2", "x", BUY, CUT - 40 * DAY),
    ("u:3", "x", BUY, CUT - 2 * DAY),
    ("u:3", "y", BUY, CUT - 90 * DAY),
]
AFTER = [("u:4", "y", BUY, CUT), ("u:4", "y", BUY, CUT + HOUR), ("u:1", "z", BUY, CUT + DAY)]


def prepared(folder: Path, rows: list[tuple[str, str, str, int]], **about: Any) -> Prepared:
    return make_prepared(folder, rows, cuts=CUTS, **about)


def fact(columns: Columns, name: str) -> list[float]:
    return [round(float(v), 4) for v in columns.numbers(FACTS)[:, FACT_NAMES.index(name)]]


def test_by_hand(tmp_path: Path) -> None:
    facts = item_statistics.compute(prepared(tmp_path, BEFORE + AFTER), TRAIN, recent_days=7)
    # people: x 3, y 1, z 0 of 3; half a person added to each
    assert fact(facts, "item.popularity") == pytest.approx(np.log(np.array([3.5, 1.5, 0.5]) / 3), abs=1e-4)
    # the last 7 days hold one success, of x: (1.5, .5, .5) of 2.5
    assert fact(facts, "item.recent") == pytest.approx(np.log(np.array([1.5, 0.5, 0.5]) / 2.5), abs=1e-4)
    assert fact(facts, "item.age") == pytest.approx(np.log1p([40, 90, 0]), abs=1e-4)
    assert fact(facts, "item.quiet") == pytest.approx([np.log1p(2), np.log1p(90), -1], abs=1e-4)
    # one of the four (person, item) pairs came back: x (1 + 5/4) / (3 + 5), y and z their share of the same 5 people
    assert fact(facts, "item.loyalty") == pytest.approx([2.25 / 8, 1.25 / 6, 1.25 / 5], abs=1e-4)
    assert fact(facts, "item.gap_days") == [20, 0, 0]


def test_nothing_after_the_cut_is_known(tmp_path: Path) -> None:
    whole = item_statistics.compute(prepared(tmp_path / "a", BEFORE + AFTER), TRAIN, 7)
    # z must exist for the rows to align: give it an event that is no success
    past = item_statistics.compute(prepared(tmp_path / "b", [*BEFORE, ("u:1", "z", "impression", START)]), TRAIN, 7)
    assert np.array_equal(whole.numbers(FACTS), past.numbers(FACTS))


def test_a_planted_leak_of_one_hour_is_caught(tmp_path: Path) -> None:
    """The law above would fail if the cut were an hour late: the same comparison, with the leak planted."""
    shifted = [(who, what, how, at - 2 * HOUR if at >= CUT else at) for who, what, how, at in BEFORE + AFTER]
    leaking = item_statistics.compute(prepared(tmp_path / "a", shifted), TRAIN, 7)
    honest = item_statistics.compute(prepared(tmp_path / "b", BEFORE + AFTER), TRAIN, 7)
    assert not np.array_equal(leaking.numbers(FACTS), honest.numbers(FACTS))


def test_an_invented_clock_leaves_timed_facts_at_their_defaults(tmp_path: Path) -> None:
    facts = item_statistics.compute(prepared(tmp_path, BEFORE, synthetic_time=True), TRAIN, 7)
    assert fact(facts, "item.trend") == [0, 0]
    assert fact(facts, "item.age") == [-1, -1]
    assert fact(facts, "item.popularity") == pytest.approx(np.log(np.array([3.5, 1.5]) / 3), abs=1e-4)


def test_the_folder_opens_with_its_items_only(tmp_path: Path) -> None:
    data = prepared(tmp_path, BEFORE + AFTER)
    item_statistics.write(data, TWIN, 7, tmp_path / "statistics")
    table = ItemTable.open(tmp_path / "statistics", data.items)
    assert table.until == data.cuts.test
    assert len(table) == 3
    with pytest.raises(ArtifactError, match="3 item rows, but the items have 2"):
        ItemTable.open(tmp_path / "statistics", Columns({"known": np.zeros(2, bool)}))


def test_facts_of_another_version_are_refused(tmp_path: Path) -> None:
    data = prepared(tmp_path, BEFORE)
    item_statistics.write(data, TRAIN, 7, tmp_path / "statistics")
    header = tmp_path / "statistics" / HEADER
    header.write_text(header.read_text().replace("item.trend", "item.fashion"))
    with pytest.raises(ArtifactError, match=r"item\.fashion.*item\.trend.*nightly"):
        ItemTable.open(tmp_path / "statistics", data.items)


def test_a_shop_of_bare_ids(tmp_path: Path) -> None:
    """Neither price nor brand, category or attributes: every fact is still a number."""
    data = prepared(tmp_path, BEFORE)
    bare = dataclasses.replace(data) if dataclasses.is_dataclass(data) else data
    bare.__dict__["items"] = Columns({"known": np.zeros(2, bool)})
    facts = item_statistics.compute(bare, TRAIN, 7)
    assert np.isfinite(facts.numbers(FACTS)).all()
    assert fact(facts, "item.price") == [0, 0]
