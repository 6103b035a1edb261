"""Arms with a release of their own over real servers: who is answered by which, what happens while one opens, fails, is swapped or goes."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
import redis as redis_py

from aisle.v1.admin_pb2 import ExperimentStatus
from aisle.v1.recommender_pb2 import ExplainRequest, RecommendRequest, RecommendResponse
from benchmarks.candidate import candidate, settings
from core.errors import ConfigError, InputError
from core.held import alone
from core.history import Query
from core.schema import DAY
from core.work import Work
from experiments.files import STOPPED, load_experiments
from experiments.releases import finder
from experiments.stops import read_stop
from serving.arms.open_releases import OpenRelease
from serving.client import Client
from serving.config import ServingConfig
from serving.keys import Keys
from serving.process import ServingProcess
from tests.serving.conftest import changed, options_for
from tests.serving.shop import END, make_shop
from tests.waiting import until

CANARY = """\
name: canary
owner: ann
hypothesis: h
arms:
  usual: {}
  other: {release: other}
control: usual
forced: {tester: other, plain: usual}
primary: {name: buys, events: [purchase-complete]}
"""
SHADOW = CANARY.replace("{release: other}", "{release: other, shadow: 1.0}").replace("tester: other, ", "")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Two releases that show other items first, and one of another night with its own user state."""
    made = make_shop(tmp_path_factory.mktemp("shop"))
    # the blend of `other` listens to what sells most, not to who asks
    candidate(made.current, "other", settings(weights={"popularity": 1.0}))
    later = make_shop(tmp_path_factory.mktemp("later"), end=END + DAY, sales=2)
    shutil.copytree(later.current.resolve(), made.releases / "later")
    shutil.copytree(later.user_state(END + DAY), made.user_state(END + DAY))
    return made


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "experiments"
    found.mkdir()
    return found


@pytest.fixture
def config(config: ServingConfig, folder: Path) -> ServingConfig:
    return changed(config, "log", share=1.0).with_experiments(folder)


@pytest.fixture
def server(work: Work, redis_url: str, config: ServingConfig) -> Iterator[ServingProcess]:
    process = ServingProcess(options_for(work, redis_url, config))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def ask(server: ServingProcess) -> Iterator[Client]:
    with Client(f"127.0.0.1:{server.port}", timeout=20) as client:
        yield client


def write(folder: Path, text: str, name: str = "canary") -> None:
    (folder / f"{name}.yaml").write_text(text.replace("name: canary", f"name: {name}"))


def running(ask: Client, state: str = "running") -> ExperimentStatus:
    """The experiment, once it is in that state."""
    until(lambda: [e.state for e in ask.status().experiments.experiments] == [state])
    return ask.status().experiments.experiments[0]


def recommend(ask: Client, user: str, **request: Any) -> RecommendResponse:
    return ask.recommend(RecommendRequest(user_id=user, page_size=4, **request))


def items(response: RecommendResponse) -> list[str]:
    return [r.item_id for r in response.results]


def given(response: RecommendResponse) -> dict[str, str]:
    return {a.experiment: a.arm for a in response.experiment_assignments}


def test_each_arm_is_answered_by_its_own_release(ask: Client, folder: Path, work: Work) -> None:
    before = recommend(ask, "ann")
    write(folder, CANARY.replace("tester: other, plain: usual", "ann: other, bob: usual"))
    assert dict(running(ask).releases) == {"other": "open"}
    other, usual = recommend(ask, "ann", request_id="r1"), recommend(ask, "bob")
    assert (other.release, given(other)) == ("other", {"canary": "other"})
    assert other.attribution_token.startswith("other.")
    assert (usual.release, given(usual)) == (work.current.resolve().name, {"canary": "usual"})
    assert items(other) != items(before)
    first = other.results[0].item_id
    why = ask.explain(ExplainRequest(request=RecommendRequest(user_id="ann", page_size=4), item_id=first))
    assert (why.release, why.rank) == ("other", 1)


def test_the_person_is_read_as_the_arms_release_knows_them(ask: Client, folder: Path) -> None:
    write(folder, CANARY.replace("release: other", "release: later"))
    running(ask)
    answer = recommend(ask, "ann", experiment_overrides={"canary": "other"})
    assert (answer.release, answer.level, answer.degraded) == ("later", "warm", False)


def test_the_log_has_the_arms_release(ask: Client, folder: Path, store: redis_py.Redis, config: ServingConfig) -> None:
    write(folder, CANARY)
    running(ask)
    recommend(ask, "tester", request_id="r1")
    shown = Keys(config.tenant).shown
    until(lambda: store.xlen(shown) == 1)
    ((_, entry),) = store.xrange(shown)
    page = orjson.loads(entry[b"page"])
    assert (page["release"], page["experiments"]) == ("other", ["canary=other@0:1.0!"])


