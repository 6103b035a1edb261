"""Contextual bandits where kinds of shoppers differ: what they must beat, and how their regret grows."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.simulate import Curves, summary
from experiments.simulate_contexts import KindsShop, learners, run

SHOP = KindsShop((0.04, 0.05, 0.045, 0.06), (0.04, 0.05, 0.045, 0.06), rounds=200, sessions=400, kinds=3)


def curves(shop: KindsShop, *names: str, floor: bool = True) -> dict[str, Curves]:
    made = learners(4, 20, floor)
    return {name: run(shop, made[name], 8, 1) for name in names}


def test_each_kind_has_its_best_arm() -> None:
    """Kind c has the rates moved on by c arms; at round 0 the hour moves nothing."""
    assert SHOP.of_kinds(0) == pytest.approx(
        np.array([[0.04, 0.05, 0.045, 0.06], [0.06, 0.04, 0.05, 0.045], [0.045, 0.06, 0.04, 0.05]])
    )
    # 1, the second kind, the third kind, sine and cosine of the hour
    assert SHOP.contexts(0) == pytest.approx(np.array([[1, 0, 0, 0, 1], [1, 1, 0, 0, 1], [1, 0, 1, 0, 1]]))


def test_a_fixed_split_loses_the_gap_to_the_mean() -> None:
    """Every kind's best is .06 and the mean .04875: .01125 of each of 400 * 200 sessions, over whole days of the hour's wave and 8 rounds more."""
    wave = 1 + 0.2 * np.sin(2 * np.pi * np.arange(200) / 96)
    found = curves(SHOP, "fixed")["fixed"]
    assert found.regret[:, -1] == pytest.approx(400 * 0.01125 * wave.sum())


def test_who_knows_the_kind_loses_less_than_half() -> None:
    found = curves(SHOP, "lin-ucb", "linear-thompson", "gaussian-thompson")
    lost = {name: c.regret[:, -1].mean() for name, c in found.items()}
    assert max(lost["lin-ucb"], lost["linear-thompson"]) < 0.5 * lost["gaussian-thompson"]


def test_without_the_floor_regret_grows_slower_than_the_root() -> None:
    """Published: sqrt(T) in the worst case."""
    found = summary(SHOP, curves(SHOP, "lin-ucb", "linear-thompson", floor=False))
    assert all(f["exponent"] < 0.5 for f in found.values())


def test_who_forgets_follows_a_change_sooner() -> None:
    turned = KindsShop(SHOP.rates, SHOP.rates[::-1], rounds=400, sessions=400, kinds=3)
    found = summary(turned, curves(turned, "linear-thompson", "linear-thompson, forgetting"))
    assert found["linear-thompson, forgetting"]["recovery"] < found["linear-thompson"]["recovery"]
