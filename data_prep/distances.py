"""How far apart two nights' distributions are, and how far chance alone may take them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from data_prep.profiles import middle

DEVIATIONS: Final = 4.0  # standard deviations of a share or a count that chance is given


def ks(before: dict[str, int], now: dict[str, int]) -> float:
    """Kolmogorov-Smirnov distance of two histograms over the same bins, 0 to 1.

    >>> ks({"1": 2, "5": 2}, {"5": 1, "9": 3})
    0.75
    """
    places = sorted({int(b) for b in (*before, *now)})
    shares = [np.cumsum([h.get(str(b), 0) for b in places]) / max(1, sum(h.values())) for h in (before, now)]
    return float(np.max(np.abs(shares[0] - shares[1]), initial=0.0))


def median(histogram: dict[str, int]) -> float:
    """The middle of the bin that holds the median; NaN without rows."""
    places = sorted(histogram, key=int)
    reached = np.cumsum([histogram[b] for b in places])
    return middle(int(places[int(np.searchsorted(reached, reached[-1] / 2))])) if places else float("nan")


def psi(before: Sequence[int], now: Sequence[int], n_before: float, n_now: float) -> float:
    """Population stability index of two counts of the same cells, less what chance gives with samples of these sizes.

    >>> round(psi([50, 50], [80, 20], 1e9, 1e9), 2)  # .3 ln(.8/.5) + -.3 ln(.2/.5), nearly: half a row is added to each cell
    0.41
    """
    p, q = (np.asarray(c, float) + 0.5 for c in (before, now))
    p, q = p / p.sum(), q / q.sum()
    return float(np.sum((q - p) * np.log(q / p)) - (len(p) - 1) * (1 / n_before + 1 / n_now))


def psi_of_chance(cells: int, n_before: float, n_now: float) -> float:
    """What `psi` stays below as long as only chance is at work: five deviations of a chi-square with one degree of freedom less than cells."""
    return 5 * math.sqrt(2 * (cells - 1)) * (1 / n_before + 1 / n_now)


def beyond_chance(share: float, other: float, n: float, m: float) -> bool:
    """Whether two shares of samples of sizes n and m differ by more than chance lets them."""
    pooled = (share * n + other * m) / (n + m)
    deviation = math.sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / n + 1 / m))
    return abs(share - other) > DEVIATIONS * deviation