def test_a_batch_over_two_releases_shows_no_item_twice(ask: Client, folder: Path, work: Work) -> None:
    write(folder, CANARY.replace("{release: other}", "{release: later}") + "eligible: {placements: [home]}\n")
    running(ask)
    pages = [RecommendRequest(user_id="tester", page_size=6, placement=p) for p in ("home", "cart")]
    first, second = ask.recommend_batch(pages)
    assert (first.release, second.release) == ("later", work.current.resolve().name)
    assert len(set(items(first)) | set(items(second))) == 12


def test_a_list_goes_on_with_the_release_that_began_it(ask: Client, folder: Path, work: Work) -> None:
    main = work.current.resolve().name
    begun = recommend(ask, "ann", list_size=12)
    write(folder, CANARY.replace("tester: other, plain: usual", "ann: other"))
    running(ask)
    further = recommend(ask, "ann", list_size=12, page_token=begun.next_page_token)
    assert (further.release, given(further)) == (main, {})
    own = recommend(ask, "ann", list_size=12)
    assert own.release == "other"
    further = recommend(ask, "ann", list_size=12, page_token=own.next_page_token)
    assert (further.release, given(further), further.results[0].rank) == ("other", {"canary": "other"}, 5)
    (folder / f"canary{STOPPED}").touch()

    def onward() -> RecommendResponse:
        return recommend(ask, "ann", list_size=12, page_token=own.next_page_token)

    until(lambda: onward().release == main)  # it is closed: the list itself is in the token
    assert items(onward()) == items(further)


def test_swapping_the_release_of_all_leaves_the_arm_alone(ask: Client, folder: Path, work: Work) -> None:
    write(folder, CANARY)
    running(ask)
    before = recommend(ask, "tester")
    ask.load_release(str(work.releases / "later"))
    assert (recommend(ask, "plain").release, recommend(ask, "tester").release) == ("later", "other")
    assert items(recommend(ask, "tester")) == items(before)


def test_an_arm_of_the_very_release_shares_what_is_open_and_keeps_it(
    server: ServingProcess, ask: Client, folder: Path, work: Work
) -> None:
    main = work.current.resolve()
    write(folder, CANARY.replace("release: other", f"release: {main.name}"))
    running(ask)
    open_ = server._tenants.alone._open_releases
    assert [one.held for one in open_._open.values()] == [server.resident.held]
    assert items(recommend(ask, "tester")) == items(recommend(ask, "plain"))
    ask.load_release(str(work.releases / "later"))
    assert (recommend(ask, "plain").release, recommend(ask, "tester").release) == ("later", main.name)


def test_a_release_is_closed_when_its_experiment_goes(ask: Client, folder: Path, work: Work) -> None:
    write(folder, CANARY)
    running(ask)
    (folder / "canary.yaml").unlink()

    def free() -> bool:
        gc.unfreeze()  # each server of this process froze what those before it left
        gc.collect()
        with alone(work.releases / "other") as nobody:
            return nobody

    until(free)
    assert recommend(ask, "tester").release == work.current.resolve().name


def test_nobody_is_in_an_experiment_until_every_release_of_it_is_open(ask: Client, folder: Path, work: Work) -> None:
    broken = work.releases / "broken"
    shutil.copytree(work.current.resolve(), broken)
    scores = broken / "sources" / "item_knn" / "scores.npy"
    scores.write_bytes(scores.read_bytes()[:-1] + b"\x7f")  # of the same size: only its hash is wrong
    write(folder, CANARY.replace("release: other", "release: broken"))
    found = running(ask, "opening")
    until(lambda: "truncated or altered" in ask.status().experiments.experiments[0].why)
    assert found.name == "canary"
    assert [given(recommend(ask, user)) for user in ("plain", "tester", "ann")] == [{}, {}, {}]
    shutil.rmtree(broken)


@pytest.mark.parametrize(
    ("release", "said"),
    [
        ("othr", r"canary.yaml:6: release 'othr': .*othr is no directory; did you mean 'other'\?"),
        ("current", "canary.yaml:6: release 'current' is a link, which moves: name '[^']+' itself"),
        ("./nowhere", "canary.yaml:6: release './nowhere': .*nowhere is no directory$"),
        ("bare", r"canary.yaml:6: release 'bare' does not fit: .*no manifest.json"),
    ],
)
def test_a_release_that_does_not_fit_is_refused_by_file_and_line(
    folder: Path, work: Work, release: str, said: str
) -> None:
    (work.releases / "bare").mkdir(exist_ok=True)
    write(folder, CANARY.replace("release: other", f"release: {release}"))
    with pytest.raises(ConfigError, match=said):
        load_experiments(folder, finder(work.releases))


def test_a_tenant_names_only_releases_of_its_own(folder: Path, work: Work) -> None:
    write(folder, CANARY.replace("release: other", f"release: {work.releases / 'other'}"))
    assert load_experiments(folder, finder(work.releases, confined=True))[0].releases["other"].name == "other"
    with pytest.raises(ConfigError, match="is not one of the releases of this tenant"):
        load_experiments(folder, finder(folder, confined=True))


