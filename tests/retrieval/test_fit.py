"""The stage: what it leaves, when it is skipped, and that the cuts are kept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.artifact import open_artifact, verify
from core.candidates import gather
from core.config import load_pipeline
from core.errors import ArtifactError
from core.history import Query
from core.prepared import CHOOSE, FULL, LAST_TRAIN, TRAIN, TWIN, Prepared
from core.work import Work
from retrieval import fit
from retrieval.known import Known
from retrieval.quotas import read_quotas
from retrieval.requests import choosing_requests, later_requests, past_requests
from retrieval.sources import SOURCES, TOWERS, open_sources
from retrieval.sources.popularity import Popularity
from retrieval.weights import Cases, choose_weights
from tests.prepared_fixture import Row, make_prepared
from tests.retrieval.laws import CUTS, NONE, PURCHASE, SourceLaws, attributes, folder, prepared, queries, shop_rows

__all__ = ["folder", "prepared", "queries"]  # fixtures

_DEFAULTS = load_pipeline()
# small towers: what is tested here is the stage
_SMALL = {"dimensions": 8, "events": 8, "blocks": 0, "epochs": 1, "final_epochs": 1, "uniform_negatives": 8}
CONFIG = _DEFAULTS.model_copy(update={"towers": _DEFAULTS.towers.model_copy(update=_SMALL)})
EVERY = [TOWERS, *SOURCES]


def quiet(text: str) -> None:
    """Say nothing."""


@pytest.fixture
def work(tmp_path: Path) -> Work:
    made = make_prepared(tmp_path, shop_rows(), cuts=CUTS, columns=attributes(), pairs=True, repeat_share=0.3)
    work = Work(tmp_path / "work")
    place = work.stage("prepare", "one")
    place.parent.mkdir(parents=True)
    shutil.move(made.path, place)
    work.set_latest("prepare", "one")
    return work


def test_the_stage_leaves_one_folder_a_cut_and_the_weights(work: Work) -> None:
    path = fit.run(work, CONFIG, quiet)
    assert path == work.latest(fit.STAGE)
    manifest = open_artifact(path, kind="retrieval", format_version=fit.FORMAT_VERSION)
    assert manifest.parents == {"prepared": "fixture"}
    verify(path)
    assert sorted(p.name for p in path.iterdir() if p.is_dir()) == ["choose", "full", "train", "twin"]
    for fold in (TRAIN, TWIN, FULL):
        assert [s.name for s in open_sources(path / fold.name)] == EVERY
        header = json.loads((path / fold.name / "sources.json").read_bytes())
        assert (header["prepared"], header["fold"]) == ("fixture", fold.name)
    # 30 items: they all fit
    assert read_quotas(path) == manifest.about["quotas"] == dict.fromkeys(EVERY, 30)
    assert "sources.use" in {d["setting"] for d in manifest.about["decisions"]}
    weights = json.loads((path / "weights.json").read_bytes())
    assert set(weights) == set(EVERY)
    assert max(weights.values()) == 1


def test_the_stage_is_skipped_until_its_inputs_change(work: Work) -> None:
    first = fit.run(work, CONFIG, quiet)
    made = first.stat().st_mtime_ns
    assert fit.run(work, CONFIG, quiet).stat().st_mtime_ns == made
    other = CONFIG.model_copy(update={"sources": CONFIG.sources.model_copy(update={"recent_days": 3.0})})
    assert fit.run(work, other, quiet) != first


def test_protocol_last_on_demand(work: Work) -> None:
    path = fit.run_last(work, CONFIG, quiet)
    open_artifact(path, kind="retrieval-last", format_version=fit.FORMAT_VERSION)
    assert sorted(p.name for p in path.iterdir() if p.is_dir()) == ["last-train", "last-twin"]


def test_a_folder_without_sources_and_one_of_another_version_are_refused(work: Work, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"sources\.json"):
        open_sources(tmp_path)
    (tmp_path / "sources.json").write_text(json.dumps({"sources": [{"name": "popularty"}]}))
    with pytest.raises(ArtifactError, match=r"unknown source 'popularty'; did you mean 'popularity'"):
        open_sources(tmp_path)


class Leaky(Popularity):
    """A planted leak: popularity of everything, whatever the cut."""

    name = "leaky"

    @classmethod
    def fit(cls, known: Known) -> Leaky:
        return super().fit(Known(known.prepared, FULL, known.config))


def test_a_source_that_peeks_beyond_the_cut_is_caught(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SOURCES, "leaky", Leaky)
    Leaky.fit(Known(prepared, TWIN, CONFIG.sources)).write(tmp_path / "twin")
    laws: Any = SourceLaws()
    laws.name = "leaky"
    with pytest.raises(AssertionError):
        laws.test_times_law_another_future_changes_nothing(tmp_path / "twin", tmp_path)
    with pytest.raises(AssertionError):
        laws.test_times_law_what_comes_later_is_not_proposed(tmp_path / "later")


def test_past_requests_of_the_timeline(tmp_path: Path) -> None:
    # ann is known before Tv = 20 and chooses b (twice) and c in [20, 30); bob comes new; cid is a visitor; d is chosen after T2
    rows: list[Row] = [("u:ann", "a", PURCHASE, 5), ("v:cid", "a", PURCHASE, 6)]
    rows += [("u:ann", i, PURCHASE, t) for i, t in (("b", 20), ("c", 21), ("b", 22), ("a", 23), ("d", 31))]
    rows += [("u:bob", "b", PURCHASE, 21), ("v:cid", "b", PURCHASE, 21)]
    prepared = make_prepared(tmp_path, rows, cuts=(0, 10, 20, 30, 40))
    (kept,) = past_requests(prepared, CHOOSE, remove_seen=False, history_events=9, most=9, seed=1)
    assert (kept.query.time, kept.query.history.items.tolist()) == (20, [0])
    assert kept.relevant.tolist() == [0, 1, 2]
    (removed,) = past_requests(prepared, CHOOSE, remove_seen=True, history_events=9, most=9, seed=1)
    assert (removed.relevant.tolist(), removed.excluded.tolist()) == ([1, 2], [0])


def test_people_who_come_once_are_asked_within_the_window(tmp_path: Path) -> None:
    # window [20, 30). bob is new: a and b at 21, c at 22, so he asks at 22. cid, a visitor, at 24 and at 25. eve comes once: no later moment. fay chooses
    # again only what she has: with seen items removed there is nothing to find. What follows T2 is no answer.
    rows: list[Row] = [("u:bob", "a", PURCHASE, 21), ("u:bob", "b", PURCHASE, 21), ("u:bob", "c", PURCHASE, 22)]
    rows += [("v:cid", "a", PURCHASE, 23), ("v:cid", "b", PURCHASE, 24), ("v:cid", "c", PURCHASE, 25)]
    rows += [("u:eve", "a", PURCHASE, 26), ("u:eve", "b", PURCHASE, 31)]
    rows += [("u:fay", "a", PURCHASE, 27), ("u:fay", "a", PURCHASE, 28)]
    prepared = make_prepared(tmp_path, rows, cuts=(0, 10, 20, 30, 40))

    def asked(remove_seen: bool, most: int = 9) -> list[tuple[int, list[int], list[int]]]:
        found = later_requests(prepared, CHOOSE, remove_seen=remove_seen, history_events=9, most=most, seed=1)
        return [(r.query.time, r.query.history.items.tolist(), r.relevant.tolist()) for r in found]

    bob, fay, cid = (22, [0, 1], [2]), (28, [0], [0]), [(24, [0], [1, 2]), (25, [0, 1], [2])]
    assert asked(remove_seen=False) == [bob, fay, *cid]
    assert asked(remove_seen=True) == [bob, *cid]
    assert len(asked(remove_seen=False, most=2)) == 2
    # nobody was known at the cut, so these are what quotas and weights are chosen on
    chosen = choosing_requests(prepared, CHOOSE, remove_seen=False, history_events=9, most=9, seed=1)
    assert [r.query.time for r in chosen] == [22, 28, 24, 25]


def test_past_requests_of_sequences(tmp_path: Path) -> None:
    # ann: a b c d: the second-last is c, asked right before it; nobody chose c before, so it is no question. bob: a c b: asks before c, too.
    # dan: c b a: asks before b, which ann chose in her known part
    rows: list[Row] = []
    for person, items in (("ann", "abcd"), ("bob", "acb"), ("dan", "cba")):
        rows += [(f"u:{person}", i, PURCHASE, t) for t, i in enumerate(items, 1)]
    prepared = make_prepared(tmp_path, rows, cuts=(0, 9, 9, 9, 9))
    asked = past_requests(prepared, LAST_TRAIN, remove_seen=True, history_events=9, most=9, seed=1)
    assert [(r.query.user, r.query.history.items.tolist(), r.relevant.tolist()) for r in asked] == [
        (0, [0, 1], [2]),  # c is known: dan's first
        (1, [0], [2]),
        (2, [2], [1]),
    ]


def cases(scores: list[list[list[float]]], relevant: list[list[int]]) -> Cases:
    array = np.array(scores, np.float32)
    hits = np.array(relevant, bool)
    return Cases(array, np.ones(hits.shape, bool), hits, np.ones(len(hits)))


def test_weights_prefer_the_source_that_is_right() -> None:
    # two requests, two candidates, two sources; the first source always puts the wrong one first
    c = cases([[[1, 0.2], [0.1, 1]], [[0.1, 1], [1, 0.2]]], [[0, 1], [1, 0]])
    weights, ndcg = choose_weights(c, ["wrong", "right"])
    assert weights["right"] == 1
    assert weights["wrong"] < 1
    assert ndcg == 1
    assert c.ndcg(np.array([1.0, 0.0])) == pytest.approx(1 / np.log2(3))


def test_weights_mix_what_is_right_together() -> None:
    # the relevant one is second for either source and first for their sum
    c = cases([[[1, 0], [0, 1], [0.8, 0.8]]], [[0, 0, 1]])
    weights, ndcg = choose_weights(c, ["a", "b"])
    assert ndcg == 1
    assert min(weights.values()) > 0.2


def test_ndcg_of_more_candidates_than_places_counts_the_first_ten() -> None:
    # 30 candidates in the order of their scores; relevant are the 3rd and the 12th: 1 / log2(4) of an ideal of 1
    scores = [[[1 - n / 100] for n in range(30)]]
    c = cases(scores, [[int(n in (2, 11)) for n in range(30)]])
    assert c.ndcg(np.array([1.0])) == pytest.approx(0.5)


def test_weights_without_requests_are_equal() -> None:
    empty = Cases(np.zeros((0, 0, 2), np.float32), np.zeros((0, 0), bool), np.zeros((0, 0), bool), np.zeros(0))
    weights, ndcg = choose_weights(empty, ["a", "b"])
    assert weights == {"a": 1.0, "b": 1.0}
    assert np.isnan(ndcg)


def test_cases_are_the_candidates_of_the_request_path(work: Work) -> None:
    prepared = Prepared(work.latest("prepare"))
    sources = open_sources(fit.run(work, CONFIG, quiet) / "train")
    requests = past_requests(prepared, TRAIN, remove_seen=False, history_events=99, most=5, seed=1)
    quotas = dict.fromkeys(EVERY, 20)
    c = Cases.of(sources, quotas, requests)
    for q, r in enumerate(requests):
        candidates = gather(sources, quotas, r.query, r.excluded)
        assert c.filled[q].sum() == len(candidates)
        assert c.relevant[q].sum() == len(np.intersect1d(candidates.rows, r.relevant))
    assert c.scores.max() == 1


def test_fewer_requests_than_asked_for_and_a_stranger(work: Work) -> None:
    sources = open_sources(fit.run(work, CONFIG, quiet) / "full")
    stranger = gather(sources, dict.fromkeys(EVERY, 50), Query(time=2000), NONE)
    assert len(stranger) == 30  # popularity still answers
