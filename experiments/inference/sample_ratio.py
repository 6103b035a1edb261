"""Sample ratio: do the arms have as many units as they should? A mismatch means that something loses units, and that no figure can be believed.

Lindon & Malek, "Anytime-Valid Inference for Multinomial Count Data" (NeurIPS 2022): under a Dirichlet mixture around the intended shares p the Bayes factor

    B = integral over q ~ Dirichlet(k p) of prod (q_a / p_a)^n_a

is a martingale while the shares are right, so that 1 by its highest value so far is a p-value at every moment. Only where assignment is by fixed shares:
a bandit's shares move, and a ramp-up starts the count anew.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

CONCENTRATION = (
    1000.0  # k: as if 1000 units had been seen at the intended shares; deviations of a few per cent are listened for
)
ALARM = 0.001  # units are many and the check runs every day: a rare alarm is believed


def log_evidence(counts: Sequence[int], shares: Sequence[float], concentration: float = CONCENTRATION) -> float:
    """Logarithm of the Bayes factor against the intended shares.

    Args:
        counts: Units of each arm.
        shares: What each arm should have, above 0; they need not add up to 1.
        concentration: Of the mixture.

    >>> round(math.exp(log_evidence([1, 0], [0.5, 0.5])), 6)  # after one unit nothing is known
    1.0
    """
    total = sum(shares)
    prior = [concentration * s / total for s in shares]
    n = sum(counts)
    log = math.lgamma(concentration) - math.lgamma(concentration + n)
    for count, a, share in zip(counts, prior, shares, strict=True):
        log += math.lgamma(a + count) - math.lgamma(a) - count * math.log(share / total)
    return log


def p_value(counts: Sequence[int], shares: Sequence[float]) -> float:
    """Of the counts as they are now: at any moment, at most 1."""
    return math.exp(-max(log_evidence(counts, shares), 0.0))
