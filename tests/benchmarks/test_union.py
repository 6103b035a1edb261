"""The union's figures on lists that a reader can follow, and its quotas against those of the request path."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.union import filled, measured, page_quotas, shares, unite
from core.candidates import Candidates
from core.config import load_pipeline
from core.history import Query
from core.ids import NO_ROW
from evaluation.relevance import Relevance
from pipeline.twin import release_settings
from retrieval.sources.popularity import Popularity
from serving.request_path import quotas_of

NONE = np.empty(0, np.int32)


def source(name: str, scores: list[float]) -> Popularity:
    """A source that proposes the rows with a score above 0, best first."""
    values = np.array(scores, np.float32)
    order = np.argsort(-values, kind="stable")
    kind: type[Popularity] = type(name, (Popularity,), {"name": name})
    return kind(order[values[order] > 0].astype(np.int32), values)


def test_shares_by_hand() -> None:
    no = NO_ROW
    # rows 1, 4, 6, 8; source one proposes 1 and 4, source two 4 and 8, row 6 came from neither
    ranks = np.array([[0, no], [1, 0], [no, no], [no, 1]], np.int32)
    candidates = Candidates(np.array([1, 4, 6, 8], np.int32), ("one", "two"), np.zeros((4, 2), np.float32), ranks)
    found, own, lost = shares(candidates, np.array([1, 4, 8, 9]))
    # of the four wanted rows three are there; each source proposes two of them, and one that the other lacks
    assert (found, own.tolist(), lost.tolist()) == (0.75, [0.5, 0.5], [0.25, 0.25])


def test_a_union_of_two_sources_by_hand() -> None:
    sources = (source("one", [0, 3, 2, 1, 0]), source("two", [4, 0, 2, 0, 0]))
    # first query: one proposes 1 and 2, two proposes 0; second query: row 1 is excluded, so one proposes 2 and 3
    asked = [(Query(0), NONE), (Query(0), np.array([1], np.int32))]
    relevance = Relevance.of(np.array([0, 0, 1]), np.array([0, 4, 3]), np.ones(3), 2)
    found = unite(sources, {"one": 2, "two": 1}, {"one": 1.0, "two": 1.0}, asked, relevance)
    assert found.sizes.tolist() == [3, 3]
    assert found.recall.tolist() == [0.5, 1.0]
    assert {n: v.tolist() for n, v in found.alone.items()} == {"one": [0, 1], "two": [0.5, 0]}
    assert {n: v.tolist() for n, v in found.lost.items()} == {"one": [0, 1], "two": [0.5, 0]}
    # the blend divides each source by its best: row 2 gets 2/3 + 2/4, rows 0 and 1 get 1; so 2, 0, 1 and the wanted row 0 is second
    ideal = 1 + 1 / np.log2(3)
    assert found.measured[0] == pytest.approx([1 / np.log2(3) / ideal, 1, 0.5, 0.5])
    means = found.means()
    assert (means["recall"], means["size_p50"], means["recall@500"]) == (0.75, 3, 0.75)


def test_a_page_is_filled_up_with_what_is_popular() -> None:
    popular = source("popularity", [5, 4, 3, 2])
    rows = filled(np.array([2], np.int32), popular, Query(0), np.array([1], np.int32))
    assert rows.tolist() == [2, 0, 3]  # row 1 is excluded, row 2 is there
    full = np.arange(500, dtype=np.int32)
    assert filled(full, popular, Query(0), NONE) is full
    # asked for one item each, the union lacks row 3; its page does not
    sources = (source("one", [0, 3, 0, 0]), popular)
    relevance = Relevance.of(np.array([0]), np.array([3]), np.ones(1), 1)
    found = unite(sources, {"one": 1, "popularity": 1}, {"one": 1.0, "popularity": 1.0}, [(Query(0), NONE)], relevance)
    assert (found.recall.tolist(), found.measured[0, 3]) == ([0.0], 1.0)


def test_metrics_of_answers() -> None:
    relevance = Relevance.of(np.array([0, 1]), np.array([7, 2]), np.ones(2), 2)
    answers = [np.arange(8, dtype=np.int32), np.array([5], np.int32)]
    # row 7 stands in the eighth place, which counts 1 / log2(9); the second answer lacks row 2
    assert measured(answers, relevance) == pytest.approx(np.array([[1 / np.log2(9), 1, 1, 1], [0, 0, 0, 0]]))


@pytest.mark.parametrize("k", [1, 20, 167, 500])
def test_the_quotas_are_those_of_the_request_path(k: int, tmp_path: Path) -> None:
    config, quotas = load_pipeline(), {"own": 75, "other": 200}
    (tmp_path / "weights.json").write_text("{}")
    (tmp_path / "quotas.json").write_text(json.dumps(quotas))
    sources = tuple(source(name, [1.0]) for name in quotas)
    assert page_quotas(quotas, config.sources, k) == quotas_of(release_settings(tmp_path, config), sources, k)
