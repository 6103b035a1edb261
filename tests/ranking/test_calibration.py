"""From scores to probabilities: fits by hand and against known truths, curves that never fall, and files that are refused when they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.errors import ArtifactError
from ranking.calibrating import (
    METHODS,
    Outcomes,
    calibrated,
    curves,
    isotonic,
    log_loss,
    logistic,
    probabilities,
    reliability,
)
from ranking.calibration import FILE, Calibration, Curve


def odds(p: float) -> float:
    return float(np.log(p / (1 - p)))


def outcomes(scores: Any, gained: Any, sizes: list[int], levels: list[str] | None = None) -> Outcomes:
    q = len(sizes)
    return Outcomes(
        np.array(scores, float),
        np.array(gained, bool),
        np.array(sizes, np.int32),
        np.array(levels or ["warm"] * q),
        np.arange(q),
    )


def drawn(requests: int, seed: int, slope: float, level: str = "warm", size: int = 20) -> Outcomes:
    """Candidates of which the log-odds to gain are slope * score - 2."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=requests * size)
    gained = rng.random(len(scores)) < 1 / (1 + np.exp(2 - slope * scores))
    return outcomes(scores, gained, [size] * requests, [level] * requests)


def test_isotonic_by_hand() -> None:
    """Scores 1 to 6 gain 0 1 0 0 1 1; one more gains at 1, one more does not at 6: 1/2 1 0 0 1 1/2. The second falls to 1 in 3 with the next two, which is
    below the first: 2 in 5 from 1 to 4. The last two are 2 in 3."""
    curve = isotonic(np.arange(1.0, 7.0), np.array([0, 1, 0, 0, 1, 1], bool))
    low, high = odds(2 / 5), odds(2 / 3)
    assert curve.scores.tolist() == [1, 4, 5, 6]
    assert curve.log_odds == pytest.approx([low, low, high, high])
    # between two steps a straight line, beyond them what the last step says
    assert curve(np.array([-9.0, 3.0, 4.5, 9.0])) == pytest.approx([low, low, (low + high) / 2, high])


def test_equal_scores_are_one_step() -> None:
    curve = isotonic(np.array([1.0, 1.0, 1.0, 1.0]), np.array([1, 0, 0, 0], bool))
    assert curve.scores.tolist() == [1.0]
    assert curve.log_odds == pytest.approx([odds(2 / 6)])  # 1 of 4, and one that gained and one that did not


def pooled(gained: list[int]) -> list[float]:
    """Adjacent violators one at a time, as the textbook has it: the mean of each position's step, with one gain more first and one failure more last."""
    steps: list[tuple[int, int, int]] = []  # gains, candidates, positions
    for at, g in enumerate(gained):
        step = (g + (at == 0), 1 + (at == 0) + (at == len(gained) - 1), 1)
        while steps and step[0] / step[1] <= steps[-1][0] / steps[-1][1]:
            step = (step[0] + steps[-1][0], step[1] + steps[-1][1], step[2] + steps.pop()[2])
        steps.append(step)
    return [good / n for good, n, positions in steps for _ in range(positions)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 1), min_size=1, max_size=60))
def test_isotonic_pools_as_the_textbook_does(gained: list[int]) -> None:
    steps = np.array(pooled(gained))
    ends = {int(e) for s in set(steps) for e in (np.flatnonzero(steps == s)[0], np.flatnonzero(steps == s)[-1])}
    curve = isotonic(np.arange(len(gained), dtype=float), np.array(gained, bool))
    assert curve.scores.tolist() == sorted(ends)
    assert curve(np.arange(len(gained))) == pytest.approx(np.log(steps / (1 - steps)))


