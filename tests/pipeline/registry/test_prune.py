"""What goes, and what never does."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from core.artifact import publish
from core.held import Held, alone
from core.work import Work
from pipeline.registry import history
from pipeline.registry.find import every
from pipeline.registry.prune import Pruned, prune
from serving.release import Release
from tests.pipeline.registry.two_nights import names, variant


def run(
    work: Work, keep: int = 1, keep_days: float = 0, *, dry_run: bool = False, in_use: tuple[str, ...] = ()
) -> Pruned:
    with work.locked():
        return prune(work, keep, keep_days, in_use=in_use, dry_run=dry_run, say=lambda _: None)


@pytest.fixture
def work(nights: Work) -> Work:
    """Six releases: four old variants of the first night beside the two, of which the second is current."""
    first = names(nights)[0]
    for name in ("v1", "v2", "v3", "v4"):
        variant(nights, first, name, made=f"2020-01-0{name[1]}T00:00:00+00:00")
    return nights


def left(work: Work) -> set[str]:
    return {known.name for known in every(work)}


def test_current_previous_and_the_newest_stay(work: Work) -> None:
    first, second = names(work)
    done = run(work, keep=3)
    # newest: second (window), first (made now), then v4 by when they were made
    assert left(work) == {first, second, "v4"}
    assert sorted(done.releases) == ["v1", "v2", "v3"]
    assert done.kept == {second: "current", first: "previous: a rollback leads to it", "v4": "among the newest 3"}
    assert not [p.name for p in work.releases.iterdir() if p.name.startswith(".tmp")]


def test_previous_stays_however_old(work: Work) -> None:
    with history.locked(work):
        history.point(work, "v1", history.PROMOTE, "")
        history.point(work, names(work)[1], history.PROMOTE, "")
    run(work)
    assert left(work) == {names(work)[-1], "v1"}


def test_young_ones_stay(work: Work) -> None:
    run(work, keep=1, keep_days=1)
    assert left(work) == set(names(work))


def test_what_is_open_stays_until_it_is_closed(work: Work) -> None:
    opened = Release.open(work.releases / "v1")
    assert run(work).kept["v1"] == "open in a running process"
    assert "v1" in left(work)
    del opened
    assert run(work).releases == ["v1"]


def test_what_another_host_serves_stays(work: Work) -> None:
    assert run(work, in_use=("v2",)).kept["v2"] == "served"


def test_a_dry_run_changes_nothing(work: Work) -> None:
    before = left(work)
    assert sorted(run(work, dry_run=True).releases) == ["v1", "v2", "v3", "v4"]
    assert left(work) == before


def test_user_states_go_with_their_last_release(work: Work) -> None:
    first, second = (
        known.window_end for known in sorted(every(work), key=lambda k: k.age_key) if known.name in names(work)
    )
    (work.releases / history.FILE).unlink()  # nothing is previous
    (work.root / "user_state" / str(second + 1)).mkdir()  # of a night that is not over
    done = run(work, keep=1)
    assert done.user_states == [str(first)]
    assert sorted(p.name for p in (work.root / "user_state").iterdir()) == [str(second), str(second + 1)]


def stage(work: Work, name: str, id: str, **parents: str) -> None:
    with publish(work.stage(name, id), kind=name, format_version=1, id=id) as draft:
        draft.parents.update(parents)
        (draft.path / "file").write_text(f"{name} {id}")


def test_stage_artifacts_go_that_no_kept_release_descends_from(work: Work) -> None:
    """Releases of the fixture descend from prepare/fixture and train-retrieval/literal, this from prepare/older; the newest of each stage stays."""
    stage(work, "prepare", "older")
    stage(work, "prepare", "fixture", ids="none")
    stage(work, "prepare", "nobody")
    stage(work, "train-retrieval", "literal", prepared="older")
    stage(work, "train-retrieval", "nobody", prepared="nobody")
    stage(work, "evaluate", "new", twin="t")
    stage(work, "twin", "t", prepared="fixture")
    stage(work, "twin", "old")
    work.set_latest("evaluate", "new")
    done = run(work)
    assert done.stages == ["prepare/nobody", "train-retrieval/nobody", "twin/old"]
    assert all(work.stage("prepare", id).exists() for id in ("older", "fixture"))


def test_leftovers_of_a_killed_prune_go(work: Work) -> None:
    shutil.copytree(work.releases / "v1", work.releases / ".tmp-pruned-v0-12345678")
    run(work, keep=6)
    assert not (work.releases / ".tmp-pruned-v0-12345678").exists()


def test_what_a_killed_pull_left_goes_after_a_day(work: Work) -> None:
    old, new = (work.releases / f".pull-{name}" for name in ("old", "new"))
    for staging in (old, new):
        staging.mkdir()
    os.utime(old, (0, time.time() - 90_000))  # a day has 86,400 seconds
    run(work, keep=6)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_directory_is_alone_once_nobody_holds_it(tmp_path: Path) -> None:
    one, other = Held(tmp_path), Held(tmp_path)
    del one
    with alone(tmp_path) as free:
        assert not free
    del other
    with alone(tmp_path) as free:
        assert free
        with pytest.raises(Exception, match="is being removed"):
            Held(tmp_path)
    Held(tmp_path / "missing")  # whoever opens what is in it says so
