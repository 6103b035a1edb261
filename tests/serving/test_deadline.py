"""The caller's deadline: what is left out when it is near, that the page is full all the same, and that a wide one changes nothing."""

# bazel: size=medium

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisle.v1.recommender_pb2 import RankRequest, RecommendRequest, SimilarItemsRequest
from core.candidates import Source
from core.config import load_pipeline
from core.history import Query
from core.work import Work
from ranking.feature_list import NAMES
from ranking.train import GRADES, TrainingSet, grow
from serving.answers import FILL, Answer, Request
from serving.client import Client
from serving.deadline import Costs, Deadline, Step
from serving.embedded_redis import EmbeddedRedis
from serving.failures import Failure
from serving.levels import Level
from serving.process import ServingProcess
from serving.release import Release
from serving.request_path import answer
from serving.resident import made_up_history
from tests.serving.conftest import bare, changed, options_for
from tests.serving.shop import END, make_shop

READ = {"own_frequency", "item_knn", "transitions", "covisitation", "content", "recent_popularity", "popularity"}


def ticking(step: float) -> Callable[[], float]:
    """A clock on which every look takes `step` seconds."""
    now = 0.0

    def look() -> float:
        nonlocal now
        now += step
        return now

    return look


def known(sources: float, rank: float, finish: float) -> Costs:
    """Steps that took so long, once."""
    costs = Costs()
    for step, seconds in ((Step.SOURCES, sources), (Step.RANK, rank), (Step.FINISH, finish)):
        costs.took(step, seconds)
    return costs