def test_logistic_finds_the_truth() -> None:
    """100,000 draws of log-odds 1.5 s - 2."""
    truth = drawn(5000, 1, 1.5)
    curve = logistic(truth.scores, truth.gained)
    assert curve(np.array([0.0, 2.0])) == pytest.approx([-2, 1], abs=0.06)
    # who falls with the score gets the share for all
    level = logistic(-truth.scores, truth.gained)
    assert level.beyond == 0
    assert level(np.array([-5.0, 5.0])) == pytest.approx([odds(truth.gained.mean())] * 2, abs=0.01)


def test_logistic_of_what_a_score_tells_apart() -> None:
    """Everything above 0 gained and nothing below: the targets stop short of 1 and 0, so the line stays finite."""
    curve = logistic(np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 0, 1, 1], bool))
    assert 0 < curve.beyond < 100
    assert curve(np.array([0.0])) == pytest.approx([0], abs=1e-6)


def test_a_small_level_leans_on_the_whole() -> None:
    """200 requests weigh as much as the whole does, so 200 of them are half their own: log-odds half way between."""
    both = [drawn(200, 1, 0.5, "short-history"), drawn(800, 2, 2.0, "warm")]
    all_of = outcomes(
        np.concatenate([o.scores for o in both]),
        np.concatenate([o.gained for o in both]),
        [20] * 1000,
        ["short-history"] * 200 + ["warm"] * 800,
    )
    whole, levels = curves(all_of, logistic)
    alone = [logistic(o.scores, o.gained) for o in both]
    at = np.array([-1.0, 0.0, 3.0])
    assert levels["short-history"](at) == pytest.approx(alone[0](at) / 2 + whole(at) / 2)
    assert levels["warm"](at) == pytest.approx(0.8 * alone[1](at) + 0.2 * whole(at))


def test_a_level_that_was_not_there_has_the_whole() -> None:
    calibration = Calibration(
        "", Curve(np.zeros(1), np.array([odds(0.2)])), {"warm": Curve(np.zeros(1), np.array([odds(0.6)]))}
    )
    assert calibration(np.zeros(1), "warm") == pytest.approx([0.6])
    assert calibration(np.zeros(1), "popular") == pytest.approx([0.2])


scores_and_gains = st.lists(st.tuples(st.floats(-50, 50), st.booleans()), min_size=2, max_size=80).filter(
    lambda rows: len({g for _, g in rows}) == 2
)


@settings(deadline=None)
@given(scores_and_gains, st.sampled_from(sorted(METHODS)), st.floats(0, 1))
def test_curves_never_fall_and_are_never_certain(rows: list[tuple[float, bool]], method: str, share: float) -> None:
    scores, gained = np.array([s for s, _ in rows]), np.array([g for _, g in rows])
    whole = METHODS[method](scores, gained)
    mixed = whole.mixed(Curve(np.zeros(1), np.zeros(1), 0.1), share)
    found = Calibration(method, whole, {"warm": mixed})
    at = np.sort(np.concatenate([scores, np.linspace(-60, 60, 50)]))
    for level in ("warm", "popular"):
        p = found(at, level)
        assert (np.diff(p) >= -1e-12).all()
        assert ((p > 0) & (p <= 1)).all()
    np.testing.assert_allclose(mixed(at), share * whole(at) + (1 - share) * 0.1 * at, atol=1e-6)


def test_the_better_method_is_taken() -> None:
    """Straight log-odds suit the line; a jump in the middle suits the steps. Both beat the one share for all, and both are reliable."""
    straight = calibrated(drawn(400, 3, 1.5), 1)
    rng = np.random.default_rng(4)
    scores = rng.normal(size=8000)
    jump = calibrated(outcomes(scores, rng.random(8000) < np.where(scores > 0.5, 0.5, 0.02), [20] * 400), 1)
    assert (straight.method, jump.method) == ("logistic", "isotonic")
    for found in (straight, jump):
        assert found.about["log_loss"] < 0.95 * found.about["base_log_loss"]
        assert found.about["ece"] < 0.02
        assert found.about["log_loss"] == min(found.about["log_loss_isotonic"], found.about["log_loss_logistic"])
    fresh = drawn(400, 5, 1.5)
    assert reliability(fresh, probabilities(straight, fresh))["ece"] < 0.02


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(ValueError, match="0 of 4 candidates gained"):
        calibrated(outcomes([1, 2, 3, 4], [0] * 4, [2, 2]), 1)


