"""What is watched of arms: who counts, for what and once; what stops an experiment, and what does not."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import redis as redis_py

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest
from experiments.files import STOPPED, load_experiments
from experiments.stops import read_stop
from serving.arms.at_work import AtWork
from serving.arms.watch import ArmWatch, guards_of
from serving.config import ExperimentsConfig, load_serving
from serving.experiments import Given, LiveExperiments
from serving.keys import Keys
from serving.redis_link import RedisLink
from serving.tally import Tally

CANARY = """\
name: canary
owner: ann
hypothesis: h
arms:
  usual: {weight: 3}
  other: {settings: {ranker: "off"}}
control: usual
forced: {tester: other}
primary: {name: clicks, events: [click]}
guardrails:
  - {name: clicks, events: [click], most_lost: 0.1, stops: true}
  - {name: buys, events: [purchase-complete], most_lost: 0.1}
watch: {slow_ms: 20}
"""
NOW = 1_000_000


class Shop:
    """An experiment, its watch, and people by arm."""

    def __init__(self, folder: Path, redis_url: str, text: str = CANARY) -> None:
        (folder / "canary.yaml").write_text(text)
        self.folder, self.url = folder, redis_url
        self.split = load_experiments(folder)[0].split
        every = [f"u{n}" for n in range(4_000)]
        arms = {unit: one.arm for unit in every if (one := self.split.assign(unit, NOW)) is not None}
        self.usual = [unit for unit, arm in arms.items() if arm == "usual"]
        self.other = [unit for unit, arm in arms.items() if arm == "other"]
        self.watch = self.process()

    def process(self) -> ArmWatch:
        """Another server of the same shop."""
        config = ExperimentsConfig(folder=str(self.folder), refresh_seconds=1)
        self.live = LiveExperiments(config, "default", Tally(), lambda: NOW)
        return ArmWatch(RedisLink(self.url, load_serving().redis), Keys("default"), self.live)

    def given(self, unit: str) -> Given:
        one = self.split.assign(unit, NOW)
        assert one is not None
        return Given((one,))

    def answer(self, watch: ArmWatch, units: list[str], ms: float) -> None:
        for unit in units:
            watch.answered(self.given(unit), RecommendRequest(user_id=unit), ms)

    def click(self, watch: ArmWatch, units: list[str], token: str = "canary=usual@0~r.1") -> None:
        for unit in units:
            watch.followed(Event(event_type="click", user_id=unit, attribution_token=token), NOW)


@pytest.fixture
def shop(tmp_path: Path, redis_url: str) -> Shop:
    return Shop(tmp_path, redis_url)


def test_guards_are_those_that_stop(shop: Shop) -> None:
    assert [(g.name, g.ratio, g.more) for g in guards_of(shop.split.experiment)] == [
        ("errors", 1.5, True),
        ("slow", 1.5, True),
        ("guardrail:clicks", 0.9, False),
    ]


def test_a_slow_arm_is_stopped_with_its_reason(shop: Shop) -> None:
    # a quarter is the arm's; at 1.5 times as often a third. Three guards at .01 together: 300. Five of five in it are at most 3^5 = 243
    shop.answer(shop.watch, shop.other[:5], 21.0)
    shop.watch.look()
    assert not shop.live.stopped
    shop.answer(shop.watch, shop.other[:12], 21.0)
    shop.watch.look()
    assert shop.live.stopped == {"canary"}
    stop = read_stop(shop.folder, "canary")
    assert stop is not None
    assert (stop.arm, stop.guard) == ("other", "slow")
    assert "slow more often than allowed: 12 users of 'other' and 0 of 'usual'" in stop.why


def test_each_person_counts_once_and_what_is_fast_or_forced_never(shop: Shop) -> None:
    for _ in range(50):
        shop.answer(shop.watch, shop.other[:2], 500.0)
        shop.answer(shop.watch, ["tester"], 500.0)
    shop.answer(shop.watch, shop.other, 20.0)
    shop.watch.look()
    assert not shop.live.stopped


def test_the_same_trouble_on_both_sides_stops_nothing(shop: Shop) -> None:
    shop.answer(shop.watch, shop.other[:50], 500.0)
    shop.answer(shop.watch, shop.usual[:150], 500.0)
    shop.watch.look()
    assert not shop.live.stopped


def test_an_arm_that_loses_clicks_is_stopped(shop: Shop) -> None:
    # at .9 times as often .225 / .975 = 3 / 13 are the arm's: fifteen of the control are at most (13 / 10)^15 = 51
    shop.click(shop.watch, shop.usual[:15])
    shop.watch.look()
    assert not shop.live.stopped
    shop.click(shop.watch, shop.usual[:60], token="order=b@0~r.1")  # they followed a page of another
    shop.watch.look()
    assert not shop.live.stopped
    shop.click(shop.watch, shop.usual[:60])
    shop.watch.look()
    stop = read_stop(shop.folder, "canary")
    assert stop is not None
    assert (stop.arm, stop.guard) == ("other", "guardrail:clicks")


def test_processes_count_together_and_resume_begins_anew(shop: Shop, store: redis_py.Redis) -> None:
    first, first_live = shop.watch, shop.live
    second, second_live = shop.process(), shop.live
    for watch, part in ((first, shop.other[:5]), (second, shop.other[3:12])):  # two of them met both
        shop.answer(watch, part, 99.0)
    first.look()
    assert not first_live.stopped
    second.look()
    assert second_live.stopped == {"canary"}
    assert (shop.folder / f"canary{STOPPED}").exists()
    second.look()
    assert not list(store.scan_iter("aisle:default:watch:*"))


def test_without_redis_a_process_goes_by_what_it_saw(tmp_path: Path) -> None:
    shop = Shop(tmp_path, "redis://127.0.0.1:1")
    shop.answer(shop.watch, shop.other[:12], 99.0)
    shop.watch.look()
    assert shop.live.stopped == {"canary"}


def test_a_worker_that_died_of_a_release_tells_the_next_one(tmp_path: Path, redis_url: str) -> None:
    file, release = tmp_path / "arms-1", tmp_path / "releases" / "bad"
    died = """
