"""Fixed-horizon tests: for one look at a moment that was settled before the start. Looking twice breaks them."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from core.columns import Array

NORMAL = NormalDist()


def p_value(effect: Array, se: Array) -> Array:
    """Two-sided, of a z-test: float64 `[...]`; 1 where there is no estimate."""
    with np.errstate(invalid="ignore"):
        z = np.abs(effect / se)
    return np.asarray(np.nan_to_num(np.vectorize(math.erfc, otypes=[float])(z / math.sqrt(2)), nan=1.0))


def radius(se: Array, alpha: float) -> Array:
    """Half the width of the interval at `1 - alpha`: float64 `[...]`."""
    return np.asarray(NORMAL.inv_cdf(1 - alpha / 2) * se)
