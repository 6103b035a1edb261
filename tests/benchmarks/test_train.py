"""`bench train`: the figures follow from the looks, and both contestants really learn on a tiny shop."""

# bazel: size=medium, data=[//configs:all_files], imports=[benchmarks.train_runs]

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.train import Look, bench, compared
from core.schema import DAY, EventType
from core.work import Work
from tests.prepared_fixture import make_prepared


def looks(*rows: tuple[float, float]) -> list[Look]:
    """(seconds, recall); CPU seconds are twice as many, an epoch takes 10 s."""
    return [Look(seconds, 2 * seconds, seconds / 10, recall) for seconds, recall in rows]


def test_the_mark_is_the_best_tutorial_s_best_recall() -> None:
    figures = compared(
        looks((5, 0.1), (10, 0.32), (15, 0.29), (20, 0.4)),
        {"a": looks((20, 0.2), (30, 0.3), (60, 0.3)), "b": looks((8, 0.25), (16, 0.2))},
    )
    # a set the mark, .3, first after 30 s; ours passed it at 10 s. b's .25 took it 8 s, ours 10
    assert (figures["baseline_recall@100"], figures["baseline_seconds"]) == (0.3, 30)
    assert (figures["seconds_to_baseline_recall"], figures["speedup"], figures["recall@100"]) == (10, 3.0, 0.4)
    assert figures["tutorials"]["b"]["speedup"] == 0.8


def test_a_mark_that_is_never_reached_is_no_speedup() -> None:
    figures = compared(looks((5, 0.1)), {"a": looks((20, 0.2))})
    assert (figures["seconds_to_baseline_recall"], figures["speedup"]) == (None, 0.0)


def test_both_learn_on_a_tiny_shop(tmp_path: Path) -> None:
    # person p buys among the items of taste p % 10 (ten of 150 items each), one a day
    rng = np.random.default_rng(5)
    rows = [
        (f"u:{p:03}", f"i{p % 10}{rng.integers(15):02}", EventType.PURCHASE_COMPLETE, int(day * DAY + p))
        for p in range(100)
        for day in range(30)
    ]
    work = Work(tmp_path / "work")
    made = make_prepared(tmp_path, rows, cuts=[0, 27 * DAY, 28 * DAY, 29 * DAY, 30 * DAY], repeat_share=0.3)
    work.stage("prepare", "x").parent.mkdir(parents=True)
    made.path.rename(work.stage("prepare", "x"))
    work.set_latest("prepare", "x")
    said: list[str] = []
    figures = bench(work.root, 1, 1, [(256, 0.1)], said.append)
    assert len(said) == 2
    # chance is 100 of 150; whoever learned the tastes is above it
    assert figures["recall@100"] > 0.75
    assert figures["baseline_recall@100"] > 0.7
    assert figures["baseline_seconds"] > 0
    assert figures["repeats"] == [figures["speedup"]]
