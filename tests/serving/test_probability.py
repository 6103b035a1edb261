"""Probabilities in answers: the calibrated ranker's, of what it scored and of nothing else; and contributions that add up on a whole page."""

# bazel: size=medium

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aisle.v1.recommender_pb2 import ExplainRequest, RankRequest, RecommendRequest, SimilarItemsRequest
from core.config import load_pipeline
from ranking.calibration import Calibration, Curve
from ranking.feature_list import NAMES
from ranking.scorer import MODEL
from ranking.train import GRADES, TrainingSet, grow
from serving.client import Client
from serving.config import ServingConfig
from serving.process import ServingProcess
from tests.serving.conftest import options_for
from tests.serving.shop import TITLES, make_shop

# log-odds are 2 * score - 3 for who is warm, and score for all others
CURVES = Calibration(
    "logistic", Curve(np.zeros(1), np.zeros(1), 1.0), {"warm": Curve(np.zeros(1), np.array([-3.0]), 2.0)}
)


def learned(folder: Path, sources: list[str]) -> None:
    """A ranker of a few trees that likes a great `own_frequency.score` and popularity, and its calibration."""
    rng = np.random.default_rng(1)
    # all else stays 0: a tree that splits on chance may split on the time of day, and answer differently a moment later
    rows = np.zeros((60, 20, len(NAMES)), np.float32)
    own, popular = (rng.random((60, 20)) for _ in range(2))
    rows[:, :, NAMES.index("own_frequency.score")], rows[:, :, NAMES.index("popularity.score")] = own, popular
    liked = own + 0.3 * popular
    grades = np.zeros((60, 20), np.int8)
    grades[np.arange(60), liked.argmax(1)] = GRADES
    data = TrainingSet(rows.reshape(-1, len(NAMES)), grades.ravel(), np.full(60, 20, np.int32), np.ones(60), 0)
    config = load_pipeline().ranker.model_copy(update={"rows_per_leaf": 10})
    grow([data], 10, config).write(folder, sources, {})
    CURVES.write(folder, folder / MODEL)


@pytest.fixture
def ranked(tmp_path: Path, redis_url: str, config: ServingConfig) -> Iterator[Client]:
    process = ServingProcess(options_for(make_shop(tmp_path, ranker=learned), redis_url, config))
    process.start()
    with Client(f"127.0.0.1:{process.port}", timeout=20) as connected:
        yield connected
    process.stop()


def chance(log_odds: float) -> float:
    return float(1 / (1 + np.exp(-log_odds)))


def test_of_what_the_ranker_scored(ranked: Client) -> None:
    """ann is warm, cid has bought once, and a stranger nothing: the curve of the level, else that of all."""
    for person, level in (("ann", "warm"), ("cid", "short-history"), ("", "popular")):
        page = ranked.recommend(RecommendRequest(user_id=person, page_size=500, explain=True))
        assert page.level == level
        for r in page.results:
            assert r.HasField("probability") == (r.source != "fill")
            if r.HasField("probability"):
                assert r.probability == pytest.approx(chance(2 * r.score - 3 if level == "warm" else r.score), rel=1e-5)
                assert sum(r.score_parts.values()) == pytest.approx(r.score, abs=1e-4)
        listed = ranked.rank(RankRequest(user_id=person, item_ids=sorted(TITLES), explain=True)).results
        assert len(listed) == len(TITLES)
        for r in listed:
            assert r.probability == pytest.approx(chance(2 * r.score - 3 if level == "warm" else r.score), rel=1e-5)
            assert sum(r.score_parts.values()) == pytest.approx(r.score, abs=1e-4)
        assert [r.probability for r in listed] == sorted((r.probability for r in listed), reverse=True)


def test_a_least_probability_shortens_the_page(ranked: Client) -> None:
    everything = ranked.recommend(RecommendRequest(user_id="ann", page_size=500))
    chances = {r.item_id: r.probability for r in everything.results if r.HasField("probability")}
    least = sorted(chances.values())[len(chances) // 2]
    asked = RecommendRequest(user_id="ann", page_size=500, min_score=least)
    found = ranked.recommend(asked)
    assert [r.item_id for r in found.results] == [
        r.item_id for r in everything.results if chances.get(r.item_id, 0) >= least
    ]
    assert 0 < len(found.results) < len(chances)
    assert not found.degraded
    unlikely = min(chances, key=lambda item: chances[item])
    why = ranked.explain(ExplainRequest(request=asked, item_id=unlikely))
    assert why.outcome == "unlikely"
    assert why.probability == pytest.approx(chances[unlikely], rel=1e-5)
    assert len(ranked.recommend(RecommendRequest(user_id="ann", min_score=1)).results) == 0
    # on a further page probabilities are those of the list's order
    first = ranked.recommend(RecommendRequest(user_id="ann", page_size=4, list_size=17))
    more = ranked.recommend(RecommendRequest(user_id="ann", page_size=13, page_token=first.next_page_token))
    both = [(r.item_id, r.probability) for r in [*first.results, *more.results]]
    assert both == [(r.item_id, r.probability) for r in everything.results]


def test_without_a_calibrated_ranker_the_answer_says_so(ask: Client) -> None:
    found = ask.recommend(RecommendRequest(user_id="ann", min_score=0.9))
    assert (len(found.results), found.degraded, found.fallback_reason) == (10, True, "uncalibrated")


def test_explain_says_it_of_what_is_below_the_page(ranked: Client) -> None:
    asked = RecommendRequest(user_id="ann", page_size=2)
    shown = {r.item_id: r.probability for r in ranked.recommend(asked).results}
    below = 0
    for item in TITLES:
        found = ranked.explain(ExplainRequest(request=asked, item_id=item))
        assert found.HasField("probability") == (found.ranked_by == "ranker")
        if item in shown:
            assert found.probability == pytest.approx(shown[item], rel=1e-5)
        below += found.outcome == "below-page" and found.HasField("probability")
    assert below > 0


def test_similar_items_are_no_guess_about_anybody(ranked: Client) -> None:
    results = ranked.similar(SimilarItemsRequest(item_ids=["tea-1"])).results
    assert results
    assert not any(r.HasField("probability") for r in results)


def test_the_blend_says_none(ask: Client) -> None:
    assert not any(r.HasField("probability") for r in ask.recommend(RecommendRequest(user_id="ann")).results)
    assert not ask.explain(ExplainRequest(request=RecommendRequest(user_id="ann"), item_id="tea-1")).HasField(
        "probability"
    )
