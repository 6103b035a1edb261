"""The graph of a night: what would run and why, what is skipped, what a budget of time leaves out. Real artifacts of a line each, and durations by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from core import artifact
from core.recipe import MADE_FROM, Recipe, fingerprint
from core.work import Work
from pipeline.graph import OutOfTimeError, Runner, Stage, plan
from pipeline.nights import KILLED, Durations, Journal, NightStory, prune_logs, read


def quiet(_: str) -> None:
    pass


def made(work: Work, name: str, recipe: Recipe) -> Callable[[object], Path]:
    """Leaves an artifact of the recipe, once."""

    def make(_: object) -> Path:
        path = work.stage(name, fingerprint(recipe)[:32])
        if not path.exists():
            with artifact.publish(path, kind=name, format_version=1, id=path.name) as draft:
                draft.about[MADE_FROM] = dict(recipe)
        work.set_latest(name, path.name)
        return path

    return make


def two(work: Work, data: str = "monday", trees: str = "400") -> list[Stage]:
    """A stage, and one that reads it."""
    first = {"data": data}
    second = {"data": fingerprint(first), "trees": trees}
    return [
        Stage("prepare", made(work, "prepare", first), lambda: first),
        Stage("train", made(work, "train", second), lambda: second, ("prepare",), lean=made(work, "train", second)),
    ]


def runner(work: Work, budget: float | None = None) -> Runner:
    journal = Journal(work, "incremental", work.root)
    return Runner(work, quiet, journal, Durations(read(work), "incremental"), budget)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    work = Work(tmp_path)
    night = runner(work)
    for stage in two(work):
        night.run(stage)
    assert [r.skipped for r in night.records.values()] == [False, False]
    return work


def test_what_is_made_from_the_same_is_skipped(work: Work) -> None:
    night = runner(work)
    for stage in two(work):
        night.run(stage)
    assert [r.skipped for r in night.records.values()] == [True, True]


def test_a_plan_says_which_part_changed_and_what_follows_from_it(work: Work) -> None:
    durations = Durations(read(work), "incremental")
    assert [(p.stage, p.runs, p.why) for p in plan(two(work, trees="10"), work, durations)] == [
        ("prepare", False, "made from the same"),
        ("train", True, "changed: trees"),
    ]
    assert [p.why for p in plan(two(work, data="tuesday"), work, durations)] == ["changed: data", "after prepare"]


def test_a_plan_of_a_first_night_knows_no_durations(tmp_path: Path) -> None:
    found = plan(two(Work(tmp_path)), Work(tmp_path), Durations([], "incremental"))
    assert [(p.why, p.seconds) for p in found] == [("not there yet", None), ("after prepare", None)]


def took(work: Work, seconds: float, *, lean: bool = False) -> None:
    """Write down a night in which `train` took so long, without its optional work if `lean`."""
    journal = Journal(work, "incremental", work.root)
    journal.write("stage", stage="train", seconds=seconds, skipped=False, lean=lean)


def test_optional_work_is_left_out_where_only_the_rest_fits(work: Work) -> None:
    took(work, 1000.0)
    took(work, 10.0, lean=True)
    night = runner(work, budget=500)
    night.run(two(work, trees="10")[1])
    lines = [json.loads(t) for t in (work.root / "nights.jsonl").read_text().splitlines()]
    assert [line["lean"] for line in lines if line["what"] == "stage"][-1] is True


def test_a_stage_that_cannot_end_in_time_is_not_begun(work: Work) -> None:
    took(work, 1000.0)  # half of it without the optional work: 500 s, of 400
    before = work.latest("train")
    with pytest.raises(OutOfTimeError, match="train needs about 1000 s"):
        runner(work, budget=400).run(two(work, trees="10")[1])
    assert work.latest("train") == before


def test_what_is_there_already_needs_no_time(work: Work) -> None:
    took(work, 1000.0)
    night = runner(work, budget=1)
    night.run(two(work)[1])
    assert night.records["train"].skipped


def test_a_night_without_an_end_was_killed_and_half_a_line_hurts_nobody(work: Work) -> None:
    with open(work.root / "nights.jsonl", "a") as f:
        f.write('{"night": "x", "wha')
    night = runner(work)
    night.journal.write("ended", outcome="published", seconds=1.5, refused=[], release="r", error=None)
    story = read(work)
    assert [n.outcome for n in story] == [KILLED, "published"]
    assert list(story[0].stages) == ["prepare", "train"]


def test_durations_prefer_the_same_mode_and_the_newest() -> None:
    lines = [("ranker", 7.0), ("incremental", 3.0), ("incremental", 4.0), ("ranker", 9.0)]
    story = [NightStory(str(n), 0.0, m, {"train": {"seconds": s, "skipped": False}}) for n, (m, s) in enumerate(lines)]
    assert Durations(story, "incremental").of("train") == 4.0
    assert Durations(story, "ranker").of("train") == 9.0
    assert Durations(story, "full").of("train") == 9.0
    assert Durations(story, "full").of("train", lean=True) == 4.5  # never seen: half
    assert Durations(story, "full").of("other") is None


def test_logs_are_kept_by_stage_and_pruned_by_night(work: Work) -> None:
    night = runner(work)
    with night.within("train"):
        night.tell("epoch 1")
    assert "epoch 1" in (night.journal.logs / "train.log").read_text()
    assert len(prune_logs(work, 1)) == 1
    assert night.journal.logs.exists()
