"""Does something happen to more units of an arm than it should? Exact at every moment, from the first unit on (standard library only, for servers).

Units are spread by a hash that knows nothing of them. Look at the units to which a thing happened (an answer failed; was slow; they clicked), each
once, of one arm and the control. Where the arm makes no difference, each such unit is the arm's with the chance s, its weight by that of both,
whatever the hour, the load or the habits of people: all of that is the same on both sides. Where the arm makes it r times as likely, with a chance of

    theta(r) = s r / (s r + 1 - s).

Against "at most `ratio` times as often", theta <= theta(ratio), stands the mean over greater r of the likelihood ratios

    E = mean over r of (theta(r) / theta(ratio))^a ((1 - theta(r)) / (1 - theta(ratio)))^c

of a units of the arm and c of the control. Each is a nonnegative supermartingale while the claim holds, even if the chance differs from unit to unit, and so is
their mean. By Ville's inequality E ever exceeds 1 / alpha with a chance of at most alpha: one may look every second. Likewise, with lesser r, against "at least
`ratio` times as often". Mixtures of likelihood ratios: Robbins, Ann. Math. Statist. 1970; counts of canaries, conditioned on their sum: Lindon & Malek,
"Anytime-Valid Inference for Multinomial Count Data" (NeurIPS 2022).
"""

from __future__ import annotations

import math
from typing import Final

_STEPS: Final = 20  # of half a doubling each: up to 1024 times the ratio


def log_evidence(arm: int, control: int, share: float, ratio: float, *, more: bool) -> float:
    """Logarithm of the evidence against a ratio that is allowed.

    Args:
        arm: Units of the arm to which it happened, each once.
        control: Of the control.
        share: Of the arm in the units of both, in (0, 1).
        ratio: So many times as often as in the control it may happen at most (`more`), or must at least.
        more: It should not happen more often.

    >>> round(math.exp(log_evidence(0, 0, 0.05, 1.0, more=True)), 6)  # nothing happened: nothing is known
    1.0
    """
    steps = [2 ** (step / 2 if more else -step / 2) for step in range(1, _STEPS + 1)]
    at = _theta(share, ratio)
    logs = []
    for step in steps:
        theta = _theta(share, ratio * step)
        logs.append(arm * math.log(theta / at) + control * math.log((1 - theta) / (1 - at)))
    highest = max(logs)
    return highest + math.log(sum(math.exp(log - highest) for log in logs) / len(logs))


def _theta(share: float, ratio: float) -> float:
    return share * ratio / (share * ratio + 1 - share)
