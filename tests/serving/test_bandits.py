"""Bandits over real servers: sessions keep their arm, shares are learned once and followed by all, and a Redis that is frozen or lost changes nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_py

from aisle.v1.events_pb2 import Event
from aisle.v1.recommender_pb2 import RecommendRequest, RecommendResponse
from core.attribution import read_token
from core.work import Work
from experiments.assign import Assignment, Split
from experiments.config import Experiment
from experiments.files import STOPPED, load_experiments
from experiments.learning import Rewarding, Shares
from serving.bandits import Bandits
from serving.client import Client
from serving.config import ServingConfig
from serving.embedded_redis import EmbeddedRedis
from serving.keys import Keys
from serving.process import ServingProcess
from serving.process_options import ProcessOptions
from serving.redis_link import client
from tests.serving.conftest import changed, options_for
from tests.waiting import until

ORDER = """\
name: order
owner: ann
hypothesis: h
unit: session
arms:
  usual: {}
  other: {settings: {ranker: "off"}}
control: usual
allocation: {policy: thompson, update_seconds: 1}
forced: {tester: other}
primary: {name: clicks, events: [click]}
attribution_hours: 0.0002
"""
KEYS = Keys("default")
AT = 1_700_000_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "experiments"
    found.mkdir()
    (found / "order.yaml").write_text(ORDER)
    return found


@pytest.fixture
def order(folder: Path) -> Rewarding:
    return Rewarding(load_experiments(folder)[0].experiment)


@pytest.fixture
def settings(config: ServingConfig, folder: Path, tmp_path: Path) -> ServingConfig:
    return changed(config, "events", spool=str(tmp_path / "spool")).with_experiments(folder)


@pytest.fixture
def elsewhere(shop: Work, tmp_path: Path) -> Path:
    """A work directory of one test's own, so that no shares of another test are on its disk."""
    (tmp_path / "work" / "releases").mkdir(parents=True)
    return tmp_path / "work"


def options(shop: Work, url: str, config: ServingConfig, work: Path) -> ProcessOptions:
    made = options_for(shop, url, config)
    return ProcessOptions(made.release, work, made.host, 0, url, embedded=False, config=config)


@pytest.fixture
def ask(shop: Work, redis_url: str, settings: ServingConfig, elsewhere: Path) -> Iterator[Client]:
    process = ServingProcess(options(shop, redis_url, settings, elsewhere))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as connected:
        yield connected
    process.stop()


def page(ask: Client, session: str, **more: Any) -> RecommendResponse:
    return ask.recommend(RecommendRequest(visitor_id=f"v-{session}", session_id=session, **more))


def arm_of(response: RecommendResponse) -> Assignment:
    (a,) = response.experiment_assignments
    return Assignment(a.experiment, a.arm, a.probability, a.version, a.forced)


def test_a_session_is_drawn_by_the_version_and_the_token_says_it(ask: Client, order: Rewarding) -> None:
    first = Shares.first(order.experiment)
    for n in range(6):
        response = page(ask, f"s{n}")
        assert arm_of(response) == Split(order.experiment, first.shares, 1).assign(f"s{n}", 0)
        assert read_token(response.attribution_token).arms == (("order", arm_of(response).arm, 1),)


