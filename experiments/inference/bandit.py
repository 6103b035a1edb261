"""Data that a bandit collected: shares that followed the results bias plain means, and break tests that take them for a fixed split.

Each unit, in the order of exposure, gives every arm a term whose mean, given all that came before it, is the arm's true mean:

    phi_a = m_a + 1{assigned to a} / p_a (y - m_a)

where p_a is the logged chance of the arm and m_a the arm's mean by the terms before (so that the weights act on what is left only: doubly robust).
Sums of phi - mean are a martingale however p followed the past, and the asymptotic confidence sequence for martingales holds (Waudby-Smith et al. 2024,
section 2.5; Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro, "Anytime-valid off-policy inference for contextual bandits", ACM/IMS J. Data Sci. 2024).
The floor of every allocation (.05 / arms) bounds the weights. Where rewards drift, what is estimated is the mean over the units so far.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from core.columns import Array
from core.errors import InputError
from experiments.inference.moments import Difference


def terms(y: Array, arm: Array, propensity: Array, arms: int) -> Array:
    """The terms of each unit and arm: float64 `[n, arms]`.

    Args:
        y: float64 `[n]`, in the order of exposure.
        arm: int64 `[n]` in [0, arms).
        propensity: float64 `[n]`, the chance that the unit had of its own arm.
        arms: How many.

    Raises:
        InputError: A propensity lies outside (0, 1].
    """
    if not ((propensity > 0) & (propensity <= 1)).all():
        raise InputError("a unit's propensity lies outside (0, 1]: bandit data without exact propensities say nothing")
    phi = np.empty((len(y), arms))
    for a in range(arms):
        weight = np.where(arm == a, 1 / propensity, 0.0)
        # The mean so far: self-normalised, of the units before this one; 0 before the first.
        before = np.r_[0.0, np.cumsum(weight * y)[:-1]]
        whole = np.r_[0.0, np.cumsum(weight)[:-1]]
        mean = before / np.where(whole > 0, whole, 1.0)
        phi[:, a] = mean + weight * (y - mean)
    return phi


def differences(
    y: Array,
    d: Array,
    arm: Array,
    propensity: Array,
    looks: Sequence[int],
    *,
    pair: tuple[int, int],
    arms: int,
    relative: bool,
    burn_in: int = 100,
) -> Difference:
    """Treatment against control after the first n units, for each n of `looks`: arrays `[looks]`.

    Args:
        y: Numerators float64 `[n]`, in the order of exposure.
        d: Denominators float64 `[n]`.
        arm: int64 `[n]`.
        propensity: float64 `[n]`, of the unit's own arm.
        looks: Rising, at most n.
        pair: Treatment and control.
        arms: How many there are.
        relative: As in `experiments.inference.moments.difference`.
        burn_in: Units that each of the two needs.
    """
    top, bottom = terms(y, arm, propensity, arms), terms(d, arm, propensity, arms)
    effect, se = np.full(len(looks), np.nan), np.full(len(looks), np.nan)
    for at, n in enumerate(looks):
        if min(int((arm[:n] == a).sum()) for a in pair) < burn_in:
            continue
        values, influence = [], []
        for a in pair:
            scale = float(bottom[:n, a].mean())
            value = float(top[:n, a].mean()) / scale
            values.append(value)
            influence.append((top[:n, a] - value * bottom[:n, a]) / scale / (value if relative else 1.0))
        if relative and min(values) <= 0:
            continue
        effect[at] = np.log(values[0] / values[1]) if relative else values[0] - values[1]
        se[at] = float(np.std(influence[0] - influence[1], ddof=1)) / np.sqrt(n)
    return Difference(effect, np.where(se > 0, se, np.nan), np.ones(len(looks)), relative)
