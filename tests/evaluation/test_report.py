import json
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.candidates import Candidates
from core.config import EvaluationConfig
from core.ids import NO_ROW
from core.prepared import TWIN, Prepared
from core.schema import DAY
from evaluation.catalogue import Catalogue
from evaluation.funnel import joined, look
from evaluation.judgements import judge
from evaluation.metrics import find
from evaluation.report import METRICS, answered, measure, summary, table
from tests.evaluation.cases import answers
from tests.prepared_fixture import Row, make_prepared

CUTS = [d * DAY for d in (0, 10, 20, 30, 40)]
CONFIG = EvaluationConfig(seed=7, max_queries=1000, bootstrap_samples=200, confidence=0.95, seen="auto")
BUY = "purchase-complete"


@pytest.fixture
def prepared(tmp_path: Path) -> Prepared:
    """Items a=0 .. e=4; ann=0 wants b and e (new), bob=1 wants a; cat=2 is new and wants b."""
    days = [
        ("u:ann", "a", 1), ("u:ann", "c", 2), ("u:bob", "a", 3), ("u:bob", "d", 4), ("u:bob", "b", 5),
        ("u:ann", "b", 31), ("u:ann", "e", 32), ("u:bob", "a", 33), ("u:cat", "b", 34),
    ]  # fmt: skip
    rows: list[Row] = [(u, i, BUY, d * DAY) for u, i, d in days]
    return make_prepared(tmp_path, rows, cuts=CUTS)


def judged(prepared: Prepared, **more: Any) -> dict[str, Any]:
    ours = answers([1, 2], [3, 0], [1])  # ann: b first; bob: a second; cat: b first
    theirs = answers([0], [0], [0])  # popularity: a for everyone
    j, c = judge(prepared, TWIN, "keep"), Catalogue.of(prepared, TWIN)
    return summary(j, ours, {"popularity": theirs}, c, CONFIG, **more)


def test_the_main_figure_by_hand(prepared: Prepared) -> None:
    result = judged(prepared)
    ann, bob = 1 / (1 + 1 / log2(3)), 1 / log2(3)
    assert (result["queries"], result["seen"]) == (2, "keep")
    assert result["ndcg@10"] == pytest.approx((ann + bob) / 2, abs=1e-6)
    assert result["hit@10"] == 1
    assert result["recall@100"] == result["recall@500"] == (1 / 2 + 1) / 2
    assert result["mrr@10"] == (1 + 1 / 2) / 2
    # of two queries a bootstrap draws one twice often enough: the interval spans both
    low, high = result["intervals"]["ndcg@10"]
    assert (low, high) == pytest.approx((min(ann, bob), max(ann, bob)), abs=1e-6)


def test_baselines_have_the_same_metrics_and_a_paired_difference(prepared: Prepared) -> None:
    result = judged(prepared)
    popularity = result["baselines"]["popularity"]
    assert popularity["ndcg@10"] == (0 + 1) / 2
    assert set(METRICS) <= set(popularity)
    ann, bob = 1 / (1 + 1 / log2(3)) - 0, 1 / log2(3) - 1
    difference = popularity["ndcg@10_difference"]
    assert difference["mean"] == pytest.approx((ann + bob) / 2, abs=1e-6)
    assert (difference["low"], difference["high"]) == pytest.approx((bob, ann), abs=1e-6)


def test_cohorts_stand_apart_from_the_main_figure(prepared: Prepared) -> None:
    cohorts = judged(prepared)["cohorts"]
    assert (cohorts["new_users"]["queries"], cohorts["new_users"]["ndcg@10"]) == (1, 1.0)
    assert (cohorts["new_items"]["queries"], cohorts["new_items"]["ndcg@10"]) == (1, 0.0)  # ann's e
    assert cohorts["new_users"]["intervals"]["hit@10"] == [1, 1]


def test_segments_hold_the_main_queries(prepared: Prepared) -> None:
    result = judged(prepared, by_query={"level": np.array(["warm", "short", "popular"])})
    segments = result["segments"]
    assert {k: v["queries"] for k, v in segments["history_length"].items()} == {"2-4": 2}
    assert segments["history_length"]["2-4"]["ndcg@10"] == result["ndcg@10"]
    assert {k: v["queries"] for k, v in segments["level"].items()} == {"short": 1, "warm": 1}  # cat is no main query
    assert segments["item_popularity_decile"]["new"]["hit@10"] == 0
    assert sum(v["queries"] for v in segments["item_age"].values()) == 3  # ann's b and e, bob's a


