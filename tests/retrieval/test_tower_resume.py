"""A fit that is killed goes on from its last whole pass and ends with the very towers that an undisturbed one leaves."""

# bazel: size=medium, data=[//configs:all_files], imports=[retrieval.towers.train]

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from core.columns import Array
from core.prepared import Prepared
from core.schema import DAY, EventType
from retrieval.towers.checkpoint import Checkpoint, Progress
from tests.prepared_fixture import make_prepared

# a pass that says nothing new yet is waited for, so that the kill hits where the test wants it
CHILD = """
import sys
from pathlib import Path
from core.config import load_pipeline
from core.prepared import TWIN, Prepared
from retrieval.towers.train import fit_towers
prepared, config, out, checkpoint = map(Path, sys.argv[1:])
def say(text):
    print(text, flush=True)
    sys.stdin.readline()
fit_towers(Prepared(prepared), TWIN, load_pipeline(config), out, say, checkpoint=checkpoint)
"""
CONFIG = """
towers: {dimensions: 8, events: 8, heads: 2, epochs: 3, patience: 3, batch_events: 64, uniform_negatives: 8, learning_rate: 0.01, seconds: 600}
"""


def shop(folder: Path) -> Prepared:
    """40 people with a purchase a day among 20 items, whose titles have a word of their own and one in common."""
    rng = np.random.default_rng(3)
    rows = [
        (f"u:{p:02}", f"i{(p + rng.integers(6)) % 20:02}", EventType.PURCHASE_COMPLETE, int(day * DAY + p))
        for p in range(40)
        for day in range(10)
    ]
    titles = {f"i{i:02}": f"word{i % 5} thing" for i in range(20)}
    return make_prepared(folder, rows, cuts=[0, 7 * DAY, 8 * DAY, 9 * DAY, 10 * DAY], titles=titles, repeat_share=0.3)


def fit(prepared: Prepared, tmp_path: Path, out: str, kill_at: str | None) -> list[str]:
    """Run the child until it says something with `kill_at` in it, or to its end; what it said."""
    (tmp_path / "config.yaml").write_text(CONFIG)
    paths = [prepared.path, tmp_path / "config.yaml", tmp_path / out, tmp_path / f"{out}-checkpoint"]
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, *map(str, paths)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    said = []
    for line in child.stdout:
        said.append(line.rstrip())
        if kill_at is not None and kill_at in line:
            child.kill()
        else:
            child.stdin.write("\n")
            child.stdin.flush()
    _, errors = child.communicate()
    assert child.returncode == (0 if kill_at is None else -signal.SIGKILL), errors
    return said


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_kill_9_in_both_phases_and_the_same_towers_come_out(tmp_path: Path) -> None:
    prepared = shop(tmp_path)
    undisturbed = fit(prepared, tmp_path, "whole", None)
    fit(prepared, tmp_path, "killed", "epoch 2")
    assert (tmp_path / "killed-checkpoint" / "state.npz").exists()
    second = fit(prepared, tmp_path, "killed", "final pass 1")
    assert second[:2] == ["twin: going on after pass 2 of a fit that was stopped", second[1]]
    assert "epoch 3" in second[1]
    third = fit(prepared, tmp_path, "killed", None)
    assert third[0] == "twin: going on after pass 1 of a fit that was stopped"
    assert "final pass 2" in third[1]
    assert len(undisturbed) == 3 + 2 + 1  # epochs, final passes, the last word
    assert content(tmp_path / "whole") == content(tmp_path / "killed")
    assert json.loads((tmp_path / "killed" / "towers.json").read_text())["epochs"] >= 1
    again = fit(prepared, tmp_path, "killed", None)
    assert len(again) == 2  # it was done: nothing is learned again
    assert content(tmp_path / "whole") == content(tmp_path / "killed")


GROUPS: dict[str, list[Array]] = {
    "towers": [np.arange(6.0).reshape(2, 3), np.array([1, 2], np.int32)],
    "adam": [np.array(4.0, np.float32)],
}


def test_a_checkpoint_gives_back_what_it_was_given(tmp_path: Path) -> None:
    progress = Progress(phase=2, epoch=3, spent=4.5, last=1.5, best=0.25, best_at=2)
    Checkpoint(tmp_path / "c", "mine").save(progress, GROUPS)
    loaded = Checkpoint(tmp_path / "c", "mine").load()
    assert loaded is not None
    assert loaded[0] == progress
    assert {name: [a.tolist() for a in group] for name, group in loaded[1].items()} == {
        "towers": [[[0, 1, 2], [3, 4, 5]], [1, 2]],
        "adam": [4.0],
    }
    assert [p.name for p in (tmp_path / "c").iterdir()] == ["state.npz"]


def test_one_of_another_fit_is_left_aside(tmp_path: Path) -> None:
    Checkpoint(tmp_path, "theirs").save(Progress(2), GROUPS)
    assert Checkpoint(tmp_path, "mine").load() is None
    assert Checkpoint(None, "mine").load() is None


@pytest.mark.parametrize("keep", [0, 10, 400])
def test_a_broken_one_is_left_aside(tmp_path: Path, keep: int) -> None:
    mine = Checkpoint(tmp_path, "mine")
    mine.save(Progress(2), GROUPS)
    (tmp_path / "state.npz").write_bytes((tmp_path / "state.npz").read_bytes()[:keep])
    assert mine.load() is None