def test_a_file_that_does_not_fit_leaves_what_runs(ask: Client, folder: Path) -> None:
    write(folder, CANARY)
    running(ask)
    write(folder, CANARY.replace("release: other", "release: gone"))
    until(lambda: "gone is no directory" in ask.status().experiments.problem)
    assert recommend(ask, "tester").release == "other"


def test_more_releases_than_a_server_may_open_are_refused(ask: Client, folder: Path, work: Work) -> None:
    arms = f"a: {{release: other}}\n  b: {{release: later}}\n  c: {{release: {work.current.resolve().name}}}"
    write(folder, CANARY.replace("other: {release: other}", arms).replace("tester: other, ", ""))
    until(lambda: "releases of the server allows 2" in ask.status().experiments.problem)


def test_releases_in_two_layers_are_refused(folder: Path, work: Work) -> None:
    write(folder, CANARY)
    write(folder, CANARY + "layer: second\n", "again")
    with pytest.raises(ConfigError, match="a request could be given two; put both in one layer"):
        load_experiments(folder, finder(work.releases))


class Broken:
    """A source that cannot answer."""

    def __init__(self, name: str) -> None:
        self.name = name

    def scoring(self, query: Query) -> Any:
        raise RuntimeError("planted")


def spoil(server: ServingProcess) -> None:
    """Make the open release of the arm one that cannot answer."""
    parts = server._tenants.alone._open_releases
    for path, one in parts._open.items():
        bad = replace(one.current, sources=tuple(Broken(s.name) for s in one.current.sources))
        parts._open = {**parts._open, path: OpenRelease(bad)}


def test_where_an_arm_cannot_answer_the_release_of_all_does(
    server: ServingProcess, ask: Client, folder: Path, work: Work
) -> None:
    write(folder, CANARY)
    running(ask)
    spoil(server)
    answer = recommend(ask, "tester")
    assert (answer.release, answer.degraded, answer.fallback_reason) == (
        work.current.resolve().name,
        True,
        "arm-failed",
    )
    assert given(answer) == {"canary": "other"}
    assert len(answer.results) == 4
    (page,) = ask.recommend_batch([RecommendRequest(user_id="tester", page_size=4)])
    assert (page.fallback_reason, len(page.results)) == ("arm-failed", 4)
    with pytest.raises(InputError, match="filter"):  # what is wrong with the request is the caller's
        recommend(ask, "tester", filter="nonsense(")


def test_an_arm_that_fails_is_stopped_by_itself_everywhere(
    server: ServingProcess, ask: Client, folder: Path, work: Work, redis_url: str, config: ServingConfig
) -> None:
    second = ServingProcess(options_for(work, redis_url, config))
    second.start()
    try:
        with Client(f"127.0.0.1:{second.port}", timeout=20) as beside:
            write(folder, CANARY + "watch: {}\n")
            running(ask)
            running(beside)
            spoil(server)
            until(lambda: recommend_all(ask) == "stopped")
            # the reason is in the switch; the other server, which saw none of it, stops too
            stop = read_stop(folder, "canary")
            assert stop is not None
            assert (stop.arm, stop.guard) == ("other", "errors")
            assert "errors more often than allowed" in ask.status().experiments.experiments[0].why
            until(lambda: beside.status().experiments.experiments[0].state == "stopped", seconds=1.5)
            (folder / f"canary{STOPPED}").unlink()
            running(beside)
            assert running(ask).why == ""  # counted from nothing again
    finally:
        second.stop()


def recommend_all(ask: Client) -> str:
    """Ask for many people, none of whom is left without a page; the state of the experiment."""
    for n in range(60):
        assert len(recommend(ask, f"u{n}").results) == 4
    return ask.status().experiments.experiments[0].state


def test_a_shadow_answers_nobody_and_is_logged_beside(
    ask: Client, folder: Path, work: Work, store: redis_py.Redis, config: ServingConfig
) -> None:
    before = recommend(ask, "ann")
    write(folder, SHADOW)
    until(lambda: dict(running(ask).releases) == {"other": "open"})
    answer = recommend(ask, "ann", request_id="r1")
    assert (answer.release, given(answer)) == (work.current.resolve().name, {"canary": "usual"})
    assert items(answer) == items(before)
    keys = Keys(config.tenant)
    until(lambda: store.xlen(keys.shadows) == 1)
    ((_, entry),) = store.xrange(keys.shadows)
    page = orjson.loads(entry[b"page"])
    assert (page["request_id"], page["release"], page["experiments"]) == ("r1", "other", ["canary=other@0:1.0"])
    assert page["items"] != items(answer)
    assert not {"user_id", "visitor_id", "session_id", "attribution_token"} & page.keys()
    assert dict(running(ask).copies) == {"other": 1}
    assert dict(running(ask).requests)["usual"] == 1
    with pytest.raises(InputError, match="nobody is answered by 'other' of 'canary', which is a shadow"):
        recommend(ask, "ann", experiment_overrides={"canary": "other"})