def test_every_metric_is_there_by_level_of_the_ladder(prepared: Prepared) -> None:
    result = judged(prepared, by_query={"level": np.array(["warm", "short", "popular"])})
    levels = result["levels"]
    assert {level: v["queries"] for level, v in levels.items()} == {"warm": 1, "short": 1, "popular": 1}
    assert levels["popular"]["ndcg@10"] == result["cohorts"]["new_users"]["ndcg@10"] == 1.0  # cat, who is no main query
    assert (levels["warm"]["ndcg@10"] + levels["short"]["ndcg@10"]) / 2 == pytest.approx(result["ndcg@10"], abs=1e-6)
    for figures in levels.values():
        assert {*METRICS, "intervals", "coverage@10", "gini@10", "novelty@10"} <= set(figures)
        assert set(figures["baselines"]) == set(result["baselines"])
    # cat alone: the mean difference is hers
    for rival in levels["popular"]["baselines"].values():
        assert rival["ndcg@10_difference"]["mean"] == pytest.approx(1.0 - rival["ndcg@10"])
    assert "levels" not in judged(prepared)


def test_exposure_of_the_pages(prepared: Prepared) -> None:
    result = judged(prepared)
    # ann's and bob's pages show a, b, c and d of 5 items, once each
    assert result["coverage@10"] == 4 / 5
    # ascending 0, 1/4, 1/4, 1/4, 1/4: (-4*0 - 2 + 0 + 2 + 4) / 4 / (5 - 1)
    assert result["gini@10"] == pytest.approx(1 / 4)
    # people: a 2, b c d 1, e 0, of 2: a log2(3/3) = 0 bits, the others log2(3/2)
    assert result["novelty@10"] == pytest.approx((log2(3 / 2) + log2(3 / 2) / 2) / 2, abs=1e-6)
    # percentiles: e 1/10, b c d the middle of ranks 1 to 4: 5/10, a 9/10
    assert result["popularity_percentile@10"] == pytest.approx((0.5 + (0.5 + 0.9) / 2) / 2)
    assert result["baselines"]["popularity"]["coverage@10"] == 1 / 5


def test_the_funnel_counts_main_pairs_only(prepared: Prepared) -> None:
    j = judge(prepared, TWIN, "keep")
    found = Candidates(np.array([0, 1], np.int32), ("s",), np.zeros((2, 1), np.float32), np.array([[0], [1]], np.int32))
    wanted = [j.relevance.items[a:b] for a, b in zip(j.relevance.starts, j.relevance.starts[1:], strict=False)]
    funnel = judged(prepared, sightings=joined([look(w, found, np.empty(0, np.int32)) for w in wanted]))["funnel"]
    assert funnel["pairs"] == 3
    assert (funnel["places"]["top_10"]["pairs"], funnel["places"]["not_retrieved"]["pairs"]) == (2, 1)


def test_it_is_json_with_the_promised_keys(prepared: Prepared) -> None:
    result = judged(prepared)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    promised = {"queries", "seen", "ndcg@10", "hit@10", "recall@100", "recall@500", "intervals", "baselines", "cohorts"}
    assert promised | {"segments", "coverage@10", "unanswered", "duplicates", "dropped"} <= set(result)
    assert "funnel" not in result


def test_a_shop_without_test_queries(tmp_path: Path) -> None:
    prepared = make_prepared(tmp_path, [("u:ann", "a", BUY, DAY)], cuts=CUTS)
    j, none = judge(prepared, TWIN, "remove"), np.empty((0, 10), np.int32)
    result = summary(j, none, {"popularity": none}, Catalogue.of(prepared, TWIN), CONFIG)
    assert (result["queries"], result["ndcg@10"], result["baselines"]["popularity"]["ndcg@10"]) == (0, None, None)
    assert result["baselines"]["popularity"]["ndcg@10_difference"] is None
    assert result["cohorts"]["new_users"]["queries"] == 0
    assert json.dumps(result, allow_nan=False)
    assert [row["ndcg@10"] for row in table(result)] == [None, None]


def test_answered_counts_empty_answers_and_wasted_places() -> None:
    assert answered(answers([1, 1, 1], [2, 3], [])) == {"unanswered": 1, "duplicates": 2}
    assert answered(np.full((2, 0), NO_ROW, np.int32)) == {"unanswered": 2, "duplicates": 0}


def test_the_table_lists_the_system_then_baselines_by_ndcg() -> None:
    figures: dict[str, Any] = dict.fromkeys(METRICS, 0.5)
    difference = {"mean": 0.1, "low": 0.0, "high": 0.2}
    baselines = {n: {**figures, "ndcg@10": v, "ndcg@10_difference": difference} for n, v in (("a", 0.1), ("b", 0.3))}
    rows = table({**figures, "baselines": baselines}, "twin")
    assert [row["system"] for row in rows] == ["twin", "b", "a"]
    assert [row["ndcg@10_difference"] for row in rows] == [None, difference, difference]


def test_measure_follows_the_order_of_the_metrics(prepared: Prepared) -> None:
    found = find(answers([1], [3], [1]), judge(prepared, TWIN, "keep").relevance)
    values = measure(found)
    assert values.shape == (3, len(METRICS))
    np.testing.assert_array_equal(values[:, list(METRICS).index("hit@10")], [1, 0, 1])
