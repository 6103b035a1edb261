"""Orders drawn at random, better ones more often, and the exact chance of every item of every place.

Plackett-Luce (Luce 1959, Plackett 1975): the first place is drawn in proportion to the items' worth, each further one likewise among those that are left.
Adding Gumbel noise to the logarithm of each worth and sorting draws from it (Yellott 1977). An item's chance of place j, whatever stands above it, is
what inverse propensities per position need. It is a sum over all orders of the others, but also an integral (`chances`), which is why nothing here is
estimated by sampling (as in Oosterhuis, "Computationally Efficient Optimization of Plackett-Luce Ranking Models", SIGIR 2021).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from core.columns import Array

_STEP: Final = 0.125  # of the logarithm of time: at twice this step the error is 1e-8 at most, and halving a step squares the error
_EARLY: Final = 1e-18  # the chance that anything has come before the first moment that is looked at
_LATE: Final = 50.0  # what is left of an item's chance to come still, after the last one: exp(-50)


def worths(n: int, steepness: float) -> Array:
    """The worth of items in their usual order, the first 1: `place^-steepness`, float64 `[n]`.

    >>> worths(3, 1.0).tolist()
    [1.0, 0.5, 0.3333333333333333]
    """
    return np.arange(1, n + 1, dtype=np.float64) ** -steepness


def uniforms(seed: int, n: int) -> Array:
    """Numbers in (0, 1), float64 `[n]`: the high 53 bits of Philox-4x64 under the key `seed` (64 bits), the same wherever they are drawn."""
    raw = np.random.Philox(key=seed).random_raw(n)
    return ((raw >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def drawn(worth: Array, uniform: Array) -> Array:
    """An order of items by their worth, float64 `[n]` above 0, from as many numbers in (0, 1): positions int64 `[n]`, first place first."""
    return np.argsort(-(np.log(worth) - np.log(-np.log(uniform))), kind="stable")


def chances(worth: Array, places: int) -> Array:
    """The chance of each item of each of the first places: float64 `[n, places]`, each to about 1e-15 of itself.

    Let item i come at an exponential time of rate w_i; who comes first, second, ... is then Plackett-Luce's order. Item i is in place j when exactly j - 1
    others came before it:

        P(i, j) = integral over t of w_i exp(-w_i t) P(j - 1 of the others came before t)

    The last factor is a Poisson-binomial probability. The integral is taken over the logarithm of time, where the trapezoid rule converges
    exponentially. Each column adds up to 1, and each row too where there are as many places as items.

    Args:
        worth: float64 `[n]`, above 0.
        places: At most n.
    """
    if not len(worth) or not places:
        return np.zeros((len(worth), places))
    time = np.exp(np.arange(np.log(_EARLY / worth.max()), np.log(_LATE / worth.min()) + _STEP, _STEP))
    came = -np.expm1(-np.outer(worth, time))  # [n, moments]
    before = np.empty((len(worth), places, len(time)))
    first = np.zeros((places, len(time)))
    first[0] = 1.0
    _without_each(first, came, np.arange(len(worth)), before)
    density = worth[:, None] * time * np.exp(-np.outer(worth, time))
    return np.asarray(np.einsum("nq,npq->np", density, before) * _STEP)


def _without_each(counts: Array, came: Array, items: Array, out: Array) -> None:
    """Put into `out[i]` how likely it is that 0, 1, ... of all items but i came, for each of `items`; `counts` has those beside `items`."""
    if len(items) == 1:
        out[items[0]] = counts
        return
    half = len(items) // 2
    for one, other in ((items[:half], items[half:]), (items[half:], items[:half])):
        grown = counts.copy()
        for i in other.tolist():
            grown[1:] += came[i] * (grown[:-1] - grown[1:])
            grown[0] *= 1 - came[i]
        _without_each(grown, came, one, out)


@lru_cache(maxsize=4096)
def table(n: int, places: int, steepness: float) -> Array:
    """`chances` of n items in their usual order, worth `worths(n, steepness)`: a page needs one or a few of these, and pages are alike. Read-only."""
    found = chances(worths(n, steepness), places)
    found.flags.writeable = False
    return found
