"""Gates: each looks at one thing, and a refusal names it."""

from typing import Any

import pytest

from core.config import load_pipeline
from data_prep.drift import Drift
from data_prep.drift_findings import Level
from pipeline.gates import data, judge


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


def found(level: Level) -> Drift:
    return Drift("items", "price", "ks", 0.9, 0.2, level, "items.price: 3.0x the median of last night")


@pytest.mark.parametrize(("levels", "passed"), [((), True), (("warn", "warn"), True), (("warn", "stop"), False)])
def test_only_data_that_changed_beyond_a_stop_are_refused(levels: tuple[Level, ...], passed: bool) -> None:
    assert data([found(level) for level in levels]).passed is passed


def test_a_refusal_of_the_data_says_what_changed() -> None:
    assert data([found("stop")]).reason == "items.price: 3.0x the median of last night"
