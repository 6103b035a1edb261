"""`tune retrieval` on a tiny shop: what it writes is accepted by --config, what it judges on is the validation window alone."""

# bazel: size=medium, data=[//configs:all_files], imports=[cli.commands.tune.*]

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from typer.testing import CliRunner

import cli.commands.tune
from core.config import load_pipeline
from core.errors import InputError
from core.prepared import CHOOSE, Prepared
from core.schema import DAY, EventType
from core.work import Work
from pipeline.tune import Judged, tune_retrieval
from tests.prepared_fixture import make_prepared

DAYS = 20
# so slow a learner that any other rate is better
CONFIG = """
towers: {dimensions: 8, heads: 2, events: 8, epochs: 5, patience: 5, learning_rate: 0.00001, batch_events: 64, uniform_negatives: 16, seconds: 3000}
evaluation: {seed: 3}
"""


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    """Person p buys among the fifteen items of taste p % 10, one a day."""
    rng = np.random.default_rng(5)
    rows = [
        (f"u:{p:03}", f"i{p % 10}{rng.integers(15):02}", EventType.PURCHASE_COMPLETE, int(day * DAY + p))
        for p in range(60)
        for day in range(DAYS)
    ]
    cuts = [0, 14 * DAY, 16 * DAY, 18 * DAY, DAYS * DAY]
    return make_prepared(tmp_path_factory.mktemp("shop"), rows, cuts=cuts, repeat_share=0.3)


def test_a_fit_is_judged_by_the_validation_window_alone(prepared: Prepared) -> None:
    older, newer = Judged(prepared, CHOOSE, load_pipeline(), lambda _: None).parts()
    assert (older.time.min() // DAY, older.time.max() // DAY) == (0, 15)
    assert (newer.time.min() // DAY, newer.time.max() // DAY) == (16, 17)
    assert len(older.item) == 60 * 16
    assert len(newer.item) == 60 * 2


def test_what_it_writes_is_better_and_a_configuration(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.tune.CHOICES", {"targets": [2, 4]})
    (tmp_path / "mine.yaml").write_text(CONFIG)
    work = Work(tmp_path / "work")
    work.stage("prepare", "x").parent.mkdir(parents=True)
    work.stage("prepare", "x").symlink_to(prepared.path)
    work.set_latest("prepare", "x")
    arguments = [
        "tune",
        "retrieval",
        "--work",
        work.root,
        "--config",
        tmp_path / "mine.yaml",
        "--seconds",
        3000,
        "--trials",
        4,
    ]
    app = typer.Typer()
    cli.commands.tune.register(app)
    said = CliRunner().invoke(app, [*map(str, arguments), "--out", str(tmp_path / "best.yaml")])
    assert said.exit_code == 0, said.output
    result = json.loads(said.stdout.splitlines()[-1])
    assert result["trials"] == 4
    assert result["best"] > result["default"]
    assert result["config"] == str(tmp_path / "best.yaml")
    written = load_pipeline(tmp_path / "best.yaml")
    before = load_pipeline(tmp_path / "mine.yaml")
    changed = {k for k in before.towers.model_dump() if getattr(before.towers, k) != getattr(written.towers, k)}
    assert changed == set(result["changed"]) != set()
    assert written.evaluation.seed == 3  # what the configuration stated is kept
    assert set(yaml.safe_load((tmp_path / "best.yaml").read_text())) == {"towers", "evaluation"}


def test_no_time_for_another_trial_keeps_the_present_settings(prepared: Prepared, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(CONFIG)
    said: list[str] = []
    result = tune_retrieval(prepared, tmp_path / "mine.yaml", 0.1, None, tmp_path / "best.yaml", 7, said.append)
    assert (result["trials"], result["config"], result["changed"]) == (1, None, {})
    assert result["best"] == result["default"]
    assert not (tmp_path / "best.yaml").exists()
    assert "the present settings stay best" in said[-1]


def test_nothing_to_judge_on_is_said(tmp_path: Path) -> None:
    rows = [("u:1", "a", EventType.PURCHASE_COMPLETE, 5 * DAY), ("u:1", "b", EventType.PURCHASE_COMPLETE, 6 * DAY)]
    empty = make_prepared(tmp_path, rows, cuts=[0, 7 * DAY, 8 * DAY, 9 * DAY, 10 * DAY], repeat_share=0.0)
    with pytest.raises(InputError, match="nobody known before Tv chose anything in the validation window"):
        tune_retrieval(empty, None, 1, None, tmp_path / "best.yaml", 7, lambda _: None)
