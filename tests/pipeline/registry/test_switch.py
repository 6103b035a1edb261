"""Promote and rollback: checked first, all servers or none, written down."""

# bazel: size=medium

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aisle.v1.recommender_pb2 import RecommendRequest
from core.errors import ArtifactError, GateRefused, NotFoundError
from core.held import alone
from core.work import Work
from pipeline.registry import history
from pipeline.registry.find import named
from pipeline.registry.switch import Switched, promote, rollback
from serving.client import Client, ServerError
from serving.config import ServingConfig
from serving.process import ServingProcess
from tests.pipeline.registry.two_nights import PASSED, REFUSED, names, variant
from tests.serving.conftest import bare, options_for, redis_of_session, redis_url  # noqa: F401 - fixtures
from tests.waiting import until


@pytest.fixture
def server(nights: Work, redis_url: str) -> Iterator[str]:  # noqa: F811
    config: ServingConfig = bare()
    process = ServingProcess(options_for(nights, redis_url, config))
    process.start()
    yield f"127.0.0.1:{process.port}"
    process.stop()


def go(work: Work, name: str, *servers: str, force: bool = True) -> Switched:
    return promote(work, named(Path(name), work.root), servers, "test", lambda _: None, force=force)


def back(work: Work, *servers: str) -> Switched:
    return rollback(work, servers, "test", lambda _: None)


def answers(server: str) -> str:
    """The release that a page comes from; none is degraded."""
    with Client(server, timeout=20) as client:
        page = client.recommend(RecommendRequest(user_id="ann"))
    assert not page.fallback_reason
    return str(page.release)


def test_promote_and_rollback_hold_when_they_return(nights: Work, server: str) -> None:
    first, second = names(nights)
    assert answers(server) == second
    done = go(nights, first, server)
    assert (done.release, done.previous, done.servers[0].user_state) == (first, second, True)
    assert (answers(server), history.current(nights)) == (first, first)
    done = back(nights, server)
    assert (done.release, done.previous) == (second, first)
    assert (answers(server), history.current(nights)) == (second, second)
    assert [c.action for c in history.read(nights)][-2:] == [history.PROMOTE, history.ROLLBACK]
    assert back(nights).release == first  # the night before that


def test_a_server_lets_go_of_the_release_before(nights: Work, server: str) -> None:
    """What it answered with is held by nobody after the swap, or `prune` could never remove it; what it answers with is."""
    first, second = names(nights)
    assert not unheld(nights, second)
    go(nights, first, server)
    until(lambda: unheld(nights, second))
    assert not unheld(nights, first)


def unheld(work: Work, name: str) -> bool:
    with alone(work.releases / name) as free:
        return free


def test_a_server_that_is_not_there_leaves_all_as_it_was(nights: Work, server: str) -> None:
    first, second = names(nights)
    with pytest.raises(ServerError, match="no server answers"):
        go(nights, first, server, "127.0.0.1:1")
    assert (answers(server), history.current(nights)) == (second, second)
    assert history.read(nights)[-1].to == second


def test_a_night_that_was_refused_needs_force(nights: Work) -> None:
    of = names(nights)[0]
    refused, passed, silent = (
        variant(nights, of, name, gates).name for name, gates in (("r", REFUSED), ("p", PASSED), ("s", None))
    )
    with pytest.raises(GateRefused, match=r"not promoted: popularity: NDCG@10 .* --force"):
        go(nights, refused, force=False)
    with pytest.raises(GateRefused, match="no record of gates"):
        go(nights, silent, force=False)
    assert go(nights, passed, force=False).release == passed
    assert go(nights, refused, force=True).previous == passed


def test_what_is_not_whole_is_not_promoted(nights: Work) -> None:
    first, second = names(nights)
    scores = nights.releases / first / "sources" / "popularity" / "scores.npy"
    found = bytearray(scores.read_bytes())
    found[-1] ^= 1
    scores.write_bytes(found)
    with pytest.raises(ArtifactError, match=r"popularity/scores\.npy: sha256"):
        go(nights, first)
    with pytest.raises(ArtifactError, match=r"popularity/scores\.npy: sha256"):
        back(nights)  # its stamp does not fit any more
    assert history.current(nights) == second


def test_without_its_user_state_it_is_not_promoted(nights: Work) -> None:
    first = names(nights)[0]
    state = nights.user_state(named(Path(first), nights.root).window_end)
    state.rename(state.with_name("0"))
    with pytest.raises(NotFoundError, match=f"the user state of {first} is not there"):
        go(nights, first)


def test_nothing_to_roll_back_to(nights: Work) -> None:
    (nights.releases / history.FILE).unlink()
    with pytest.raises(NotFoundError, match=r"names no release before .* promote NAME"):
        back(nights)