def test_the_shares_follow_what_sessions_click_and_sessions_keep_their_arm(
    ask: Client, store: redis_py.Redis, order: Rewarding
) -> None:
    given = {}
    for n in range(60):
        response = page(ask, f"s{n}")
        given[f"s{n}"] = arm_of(response)
        if arm_of(response).arm == "other":
            click = Event(event_type="click", item_id="tea-1", visitor_id=f"v-s{n}", session_id=f"s{n}")
            click.attribution_token = response.attribution_token
            ask.write_events([click, click])
    exposed = {arm: sum(a.arm == arm for a in given.values()) for arm in ("usual", "other")}

    def status() -> Any:
        (found,) = ask.status().experiments.experiments
        return found

    until(lambda: dict(status().exposed) == exposed)
    assert dict(status().rewarded) == {"usual": 0, "other": exposed["other"]}
    until(lambda: status().version > 1 and status().shares["other"] > 0.9)
    assert status().sample_ratio_p > 0.001
    assert (status().policy, status().decided > 0) == ("thompson", True)
    assert all(arm_of(page(ask, session)) == arm for session, arm in given.items())
    newcomers = [arm_of(page(ask, f"new{n}")) for n in range(5)]
    assert {a.version for a in newcomers} <= {status().version - 1, status().version}
    assert all(store.hexists(KEYS.unit(s), order.tag) for s in given)


def test_testers_are_forced_and_leave_no_trace(ask: Client, store: redis_py.Redis) -> None:
    assert (arm_of(page(ask, "tester")).arm, arm_of(page(ask, "tester")).forced) == ("other", True)
    assert read_token(page(ask, "tester").attribution_token).arms == ()
    page(ask, "s1")
    until(lambda: bool(store.exists(KEYS.unit("s1"))))
    assert not store.exists(KEYS.unit("tester"))


def test_the_kill_switch_ends_a_bandit_within_a_second(ask: Client, folder: Path) -> None:
    assert arm_of(page(ask, "s1"))
    (folder / f"order{STOPPED}").touch()
    until(lambda: not page(ask, "s1").experiment_assignments, seconds=1.0)


def test_a_second_process_keeps_what_the_first_one_gave(
    ask: Client,
    shop: Work,
    redis_url: str,
    store: redis_py.Redis,
    settings: ServingConfig,
    order: Rewarding,
    tmp_path: Path,
) -> None:
    given = {s: arm_of(page(ask, s)) for s in ("s1", "s2", "s3", "s4")}
    until(lambda: all(store.exists(KEYS.unit(s)) for s in given))
    _publish(redis_url, order.experiment, 5, tmp_path)
    process = ServingProcess(options(shop, redis_url, settings, tmp_path / "none"))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as other:
        until(lambda: arm_of(page(other, "new")).version == 5 or bool(page(other, "another").experiment_assignments))
        assert {s: arm_of(page(other, s)) for s in given} == given
    process.stop()


def test_without_redis_the_last_shares_stay_over_a_restart_too(
    shop: Work, settings: ServingConfig, order: Rewarding, elsewhere: Path, tmp_path: Path
) -> None:
    redis = EmbeddedRedis(tmp_path / "redis")
    redis.launch()
    redis.wait()
    _publish(redis.url, order.experiment, 7, tmp_path)
    pid = int(client(redis.url, 5, retries=0).info("server")["process_id"])
    kept = elsewhere / "bandits" / f"{order.tag}.json"

    def versions(ask: Client, times: int) -> set[int]:
        return {arm_of(page(ask, f"{os.urandom(4).hex()}")).version for _ in range(times)}

    process = ServingProcess(options(shop, redis.url, settings, elsewhere))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        until(lambda: versions(ask, 1) == {7})
        os.kill(pid, signal.SIGSTOP)
        try:
            before = arm_of(page(ask, "met"))
            assert versions(ask, 5) == {7}
            assert arm_of(page(ask, "met")) == before
        finally:
            os.kill(pid, signal.SIGCONT)
    process.stop()
    assert kept.exists()
    redis.stop()
    process = ServingProcess(options(shop, redis.url, settings, elsewhere))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        assert versions(ask, 5) == {7}
    process.stop()


def _publish(url: str, experiment: Experiment, version: int, folder: Path) -> None:
    """As a server elsewhere would."""
    of = Rewarding(experiment)
    bandits = Bandits(client(url, 5, retries=0), KEYS, lambda: {experiment.name: of}, folder / "publisher", lambda: AT)
    shares = Shares(version, {"usual": 0.025, "other": 0.975}, AT, "life", {"usual": (1, 0, 0), "other": (1, 1, 1)})
    (folder / "publisher").mkdir()
    (folder / "publisher" / f"{of.tag}.json").write_text(shares.said)
    bandits.look()  # finds that Redis knows none, and puts back what it knows


