"""Gates: each looks at one thing, and a refusal names it."""

# bazel: data=[//docs:all_files]

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.config import load_pipeline
from data_prep.drift import Drift
from data_prep.drift_findings import Level
from pipeline import champion, shift
from pipeline.gates import TODO, Verdict, data, judge


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


def comparison(**changes: Any) -> dict[str, Any]:
    """A candidate like its champion, with an interval of 0.02 either way."""
    same = {"candidate": 0.3, "champion": 0.3, "mean": 0.0, "low": -0.02, "high": 0.02}
    segment = {"queries": 400, "candidate": 0.3, "champion": 0.3, "mean": 0.0, "standard_error": 0.01}
    shown = {"coverage": 0.5, "gini": 0.8}
    good = {
        "queries": 1000,
        "metrics": {"ndcg@10": same, "recall@500": same},
        "segments": {"new people": segment, "heavy users": segment},
        "exposure": [shown, shown],
    }
    return good | changes


def held_against_champion(**changes: Any) -> list[str]:
    return [v.gate for v in champion.verdicts(comparison(**changes), load_pipeline()) if not v.passed]


def test_a_candidate_like_its_champion_passes() -> None:
    assert held_against_champion() == []
    assert [v.gate for v in champion.verdicts(comparison(), load_pipeline())] == [
        "ndcg",
        "retrieval-recall",
        "segments",
        "coverage",
        "concentration",
    ]


@pytest.mark.parametrize(("high", "refused"), [(-0.001, ["ndcg"]), (0.0, [])])
def test_below_the_champion_beyond_the_interval_is_refused(high: float, refused: list[str]) -> None:
    fall = {"candidate": 0.28, "champion": 0.3, "mean": high - 0.01, "low": high - 0.02, "high": high}
    assert held_against_champion(metrics=comparison()["metrics"] | {"ndcg@10": fall}) == refused


@pytest.mark.parametrize(("high", "refused"), [(-0.016, ["retrieval-recall"]), (-0.014, [])])
def test_retrieval_may_lose_a_twentieth(high: float, refused: list[str]) -> None:
    # 0.05 * 0.3 = 0.015
    fall = {"candidate": 0.28, "champion": 0.3, "mean": high - 0.01, "low": high - 0.02, "high": high}
    assert held_against_champion(metrics=comparison()["metrics"] | {"recall@500": fall}) == refused


@pytest.mark.parametrize(
    ("mean", "queries", "refused"),
    [
        # two segments are big enough: z = 2.24 at 1 - 0.05 / 4; (mean + 2.24 * 0.01) / 0.3 is below -0.15 from -0.0674 on
        (-0.07, 400, ["segments"]),
        (-0.06, 400, []),
        (-0.07, 99, []),  # too small to be a segment
    ],
)
def test_a_segment_that_falls_beyond_chance_is_refused(mean: float, queries: int, refused: list[str]) -> None:
    fallen = {"queries": queries, "candidate": 0.3 + mean, "champion": 0.3, "mean": mean, "standard_error": 0.01}
    assert held_against_champion(segments=comparison()["segments"] | {"heavy users": fallen}) == refused


@pytest.mark.parametrize(
    ("coverage", "gini", "refused"),
    [(0.34, 0.8, ["coverage"]), (0.36, 0.8, []), (0.5, 0.86, ["concentration"]), (0.5, 0.84, [])],
)
def test_what_is_shown_may_not_narrow(coverage: float, gini: float, refused: list[str]) -> None:
    # 0.7 * 0.5 = 0.35 and 0.8 + 0.05 = 0.85
    shown = [{"coverage": coverage, "gini": gini}, {"coverage": 0.5, "gini": 0.8}]
    assert held_against_champion(exposure=shown) == refused


def test_every_gate_says_what_to_do_and_the_page_of_the_night_has_its_name() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "nightly.md").read_text()
    for gate in TODO:
        assert f"\n### {gate}\n" in page
        assert gate in (Verdict(gate, False, "").todo or "")
    assert Verdict("ndcg", True, "").todo is None


@pytest.mark.parametrize(
    ("a", "b", "far"),
    [
        ([1.0, 2.0], [1.0, 2.0], 0.0),
        ([0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0], 0.25),  # half against a quarter are at 0
        ([0.0], [1.0], 1.0),
    ],
)
def test_the_distance_of_two_samples(a: list[float], b: list[float], far: float) -> None:
    assert shift.distance(np.array(a), np.array(b)) == far


def test_what_this_week_wants_is_no_shift_of_the_rankers_inputs() -> None:
    assert "towers.score" in shift.COMPARED
    assert "popularity.score" in shift.COMPARED
    assert not [name for name in shift.COMPARED if name.startswith("recent_popularity.")]
