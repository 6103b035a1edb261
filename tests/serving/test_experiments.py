"""Experiments over a real server: who is given what, what it changes, what the log keeps, and how it ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis as redis_py

from aisle.v1.recommender_pb2 import RecommendRequest, RecommendResponse
from core.attribution import Attribution, GivenArm, read_token
from core.errors import ConfigError, InputError
from core.work import Work
from experiments.assign import Assignment, Split
from experiments.config import Settings
from experiments.files import STOPPED, load_experiments
from experiments.learning import Rewarding
from serving.client import Client
from serving.config import ServingConfig
from serving.experiments import Given, LiveExperiments
from serving.keys import Keys
from serving.process import ServingProcess
from serving.release import Release
from serving.tally import Tally
from tests.serving.conftest import changed, options_for
from tests.waiting import until

ORDER = """\
name: order
owner: ann
hypothesis: h
arms:
  usual: {}
  other: {settings: {explore: true, quotas: {popularity: 0}, ranker: "off"}}
control: usual
eligible: {placements: [home], labels: {country: [DE]}}
forced: {tester: other}
holdout: 0.2
primary: {name: buys, events: [purchase-complete]}
"""
HOME = {"placement": "home", "labels": {"country": "DE"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "experiments"
    found.mkdir()
    (found / "order.yaml").write_text(ORDER)
    return found


@pytest.fixture
def settings(config: ServingConfig, folder: Path) -> ServingConfig:
    return changed(config, "log", share=1.0).with_experiments(folder)


@pytest.fixture
def ask(shop: Work, redis_url: str, settings: ServingConfig) -> Iterator[Client]:
    process = ServingProcess(options_for(shop, redis_url, settings))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as client:
        yield client
    process.stop()


def given(response: RecommendResponse) -> dict[str, str]:
    return {a.experiment: a.arm for a in response.experiment_assignments}


def recommend(ask: Client, **request: Any) -> RecommendResponse:
    return ask.recommend(RecommendRequest(**(HOME | request)))


def test_every_unit_is_given_what_the_hash_says(ask: Client, folder: Path) -> None:
    experiment = load_experiments(folder)[0].experiment
    seen = set()
    for n in range(40):
        response = recommend(ask, user_id=f"u{n}")
        expected = Split(experiment).assign(f"u{n}", 0)
        assert expected is not None
        (told,) = response.experiment_assignments
        assert (told.arm, told.probability, told.forced) == (expected.arm, expected.probability, False)
        seen.add(told.arm)
    assert seen == {"usual", "other", "holdout"}
    found = ask.status().experiments.experiments[0]
    assert (found.name, found.state, dict(found.shares)) == ("order", "running", {"usual": 0.5, "other": 0.5})
    assert sum(found.requests.values()) == 40


@pytest.mark.parametrize(
    "request_",
    [
        {"user_id": "u1", "placement": "cart"},
        {"user_id": "u1", "labels": {"country": "FR"}},
        {"user_id": "u1", "labels": {}},
        {"session_id": "s1"},
        {"user_id": "u1", "personalize": False},
        {},
    ],
    ids=["placement", "label", "no label", "no unit", "not personal", "nobody"],
)
def test_who_is_not_eligible_is_in_none(ask: Client, request_: dict[str, Any]) -> None:
    assert given(recommend(ask, **request_)) == {}


def test_an_arm_answers_in_its_own_way_and_the_others_as_ever(ask: Client) -> None:
    usual = recommend(ask, user_id="ann", experiment_overrides={"order": "usual"})
    other = recommend(ask, user_id="ann", experiment_overrides={"order": "other"})
    plain = ask.recommend(RecommendRequest(user_id="ann", placement="cart"))
    assert [r.item_id for r in usual.results] == [r.item_id for r in plain.results]
    assert (usual.explored, other.explored, plain.explored) == (False, True, False)
    assert len(other.results) == len(usual.results)
    (told,) = other.experiment_assignments
    assert (told.arm, told.probability, told.forced) == ("other", 1.0, True)


def test_an_arm_without_rules_keeps_what_hides(
    shop: Work, redis_url: str, settings: ServingConfig, folder: Path, tmp_path: Path
) -> None:
    rules = tmp_path / "rules"
    rules.mkdir()
    hidden, pinned = (
        "{name: recalled, kind: hide, where: 'item_id = \"tea-1\"'}",
        "{name: new, kind: pin, item: pot-2, at: 1}",
    )
    (rules / "a.yaml").write_text(f"rules:\n  - {hidden}\n  - {pinned}\n")
    (folder / "bare.yaml").write_text(
        ORDER.replace("name: order", "name: bare\nlayer: bare")
        .replace('ranker: "off"', 'rules: "off"')
        .replace("explore: true, ", "")
    )
    process = ServingProcess(options_for(shop, redis_url, settings.with_rules(rules)))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as ask:
        pages = {
            arm: [r.item_id for r in recommend(ask, user_id="ann", experiment_overrides={"bare": arm}).results]
            for arm in ("usual", "other")
        }
    process.stop()
    assert pages["usual"][0] == "pot-2" != pages["other"][0]
    assert "tea-1" not in pages["usual"] + pages["other"]


def test_of_two_arms_that_set_the_same_the_last_says_what() -> None:
    first = Settings(diversity_level="low-diversity", explore=True, rules="off")
    last = Settings(diversity_level="high-diversity", explore=False, rules="on")
    given = Given(settings=(first, last))
    told = given.told(RecommendRequest())
    assert (told.diversity_level, told.explore, given.ruled) == ("high-diversity", False, True)
    asked = Given(settings=(first,)).told(RecommendRequest(diversity_level="no-diversity", explore=False))
    assert (asked.diversity_level, asked.explore) == ("no-diversity", False)


def test_an_arm_runs_the_release_with_other_settings(shop: Work, settings: ServingConfig) -> None:
    release = Release.open(shop.current)
    experiments = LiveExperiments(settings.experiments, "default", Tally(), lambda: 0)
    arm = Given((Assignment("order", "other", 1.0),), (Settings(quotas={"popularity": 0, "gone": 9}, ranker="off"),))
    other = experiments.over(release, arm)
    assert other.settings.quotas == {**release.settings.quotas, "popularity": 0}
    assert (other.scorer, other.items) == (None, release.items)
    assert experiments.over(release, arm) is other
    assert experiments.over(release, Given()) is release
    again = Release.open(shop.current)
    assert experiments.over(again, arm) is not other


def test_the_callers_own_word_goes_before_the_arms() -> None:
    arm = Given((), (Settings(diversity_level="high-diversity", explore=False),))
    told = arm.told(RecommendRequest(user_id="ann", page_size=3))
    assert (told.user_id, told.page_size, told.diversity_level) == ("ann", 3, "high-diversity")
    assert told.HasField("explore")
    assert not told.explore
    asked = RecommendRequest(diversity_level="low-diversity", explore=True)
    assert arm.told(asked) == asked
    assert Given().told(asked) is asked


def test_testers_are_forced_and_not_counted(ask: Client) -> None:
    (told,) = recommend(ask, user_id="tester").experiment_assignments
    assert (told.arm, told.forced) == ("other", True)
    assert sum(ask.status().experiments.experiments[0].requests.values()) == 0


def test_a_batch_is_given_arms_by_placement(ask: Client) -> None:
    pages = [RecommendRequest(user_id="tester", **HOME), RecommendRequest(user_id="tester", placement="cart")]  # type: ignore[arg-type]
    first, second = ask.recommend_batch(pages)
    assert (given(first), given(second)) == ({"order": "other"}, {})


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"ordre": "other"}, "no experiment 'ordre'; did you mean 'order'"),
        ({"order": "othr"}, "no arm 'othr' of 'order'; did you mean 'other'"),
    ],
)
def test_overrides_that_are_not_there_are_refused(ask: Client, overrides: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=f"experiment_overrides: {said}"):
        recommend(ask, user_id="ann", experiment_overrides=overrides)


def test_the_log_keeps_the_arms(ask: Client, store: redis_py.Redis, settings: ServingConfig) -> None:
    recommend(ask, user_id="tester", request_id="r1")
    shown = Keys(settings.tenant).shown
    until(lambda: store.xlen(shown) == 1)
    ((_, entry),) = store.xrange(shown)
    assert orjson.loads(entry[b"page"])["experiments"] == ["order=other@0:1.0!"]


def test_the_attribution_token_names_the_arms_that_count(ask: Client) -> None:
    response = recommend(ask, user_id="u1", request_id="r1")
    arm = given(response)["order"]
    assert read_token(response.attribution_token) == Attribution(response.release, "r1", (GivenArm("order", arm, 0),))
    forced = recommend(ask, user_id="tester", request_id="r1")
    assert read_token(forced.attribution_token) == Attribution(forced.release, "r1")


def test_the_kill_switch_works_within_a_second_whatever_the_files_say(ask: Client, folder: Path) -> None:
    assert given(recommend(ask, user_id="tester")) == {"order": "other"}
    (folder / "order.yaml").write_text("name: [half written")
    (folder / f"order{STOPPED}").touch()
    until(lambda: given(recommend(ask, user_id="tester")) == {}, seconds=1.0)
    assert ask.status().experiments.experiments[0].state == "stopped"
    (folder / f"order{STOPPED}").unlink()
    until(lambda: given(recommend(ask, user_id="tester")) == {"order": "other"})  # as it was before the file was broken
    until(lambda: "not valid YAML" in ask.status().experiments.problem)
    (folder / "order.yaml").write_text(ORDER.replace("owner: ann", "owner: ann\nenabled: false"))
    until(lambda: ask.status().experiments.experiments[0].state == "off")
    assert given(recommend(ask, user_id="tester")) == {}


def test_a_folder_that_goes_away_takes_no_switch_back(settings: ServingConfig, folder: Path) -> None:
    (folder / f"order{STOPPED}").touch()
    experiments = LiveExperiments(settings.experiments, "default", Tally(), lambda: 0)
    experiments.start()
    away = folder.with_name("away")
    folder.rename(away)
    until(lambda: experiments.status().problem != "")  # its files were looked for
    until(lambda: "unreadable" in str(experiments._switches._signature))  # type: ignore[union-attr]
    assert experiments.stopped == {"order"}
    away.rename(folder)
    (folder / f"order{STOPPED}").unlink()
    until(lambda: not experiments.stopped)
    experiments.stop()


class Remembering:
    """Stands in for what gives and remembers arms of bandits."""

    def __init__(self) -> None:
        self.met_: list[tuple[str, str]] = []

    def assign(self, of: Rewarding, session: str, now: float, given: Mapping[str, bytes]) -> Assignment:
        return Assignment(of.experiment.name, "other", 0.5, 7)

    def met(self, of: Rewarding, given: Assignment, request: RecommendRequest) -> None:
        self.met_.append((of.tag, given.arm))


def test_files_that_change_under_a_request_leave_it_what_it_was_given(settings: ServingConfig, folder: Path) -> None:
    bandit = ORDER.replace("control: usual", "control: usual\nunit: session\nallocation: {policy: ucb}")
    (folder / "order.yaml").write_text(bandit)
    experiments = LiveExperiments(settings.experiments, "default", Tally(), lambda: 0)
    learning = Remembering()
    experiments.learn_by(learning)  # type: ignore[arg-type]
    before = experiments.bandits["order"]
    request = RecommendRequest(session_id="s", visitor_id="v", **HOME)  # type: ignore[arg-type]
    one = experiments.with_bandits(Given(), request, 0, {})
    (folder / "order.yaml").write_text(bandit.replace("other:", "another:").replace("tester: other", "tester: another"))
    followed = experiments._followed
    assert followed is not None
    followed.look()
    followed.look()
    assert experiments.bandits["order"].tag != before.tag
    experiments.count(one, request)
    assert learning.met_ == [(before.tag, "other")]  # not under the name of a file that has no such arm


def test_a_server_does_not_start_with_a_file_that_does_not_fit(
    shop: Work, redis_url: str, settings: ServingConfig, folder: Path
) -> None:
    (folder / "order.yaml").write_text(ORDER.replace("owner", "ownr"))
    with pytest.raises(ConfigError, match=r"order.yaml:2: unknown key 'ownr'"):
        ServingProcess(options_for(shop, redis_url, settings))