import os, sys
from pathlib import Path
from serving.arms.at_work import AtWork
one = AtWork(Path(sys.argv[1]))
with one.on(Path(sys.argv[2] + "-fine")):
    pass
with one.on(Path(sys.argv[2])), one.on(Path(sys.argv[2])):
    os._exit(9)
"""
    assert subprocess.run([sys.executable, "-c", died, str(file), str(release)], check=False).returncode == 9
    assert AtWork(file).left == {release}
    assert AtWork(file).left == frozenset()  # told once
    folder = tmp_path / "experiments"
    folder.mkdir()
    shop = Shop(folder, redis_url)
    (written,) = shop.live.written
    shop.live._followed.value = (replace(written, releases={"other": release}),)  # type: ignore[union-attr]
    shop.watch.blame({release}, 1)
    assert shop.live.stopped == {"canary"}
    stop = read_stop(folder, "canary")
    assert stop is not None
    assert (stop.guard, stop.why) == ("died", "worker 1 ended while the release bad of 'other' was at work in it")


def test_a_folder_that_cannot_be_written_stops_it_here(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("serving.arms.watch.write_stop", refuse)  # root may write anywhere
    shop.answer(shop.watch, shop.other[:12], 99.0)
    shop.watch.look()
    assert shop.live.stopped == {"canary"}
    assert not (shop.folder / f"canary{STOPPED}").exists()


def test_a_folder_that_cannot_be_read_takes_no_switch_back(shop: Shop) -> None:
    shop.answer(shop.watch, shop.other[:12], 99.0)
    shop.watch.look()
    away = shop.folder.with_name("away")
    shop.folder.rename(away)
    shop.watch.look()
    assert shop.live.stopped == {"canary"}
    away.rename(shop.folder)
    (shop.folder / f"canary{STOPPED}").unlink()
    shop.watch.look()
    assert not shop.live.stopped


def test_a_full_memory_blames_no_arm(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """People of the control fill it first; that the arm's went on counting would look like an arm that is slow."""
    monkeypatch.setattr("serving.arms.watch._MOST", 30)
    for n in range(300):  # three of the control for each of the arm: as it should be
        shop.answer(shop.watch, [*shop.usual[3 * n : 3 * n + 3], shop.other[n]], 99.0)
        shop.watch.look()
    assert not shop.live.stopped
