"""Several metrics or arms at once: which of them may be called changed.

| what | fixed horizon | looked at all the time |
|---|---|---|
| the primary metric, over arms | Bonferroni: alpha / arms | the same: any mistake there ships something |
| other metrics | Benjamini & Hochberg (1995) on p-values | e-BH (Wang & Ramdas, "False discovery rate control with e-values", JRSS B 2022) |

e-BH keeps the share of false findings below alpha at any stopping time and however the metrics depend on each other; BH on always-valid p-values
would need their independence (or a factor of log metrics) for that.
"""

from __future__ import annotations

import numpy as np

from core.columns import Array


def benjamini_hochberg(p: Array, alpha: float) -> Array:
    """Which of float64 `[m]` p-values are findings at a false discovery rate of `alpha`: bool `[m]`.

    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.9]), 0.05).tolist()  # ordered: .01 <= .0125, .03 > .025, .04 > .0375
    [True, False, False, False]
    """
    order = np.argsort(p, kind="stable")
    passed = np.flatnonzero(p[order] <= alpha * np.arange(1, len(p) + 1) / max(len(p), 1))
    found = np.zeros(len(p), bool)
    found[order[: passed[-1] + 1 if len(passed) else 0]] = True
    return found


def e_benjamini_hochberg(log_e: Array, alpha: float) -> Array:
    """Which of float64 `[m]` logarithms of e-values are findings at a false discovery rate of `alpha`: bool `[m]`.

    >>> e_benjamini_hochberg(np.log([90.0, 45.0, 2.0]), 0.05).tolist()  # 90 >= 3 / .05 / 1, 45 >= 3 / .05 / 2
    [True, True, False]
    """
    return benjamini_hochberg(np.exp(-np.maximum(log_e, 0.0)), alpha)
