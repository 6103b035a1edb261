"""`experiment plan, evaluate, simulate` through the command line's own parser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import typer
from typer.testing import CliRunner

from cli.commands.experiment import register
from core.errors import InputError, NotFoundError
from experiments.files import STOPPED


def ran(*words: str) -> dict[str, Any]:
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, ["experiment", *words], catch_exceptions=False, standalone_mode=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_plan() -> None:
    # Both arms: 4 x (1.96 + .8416)^2 x spread / log(1.1)^2 = 4 x 7.849 x 9 / .009084 = 31,100, where the spread of a rate of .1 is .9 / .1.
    found = ran("plan", "--baseline", ".1", "--traffic", "1000", "--lift", ".1", "--window-days", "1")
    assert found["people"]["fixed"] == pytest.approx(4 * 7.849 * 9 / np.log(1.1) ** 2, rel=1e-3)
    assert found["people"]["fixed"] < found["people"]["sequential"] < 1.8 * found["people"]["fixed"]
    assert found["days"]["fixed"] == np.ceil(found["people"]["fixed"] / 1000) + 1
    with pytest.raises(InputError, match="either --work"):
        ran("plan", "--lift", ".1")
    assert ran("plan", "--baseline", ".1", "--lift", ".1")["days"]["fixed"] is None


@pytest.mark.parametrize(
    "wrong", ["--lift nan", "--lift 1e-9", "--traffic 0", "--traffic nan", "--baseline nan", "--deviation 0"]
)
def test_plan_names_the_option_that_is_no_figure(wrong: str) -> None:
    words = {"--lift": ".1", "--baseline": ".1"} | dict([wrong.split()])
    with pytest.raises(InputError, match=wrong.split()[0]):
        ran("plan", *(word for pair in words.items() for word in pair))


def test_evaluate(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    item = rng.integers(2, size=2_000)
    log = pd.DataFrame({"item_id": item, "position": 1, "click": rng.random(2_000) < 0.2 + 0.2 * item})
    log["propensity"] = 0.5
    log.to_csv(tmp_path / "log.csv", index=False)
    policy = pd.DataFrame({"position": [1], "item_id": [1], "probability": [1.0]})
    policy.to_csv(tmp_path / "policy.csv", index=False)
    found = ran("evaluate", "--log", str(tmp_path / "log.csv"), "--policy", str(tmp_path / "policy.csv"))
    for estimate in found["places"]["all"]["estimates"].values():
        assert estimate["low"] < 0.4 < estimate["high"]


def test_simulate(tmp_path: Path) -> None:
    page = tmp_path / "regret.html"
    words = ("--sessions", "10000", "--round", "500", "--seeds", "2", "--rates", ".1,.3", "--later", ".3,.1")
    found = ran("simulate", *words, "--out", str(page))
    assert found["as served"]["thompson"]["regret"] < found["as served"]["fixed"]["regret"]
    # two arms, so two kinds of shoppers, each with its best: who is told which loses less than who is not
    kinds = found["2 kinds of shoppers, as served"]
    assert max(kinds[name]["regret"] for name in ("lin-ucb", "linear-thompson")) < kinds["thompson"]["regret"]
    assert page.read_text().count("<svg") == 6
    with pytest.raises(InputError, match="--later"):
        ran("simulate", "--rates", ".1,.3", "--later", ".1")
    with pytest.raises(InputError, match="--kinds 3: each likes another arm best, and there are 2 arms"):
        ran("simulate", "--rates", ".1,.3", "--later", ".3,.1", "--kinds", "3")


def test_the_kill_switch_needs_no_file_to_fit_and_keeps_its_reason(tmp_path: Path) -> None:
    (tmp_path / "order.yaml").write_text("name: order")
    (tmp_path / "edited.yaml").write_text("name: [half written")
    assert ran("stop", "order", "--folder", str(tmp_path)) == {"experiment": "order", "stopped": True}
    switch = tmp_path / f"order{STOPPED}"
    assert switch.exists()
    switch.write_text('{"why": "of a server"}')
    ran("stop", "order", "--folder", str(tmp_path))
    assert switch.read_text() == '{"why": "of a server"}'
    ran("resume", "order", "--folder", str(tmp_path))
    assert not switch.exists()
    with pytest.raises(NotFoundError, match="no experiment 'ordre'"):
        ran("stop", "ordre", "--folder", str(tmp_path))