def deadline(seconds: float, costs: Costs, step: float = 0.0) -> Deadline:
    return Deadline(seconds, costs, reply=0.0, clock=ticking(step))


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The literal shop, with a ranker of two trees."""

    def learned(folder: Path, sources: list[str]) -> None:
        rows = np.random.default_rng(1).random((20, 20, len(NAMES))).astype(np.float32)
        grades = np.zeros((20, 20), np.int8)
        grades[np.arange(20), rows[:, :, NAMES.index("own_frequency.score")].argmax(1)] = GRADES
        data = TrainingSet(rows.reshape(-1, len(NAMES)), grades.ravel(), np.full(20, 20, np.int32), np.ones(20), 0)
        grow([data], 2, load_pipeline().ranker.model_copy(update={"rows_per_leaf": 10})).write(folder, sources, {})

    return Release.open(make_shop(tmp_path_factory.mktemp("shop"), ranker=learned).current)


def page(release: Release, k: int, within: Deadline | None, sources: tuple[Source, ...] | None = None) -> Answer:
    history = made_up_history(np.array([0, 7, 13], np.int32), END)
    return answer(release, Request(Query(END, history=history), k, deadline=within), sources)


def same(a: Answer, b: Answer) -> bool:
    return a.rows.tolist() == b.rows.tolist() and a.scores.tobytes() == b.scores.tobytes() and a.sources == b.sources


def test_costs_are_what_nine_in_ten_stay_below() -> None:
    costs, rng = Costs(), np.random.default_rng(1)
    assert costs.of(Step.RANK) == 0.002
    seen = []
    for seconds in rng.exponential(size=6_000).tolist():
        costs.took(Step.RANK, seconds)
        seen.append(costs.of(Step.RANK))
    # of an exponential: ln 10; the estimate moves around it
    assert np.median(seen) == pytest.approx(np.log(10), rel=0.15)


def test_a_bad_moment_is_forgotten_though_nothing_is_measured_meanwhile() -> None:
    costs = Costs()
    costs.took(Step.SOURCES, 0.001)
    costs.took(Step.SOURCES, 10.0)
    assert costs.of(Step.SOURCES) == pytest.approx(0.001 * np.exp(0.45))  # one says little
    for _ in range(20):
        costs.took(Step.SOURCES, 10.0)
    assert costs.of(Step.SOURCES) > 5
    for _ in range(200):
        costs.took(Step.SOURCES, None)  # left out
    assert costs.of(Step.SOURCES) < 0.001  # exp(-10) of it


def test_a_wide_deadline_changes_nothing(release: Release) -> None:
    usual, wide = page(release, 10, None), page(release, 10, deadline(10.0, known(1.0, 1.0, 1.0)))
    assert same(usual, wide)
    assert wide.features is not None
    assert (usual.missed, wide.missed) == (None, None)


def test_a_watched_answer_in_time_is_the_same(release: Release) -> None:
    # 4 s are less than three times the usual 2.4: each source looks at the clock, and finds it early
    assert same(page(release, 10, None), page(release, 10, deadline(4.0, known(0.8, 0.8, 0.8))))


def test_first_the_ranker_gives_way(release: Release) -> None:
    hurried = page(release, 10, deadline(2.0, known(0.1, 1.5, 1.0)))
    blended = page(replace(release, scorer=None), 10, None)
    assert hurried.missed is Failure.DEADLINE_RANKER
    assert hurried.features is None
    assert hurried.rows.tolist() == blended.rows.tolist()
    assert hurried.level is Level.WARM


def test_then_sources_fall_silent(release: Release) -> None:
    # each look at the clock takes 0.1 s: of the 1.4 s until the stop, some sources use up all
    few = page(release, 10, deadline(2.0, known(0.2, 0.5, 0.5), step=0.1))
    assert few.missed is Failure.DEADLINE_SOURCES
    spoke = {
        name for name, ranks in zip(few.candidates.sources, few.candidates.ranks.T, strict=True) if (ranks >= 0).any()
    }
    assert 0 < len(spoke) < len(READ)
    assert len(few.rows) == 10


def test_with_no_time_popular_items_are_the_page(release: Release) -> None:
    none = page(release, 10, deadline(0.0, known(0.1, 0.1, 0.1)))
    assert (none.missed, none.level) == (Failure.DEADLINE_POPULAR, Level.POPULAR)
    assert none.sources == (FILL,) * 10
    assert none.rows.tolist() == [r for r in release.fill.tolist() if release.available[r]][:10]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 30),
    st.lists(st.integers(0, 17), max_size=17),
    st.floats(0, 3),
    st.booleans(),
    st.sampled_from([0, 0.1]),
)
def test_the_page_is_full_unless_the_catalogue_has_no_more(
    release: Release, k: int, excluded: list[int], seconds: float, history: bool, step: float
) -> None:
    """Whatever is excluded, and however little time there is."""
    rows = made_up_history(np.array([0, 7], np.int32), END) if history else made_up_history(np.empty(0, np.int32), END)
    request = Request(Query(END, history=rows), k, excluded=np.array(sorted(set(excluded)), np.int32))
    for within in (None, deadline(seconds, known(0.5, 0.5, 0.5), step)):
        found = answer(release, replace(request, deadline=within))
        there = [r for r in np.flatnonzero(release.available).tolist() if r not in excluded]
        assert len(found.rows) == len(set(found.rows.tolist())) == min(k, len(there))
        assert set(found.rows.tolist()) <= set(there)


def test_a_near_deadline_is_answered_in_time_and_says_why(shop: Work, redis_url: str) -> None:
    # more than the caller's two seconds is kept for the way back: no time for anything, and an answer nevertheless
    config = changed(bare(), "server", reply_ms=3_000.0)
    process = ServingProcess(options_for(shop, redis_url, config))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=2) as near, Client(f"127.0.0.1:{process.port}", timeout=60) as far:
        hurried = near.recommend(RecommendRequest(user_id="ann", page_size=10))
        assert (hurried.degraded, hurried.fallback_reason) == (True, "deadline-state")
        assert (hurried.level, len(hurried.results)) == ("popular", 10)
        assert all(r.reasons for r in hurried.results)
        listed = near.rank(RankRequest(user_id="ann", item_ids=["tea-1", "cup-1"]))
        assert (listed.fallback_reason, len(listed.results)) == ("deadline-state", 2)
        alike = near.similar(SimilarItemsRequest(item_ids=["tea-1"]))
        assert (alike.degraded, alike.fallback_reason, len(alike.results)) == (True, "deadline-popular", 0)
        usual = far.recommend(RecommendRequest(user_id="ann", page_size=10))
        assert (usual.degraded, usual.level) == (False, "warm")
        assert dict(far.status().degraded) == {"deadline-state": 2, "deadline-popular": 1}
    process.stop()


def test_a_slow_redis_is_waited_for_no_longer_than_the_caller_does(shop: Work, tmp_path: Path) -> None:
    own = EmbeddedRedis(tmp_path / "redis")
    own.launch()
    own.wait()
    # Redis may take ten seconds, the caller takes four, of which two are for the way back
    config = changed(changed(bare(), "redis", read_deadline_ms=10_000.0), "server", reply_ms=2_000.0)
    process = ServingProcess(options_for(shop, own.url, config))
    process.start()
    assert own.pid is not None
    os.kill(own.pid, signal.SIGSTOP)
    try:
        with Client(f"127.0.0.1:{process.port}", timeout=4) as ask:
            found = ask.recommend(RecommendRequest(user_id="ann", page_size=10))
            assert found.fallback_reason == "deadline-state"
            assert found.stage_latency_ms["hydrate"] < 2_500
            assert len(found.results) == 10
    finally:
        os.kill(own.pid, signal.SIGCONT)
    with Client(f"127.0.0.1:{process.port}", timeout=60) as ask:  # and nothing is held against it
        assert not ask.recommend(RecommendRequest(user_id="ann")).degraded
    process.stop()
    own.stop()