def test_reliability_by_hand() -> None:
    """Two requests of two. Four candidates are four bins of one: errors .5 .1 .2 .4, mean .3. Log-loss: -(ln .5 + ln .9 + ln .8 + ln .6) / 4."""
    asked = outcomes([2, 1, 5, 4], [1, 0, 1, 0], [2, 2])
    found = reliability(asked, np.array([0.5, 0.1, 0.8, 0.4]))
    assert found["ece"] == found["ece@10"] == pytest.approx(0.3)
    assert found["log_loss"] == pytest.approx(-np.log([0.5, 0.9, 0.8, 0.6]).mean(), abs=1e-6)
    assert found["base_log_loss"] == pytest.approx(np.log(2), abs=1e-6)
    assert (found["requests"], found["candidates"], found["gained"]) == (2, 4, 2)
    assert log_loss(np.array([0.25]), np.array([False])) == pytest.approx(-np.log(0.75))


def test_the_page_is_the_ten_best_of_each_request() -> None:
    """Twelve candidates, the two worst of which alone gained: none of the ten did, where .5 was said."""
    found = reliability(outcomes(range(12), [1, 1] + [0] * 10, [12]), np.full(12, 0.5))
    assert (found["gained@10"], found["probability@10"], found["ece@10"]) == (0, 0.5, 0.5)


@pytest.fixture
def ranker(tmp_path: Path) -> Path:
    (tmp_path / "model.txt").write_text("trees")
    written = Calibration(
        "isotonic",
        isotonic(np.arange(4.0), np.array([0, 1, 0, 1], bool)),
        {"warm": Curve(np.zeros(1), np.ones(1), 2.0)},
        {"ece": 0.1},
    )
    written.write(tmp_path, tmp_path / "model.txt")
    return tmp_path


def test_what_is_written_is_read(ranker: Path) -> None:
    found = Calibration.open(ranker, ranker / "model.txt")
    assert found is not None
    assert (found.method, dict(found.about)) == ("isotonic", {"ece": 0.1})
    assert found(np.array([1.0]), "warm") == pytest.approx([1 / (1 + np.exp(-3))])  # log-odds 1 + 2 * 1
    assert Calibration.open(ranker / "none", ranker / "model.txt") is None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format_version": 9}, "calibration format 9, this Aisle reads 1"),
        ({"model_sha256": "f" * 64}, "made for a model of sha256 ffffffffffff, model.txt beside it has"),
        ({"whole": {"scores": [0, 1], "log_odds": [1, 0], "beyond": 0}}, "it falls"),
        ({"whole": {"scores": [0, 1], "log_odds": [1], "beyond": 0}}, r"\[2\] scores and \[1\] log-odds"),
        ({"whole": {"scores": [0], "log_odds": [float("nan")], "beyond": 0}}, "not finite"),
        ({"whole": None}, "truncated or not a calibration"),
        ({"levels": 3}, "truncated or not a calibration"),
    ],
)
def test_what_does_not_fit_is_refused(ranker: Path, change: dict[str, Any], problem: str) -> None:
    (ranker / FILE).write_text(json.dumps(json.loads((ranker / FILE).read_text()) | change))
    with pytest.raises(ArtifactError, match=problem) as e:
        Calibration.open(ranker, ranker / "model.txt")
    assert FILE in str(e.value)


def test_a_truncated_file_is_refused(ranker: Path) -> None:
    (ranker / FILE).write_bytes((ranker / FILE).read_bytes()[:30])
    with pytest.raises(ArtifactError, match=r"calibration\.json: truncated"):
        Calibration.open(ranker, ranker / "model.txt")
