"""Gates: each looks at one thing, and a refusal names it."""

from typing import Any

import pytest

from core.config import load_pipeline
from pipeline.gates import judge


def metrics(**changes: Any) -> dict[str, Any]:
    difference = {"mean": 0.1, "low": 0.05, "high": 0.15}
    good = {
        "queries": 10,
        "unanswered": 0,
        "duplicates": 0,
        "baselines": {"popularity": {"ndcg@10_difference": difference}},
    }
    return good | changes


def failed(figures: dict[str, Any], recall: float = 1.0) -> list[str]:
    config = load_pipeline()
    indexes = {"twin": {f"recall@{config.index.k}": 1.0}, "full": {f"recall@{config.index.k}": recall}}
    return [v.gate for v in judge(figures, indexes, config) if not v.passed]


def test_a_good_night_passes_every_gate() -> None:
    assert failed(metrics()) == []


@pytest.mark.parametrize("changes", [{"unanswered": 1}, {"duplicates": 2}])
def test_a_query_without_an_answer_or_with_an_item_twice_is_refused(changes: dict[str, int]) -> None:
    assert failed(metrics(**changes)) == ["answers"]


@pytest.mark.parametrize(("high", "refused"), [(-0.001, ["popularity"]), (0.0, []), (0.02, [])])
def test_worse_than_popularity_beyond_doubt_is_refused(high: float, refused: list[str]) -> None:
    difference = {"mean": high - 0.05, "low": high - 0.1, "high": high}
    assert failed(metrics(baselines={"popularity": {"ndcg@10_difference": difference}})) == refused


def test_an_index_below_its_recall_floor_is_refused() -> None:
    assert failed(metrics(), recall=0.949) == ["index-recall"]
    assert failed(metrics(), recall=0.95) == []


def test_nothing_to_judge_refuses_nothing() -> None:
    assert failed(metrics(queries=0, baselines={"popularity": {"ndcg@10_difference": None}})) == []