class Two:
    """Two processes' parts beside one Redis."""

    def __init__(self, url: str, order: Rewarding, folder: Path) -> None:
        self.now = AT
        self.both = [
            Bandits(client(url, 5, retries=0), KEYS, lambda: {"order": order}, folder / str(n), lambda: self.now)
            for n in (0, 1)
        ]


def test_one_learns_and_the_other_follows(
    redis_url: str, store: redis_py.Redis, order: Rewarding, tmp_path: Path
) -> None:
    two = Two(redis_url, order, tmp_path)
    first, second = two.both
    bucket = AT // order.bucket - 10
    store.hset(KEYS.counts(order.tag), mapping={f"{bucket}:1:usual": "50 5 5 5", f"{bucket}:1:other": "50 40 40 40"})
    first.look()
    second.look()
    assert first.shares(order) == second.shares(order)
    assert first.shares(order).version == 2
    two.now += 10_000_000
    for one in (first, second, first):
        one.look()  # nothing new was seen
    assert first.shares(order).version == 2
    store.hset(KEYS.counts(order.tag), f"{bucket}:1:usual", "51 5 5 5")
    two.now += 10_000_000
    second.look()  # the other holds the lease
    assert second.shares(order).version == 2
    first.look()
    second.look()
    assert second.shares(order).version == 3


def test_a_redis_that_lost_everything_is_told_the_shares_again(
    redis_url: str, store: redis_py.Redis, order: Rewarding, tmp_path: Path
) -> None:
    two = Two(redis_url, order, tmp_path)
    bucket = AT // order.bucket - 10
    store.hset(KEYS.counts(order.tag), mapping={f"{bucket}:1:usual": "50 5 5 5", f"{bucket}:1:other": "50 40 40 40"})
    two.both[0].look()
    known = two.both[0].shares(order)
    store.flushall()
    two.now += 10_000_000
    two.both[0].look()
    assert two.both[0].shares(order) == known
    two.both[1].look()
    assert two.both[1].shares(order) == known
    again = Two(redis_url, order, tmp_path)  # restarted
    assert again.both[0].shares(order) == known


def test_a_redis_that_holds_what_is_not_ours_ends_nothing(
    redis_url: str, store: redis_py.Redis, order: Rewarding, tmp_path: Path
) -> None:
    bandits = Bandits(client(redis_url, 5, retries=0), KEYS, lambda: {"order": order}, tmp_path, lambda: AT)
    store.hset(KEYS.counts(order.tag), "broken", "counts")
    bandits.start()
    until(lambda: bandits._away != "")
    store.delete(KEYS.counts(order.tag))
    until(lambda: not bandits._away)
    bandits.stop()


def test_another_holdout_is_no_broken_split(
    redis_url: str, store: redis_py.Redis, order: Rewarding, tmp_path: Path
) -> None:
    """Nobody was held out while 20,000 sessions were counted; now a tenth is, by the file."""
    held = Rewarding(order.experiment.model_copy(update={"holdout": 0.1}))
    assert held.tag == order.tag
    bandits = Bandits(client(redis_url, 5, retries=0), KEYS, lambda: {"order": held}, tmp_path, lambda: AT)
    store.hset(KEYS.counts(held.tag), mapping={"1:1:usual": "10000 5 5 5", "1:1:other": "10000 5 5 5"})
    assert bandits.seen(held).ratio_p > 0.001
    store.hset(KEYS.counts(held.tag), "1:1:other", "9000 5 5 5")
    assert Bandits(client(redis_url, 5, retries=0), KEYS, dict, tmp_path, lambda: AT).seen(held).ratio_p < 0.001
