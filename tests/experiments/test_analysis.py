from __future__ import annotations

import numpy as np
import pytest

from core.errors import InputError
from core.schema import DAY, HOUR
from experiments.analysis import Question, analyse
from experiments.table import AnalysisTable

NOON = 20_000 * DAY + 12 * HOUR


def shop(n: int = 20_000, lift: float = 0.0, share: float = 0.5, seed: int = 1, days: int = 10) -> AnalysisTable:
    """Two arms: purchases per person at a mean of 1, which the treatment raises; half of it is habit that was there before."""
    rng = np.random.default_rng(seed)
    arm = (rng.random(n) < share).astype(np.int64)
    habit = rng.gamma(2.0, 0.5, n)
    bought = rng.poisson(habit * (1 + lift * arm)).astype(float)
    before = rng.poisson(4 * habit).astype(float)
    exposed = np.sort(NOON + rng.integers(days * DAY, size=n))
    return AnalysisTable(
        ("control", "new"),
        arm,
        exposed,
        np.where(arm == 1, share, 1 - share),
        DAY,
        {"purchases": (bought, np.ones(n)), "clicks": (rng.poisson(2.0, n).astype(float), np.ones(n))},
        {"purchases": before},
        {"level": np.where(rng.random(n) < 0.5, "warm", "popular")},
    )


def test_a_unit_counts_once_its_window_is_over() -> None:
    exposed = NOON + np.array([0, HOUR, 2 * HOUR])
    table = AnalysisTable(
        ("a", "b"), np.array([0, 1, 0]), exposed, np.full(3, 0.5), DAY, {"clicks": (np.array([1.0, 2, 4]), np.ones(3))}
    )
    looks = np.array([NOON + DAY - 1, NOON + DAY, NOON + DAY + 2 * HOUR])
    assert [table.counted(int(t)) for t in looks] == [0, 1, 3]
    assert table.moments("clicks", 0, looks).sums[:, 0].tolist() == [0, 1, 5]
    assert table.moments("clicks", 1, looks).sums[:, 0].tolist() == [0, 0, 2]


def test_looks_are_ends_of_days_and_now() -> None:
    # Exposed at noon of day 20000 with a day's window: the first to count does so at noon of day 20001.
    table = shop(1_000, days=2)
    looks = table.looks(NOON + 3 * DAY)
    assert looks.tolist() == [20_002 * DAY, 20_003 * DAY, NOON + 3 * DAY]


def test_a_true_lift_is_found_and_nothing_else() -> None:
    question = Question("purchases", 0.05, ("clicks",), {"clicks": 0.05}, shares=(0.5, 0.5))
    result = analyse(shop(lift=0.1), question, NOON + 12 * DAY)
    primary, second, guard = result.curves
    assert (primary.decision, second.decision, guard.breached) == ("better", "open", False)
    assert primary.low[-1] < 0.1 < primary.high[-1]
    assert primary.kept < 0.82  # cov 4 x .5 = 2, variances 1 + .5 and 4 + 16 x .5: 1 - 2^2 / (1.5 x 12) = .78 is left
    assert result.sound
    assert {s.value for s in result.segments} == {"warm", "popular"}


def test_harm_breaks_a_guardrail_and_a_lost_arm_the_split() -> None:
    question = Question("clicks", 0.05, (), {"purchases": 0.02}, shares=(0.5, 0.5))
    result = analyse(shop(lift=-0.2), question, NOON + 12 * DAY)
    assert result.curves[1].breached
    assert not analyse(shop(share=0.4), question, NOON + 12 * DAY).sound


def test_a_bandit_is_not_read_as_a_split() -> None:
    question = Question("purchases", 0.05)
    result = analyse(shop(lift=0.2, share=0.8), question, NOON + 12 * DAY)
    assert result.bandit
    assert result.ratio_p is None
    assert result.curves[0].decision == "better"


def test_one_look_at_the_end_has_the_narrower_interval() -> None:
    question, table = Question("purchases", 0.05, ("clicks",), shares=(0.5, 0.5)), shop(lift=0.1)
    once = analyse(table, question, NOON + 12 * DAY, fixed_horizon=True).curves
    often = analyse(table, question, NOON + 12 * DAY).curves
    assert often[0].low[-1] < once[0].low[-1] < 0.1 < once[0].high[-1] < often[0].high[-1]
    assert len(once[0].low) == 1
    assert [c.decision for c in once] == ["better", "open"]


def test_a_metric_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="purchases"):
        analyse(shop(1_000), Question("purchasse", 0.05, shares=(0.5, 0.5)), NOON + 12 * DAY)
