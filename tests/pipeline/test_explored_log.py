"""The exploration slice of the log, and logs with propensities, as rows of off-policy estimates."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from core.errors import InputError, NotFoundError
from core.event_log import part
from core.schema import DAY, HOUR
from experiments.off_policy import evaluate, reward_model
from pipeline.explored_log import plackett_luce, policy_of, read_pages, rows_of, usual
from pipeline.log_tables import EVENT_ROWS, PAGE_ROWS, write_parquet
from pipeline.propensity_log import read_log, target_of
from serving.plackett_luce import table

DATA = Path(os.environ.get("AISLE_DATA") or Path(__file__).parents[2].parent / "shared" / "data")
NOON = 20_000 * DAY + 12 * HOUR
PAGE: dict[str, Any] = {
    "time": NOON,
    "request_id": "r1",
    "attribution_token": "t1",
    "user_id": "ann",
    "items": ["pin", "c", "a", "fresh"],
    "positions": [1, 2, 3, 4],
    "sources": ["pin", "towers", "towers", "new"],
    "propensities": [1.0, 0.25, 0.5, 0.01],
    "explored": True,
    "pool": ["a", "b", "c", "d"],
}


def click(item: str, after: int = HOUR, token: str = "t1") -> dict[str, Any]:
    return {"event_type": "click", "event_time": NOON + after, "item_id": item, "attribution_token": token}


def log_of(folder: Path, pages: list[dict[str, Any]], events: list[dict[str, Any]]) -> Path:
    for name, rows, shape in (("recommendations", pages, PAGE_ROWS), ("events", events, EVENT_ROWS)):
        file = folder / part(name, "2024-10-04", "1-0", "2-0")
        file.parent.mkdir(parents=True)
        write_parquet(file, rows, shape)
    return folder


def test_by_hand(tmp_path: Path) -> None:
    """The pin was no matter of chance; a was clicked in time, c too late and on another page; `fresh` came for a new item's sake."""
    events = [click("a"), click("c", 25 * HOUR), click("c", token="t2")]
    late = PAGE | {"request_id": "r2", "attribution_token": "t3", "time": NOON + 20 * HOUR}  # its window is not over
    usually = PAGE | {"request_id": "r3", "explored": False}
    (page,) = read_pages(log_of(tmp_path, [PAGE, late, usually], events), ["click"], 24.0)
    assert (page.items, page.positions, page.rewards) == (["c", "a", "fresh"], [2, 3, 4], [0.0, 1.0, 0.0])
    assert (page.person, page.propensities) == ("u:ann", [0.25, 0.5, pytest.approx(0.01)])
    # Usually a, b, c stand in the three open places: none of what was shown there.
    log, target = rows_of([page], usual)
    assert log.cell.tolist() == [2, 0, 4]
    assert target.chosen.tolist() == [0.0, 0.0, 0.0]
    assert target.cells.tolist() == [0, 1, 2]
    _, target = rows_of([page], plackett_luce(2.0))
    chances = table(4, 3, 2.0)
    assert target.chosen.tolist() == [chances[2, 0], chances[0, 1], 0.0]


def test_policies_of_the_command_line(tmp_path: Path) -> None:
    file = tmp_path / "p.csv"
    pd.DataFrame({"request_id": ["r1", "r1"], "position": [2, 3], "item_id": ["c", "zz"]}).to_csv(file, index=False)
    (page,) = read_pages(log_of(tmp_path, [PAGE], [click("a", 30 * HOUR)]), ["click"], 24.0)
    _, target = rows_of([page], policy_of(str(file)))
    assert target.chosen.tolist() == [1.0, 0.0, 0.0]  # zz could not have been shown: not covered
    with pytest.raises(InputError, match="covers 33"):
        evaluate(*rows_of([page], policy_of(str(file))))
    with pytest.raises(InputError, match="no steepness"):
        policy_of("plackett-luce:steep")
    with pytest.raises(NotFoundError):
        policy_of(str(tmp_path / "nope.csv"))


def test_logs_that_say_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="events sink"):
        read_pages(tmp_path, ["click"], 24.0)
    with pytest.raises(InputError, match="no explored page"):
        read_pages(log_of(tmp_path / "a", [PAGE | {"explored": False}], [click("a", 9 * DAY)]), ["click"], 24.0)
    with pytest.raises(InputError, match="has no propensities"):
        read_pages(log_of(tmp_path / "b", [PAGE | {"propensities": None}], [click("a", 9 * DAY)]), ["click"], 24.0)
    file = tmp_path / "l.csv"
    pd.DataFrame({"item_id": [1], "position": [1], "click": [0]}).to_csv(file, index=False)
    with pytest.raises(InputError, match="propensity"):
        read_log(file)
    pd.DataFrame({"item_id": [1, 2], "position": [1, 1], "click": [0, 1], "propensity": [0.5, "half"]}).to_csv(file)
    with pytest.raises(InputError, match=r"column 'propensity', row 2: expected a number \(got 'half'\)"):
        read_log(file)


@pytest.mark.parametrize("campaign", ["men", "women"])
def test_open_bandit_by_the_published_formulas(campaign: str) -> None:
    """Saito et al. 2021, section 4.1, one row at a time; and the on-policy rate of `bts` lies in every interval."""
    data = DATA / "open-bandit"
    if not data.is_dir():
        pytest.skip(f"public data: no {data}; set AISLE_DATA to the folder that holds it")
    log, items, frame = read_log(data / "random" / campaign / f"{campaign}.csv.gz")
    theirs = data / "bts" / campaign / f"{campaign}.csv.gz"
    bts = pd.read_csv(theirs)
    target = target_of(log, items, f"log:{theirs}")
    found = evaluate(log, target)["all"].estimates
    often = bts.groupby(["position", "item_id"]).size() / bts.groupby("position").size()
    guess, expected = reward_model(log, target, 20.0, 1)
    ips = weights = dm = dr = 0.0
    rows = zip(frame["position"], frame["item_id"], frame["click"], frame["propensity_score"], strict=True)
    for i, (position, item, reward, propensity) in enumerate(rows):
        w = often.get((position, item), 0.0) / propensity
        ips, weights = ips + w * reward, weights + w
        dm, dr = dm + expected[i], dr + expected[i] + w * (reward - guess[i])
    n = len(frame)
    published = {"ips": ips / n, "snips": ips / weights, "dm": dm / n, "dr": dr / n}
    for name, value in published.items():
        assert found[name].value == pytest.approx(value, abs=1e-9)
        assert found[name].low <= bts["click"].mean() <= found[name].high
    assert np.isclose(found["ips"].value, (log.reward * target.chosen / log.propensity).mean(), atol=1e-9)
