from __future__ import annotations

import numpy as np
import pytest

from core.columns import Array
from core.errors import InputError
from experiments.off_policy import Log, Target, evaluate, reward_model


def logged(n: int, seed: int = 1) -> tuple[Log, Target]:
    """Two places, four items, drawn by one policy and judged for another; rewards depend on item and place."""
    rng = np.random.default_rng(seed)
    by = np.array([[0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.3, 0.4]])
    place = rng.integers(2, size=n)
    item = (rng.random(n)[:, None] > by[place].cumsum(axis=1)).sum(axis=1)
    reward = (rng.random(n) < 0.1 + 0.1 * item + 0.05 * place).astype(float)
    wanted = np.array([0.1, 0.2, 0.3, 0.4])
    target = Target(wanted[item], np.repeat(np.arange(n), 4), np.tile(np.arange(4), n), np.tile(wanted, n))
    return Log(reward, by[place, item], place + 1, item, np.arange(n) // 2), target


def written_out(log: Log, target: Target, rows: Array, guess: Array, expected: Array) -> dict[str, float]:
    """The formulas of the papers, one row at a time."""
    n = len(rows)
    ips = weights = dm = dr = 0.0
    for i in rows.tolist():
        w = target.chosen[i] / log.propensity[i]
        ips += w * log.reward[i]
        weights += w
        dm += expected[i]
        dr += expected[i] + w * (log.reward[i] - guess[i])
    return {"ips": ips / n, "snips": ips / weights, "dm": dm / n, "dr": dr / n}


def test_estimates_are_the_published_formulas() -> None:
    log, target = logged(600)
    found = evaluate(log, target)
    guess, expected = reward_model(log, target, 20.0, 1)
    for place, rows in (("all", np.arange(600)), ("1", np.flatnonzero(log.place == 1))):
        for name, value in written_out(log, target, rows, guess, expected).items():
            assert found[place].estimates[name].value == pytest.approx(value, abs=1e-9)


def test_the_reward_model_never_sees_the_rows_own_cluster() -> None:
    log, target = logged(400)
    guess, _ = reward_model(log, target, 20.0, 1)
    changed = log.reward.copy()
    changed[log.cluster == 7] = 1 - changed[log.cluster == 7]
    again, _ = reward_model(Log(changed, log.propensity, log.place, log.cell, log.cluster), target, 20.0, 1)
    np.testing.assert_array_equal(guess[log.cluster == 7], again[log.cluster == 7])
    assert not np.array_equal(guess, again)


def test_the_logs_own_policy_is_worth_what_it_earned() -> None:
    log, _ = logged(500)
    own = Target(
        log.propensity, np.arange(500), log.cell, np.ones(500)
    )  # of the rest of the distribution nothing is needed here
    found = evaluate(log, own)["all"]
    assert found.estimates["ips"].value == pytest.approx(log.reward.mean(), abs=1e-12)
    assert found.diagnostics.effective == pytest.approx(500)


def test_a_policy_that_could_not_be_seen_is_refused() -> None:
    log, target = logged(500)
    half = Target(target.chosen * 0.5, target.rows, target.cells, target.chances * 0.5)
    with pytest.raises(InputError, match="covers 50"):
        evaluate(log, half)


def test_propensities_that_cannot_be_are_refused() -> None:
    log, target = logged(4_000)
    wrong = Log(log.reward, np.full(4_000, 0.5), log.place, log.cell, log.cluster)
    with pytest.raises(InputError, match="mean is"):
        evaluate(wrong, target)
    with pytest.raises(InputError, match="exact propensities"):
        Log(log.reward, np.zeros(4_000), log.place, log.cell, log.cluster)


def test_clipping_is_counted_and_takes_away() -> None:
    log, target = logged(3_000)
    free, cut = evaluate(log, target)["all"], evaluate(log, target, clip=1.0)["all"]
    assert cut.diagnostics.clipped == int((target.chosen / log.propensity > 1).sum()) > 0
    assert cut.estimates["ips"].value < free.estimates["ips"].value
