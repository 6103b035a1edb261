"""The preferences that are planted, as formulas: what the package docstring says, in numpy. Simulation and `Truth` both call these."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from data_prep.simulate.taxonomy import LEAVES

Array = NDArray[Any]

CATEGORY_DIM: Final = 8
STYLE_DIM: Final = 16
CATEGORY_PULL: Final = 1.0  # weight of the category part of the dot product
STYLE_PULL: Final = 6.0  # weight of the style part; a dot product of random unit vectors has standard deviation 1/4

EXPLORE: Final = 0.15  # share of sessions outside the favourites
SEASON_AMPLITUDE: Final = 0.9  # demand at the peak is exp(2 x this) times that half a year away
ORDER_BY_TASTE: Final = 0.5  # how much of the utility the shop's own ranking knows
CLICK: Final = -1.2
FOLLOW: Final = 0.6
CART: Final = -2.4
BUY: Final = 0.6
# Whether a person looks at positions 0 to 7 of a page at all.
EXAMINATION: Final[Array] = np.array([1 / (1 + p) ** 0.6 for p in range(8)], np.float32)


@dataclass(frozen=True)
class People:
    """Tastes of n people, float32 unless said otherwise.

    Attributes:
        taste: `[n, d]`, already weighted by the pulls.
        favourites: Category rows, int16 `[n, 4]`.
        weights: Of the favourites, `[n, 4]`; rows add up to 1.
        budget: Price position a person is at ease with, `[n]`.
        sensitivity: Utility lost for each price position above it, `[n]`.
    """

    taste: Array
    favourites: Array
    weights: Array
    budget: Array
    sensitivity: Array

    def __len__(self) -> int:
        return len(self.budget)

    def take(self, rows: Array) -> People:
        """The people at `rows`, copied."""
        return People(*(getattr(self, f.name)[rows] for f in fields(self)))

    def put(self, rows: Array, others: People) -> None:
        """Make `others` `[r]` the people at `rows` `[r]`."""
        for f in fields(self):
            getattr(self, f.name)[rows] = getattr(others, f.name)


@dataclass(frozen=True)
class Appeal:
    """What makes n items wanted, float32 unless said otherwise.

    Attributes:
        taste: `[n, d]`.
        quality: `[n]`.
        price_position: Standard deviations of the log price above its category's median, `[n]`.
        category: Category rows, int16 `[n]`.
    """

    taste: Array
    quality: Array
    price_position: Array
    category: Array


def sigmoid(x: Array) -> Array:
    """Logistic function, any shape."""
    return np.asarray(1 / (1 + np.exp(-x)))


def utility(people: People, appeal: Appeal, items: Array) -> Array:
    """U of `items` `[n, m]` for n people: float32 `[n, m]`."""
    dot = np.einsum("nd,nmd->nm", people.taste, appeal.taste[items])
    above = np.maximum(appeal.price_position[items] - people.budget[:, None], 0)
    return np.asarray(dot + appeal.quality[items] - people.sensitivity[:, None] * above)


def click_given_examined(utilities: Array) -> Array:
    """P(click | the person looked), any shape."""
    return sigmoid(utilities + CLICK)


def cart_given_viewed(utilities: Array) -> Array:
    """P(add to cart | viewed), any shape."""
    return sigmoid(utilities + CART)


def purchase_given_examined(utilities: Array) -> Array:
    """P(purchase | the person looked), any shape."""
    return click_given_examined(utilities) * cart_given_viewed(utilities) * BUY


def season(day_of_year: int) -> Array:
    """Demand multiplier of each category on that day: float64 `[categories]`; 1 where demand does not move."""
    peaks = np.array([leaf.peak for leaf in LEAVES])
    swing = SEASON_AMPLITUDE * np.cos(2 * np.pi * (day_of_year - peaks) / 365.25)
    return np.where(peaks == 0, 1.0, np.exp(swing))


def intent(people: People, demand: Array, popularity: Array) -> Array:
    """P(category | person) on a day: float64 `[n, categories]`.

    Args:
        people: n people.
        demand: Season of each category, 0 where nothing is on the shelf, `[categories]`.
        popularity: Of the categories among explorers, `[categories]`.
    """
    chance = np.zeros((len(people), len(demand)))
    own = people.weights * demand[people.favourites]
    total = own.sum(axis=1, keepdims=True)
    stays = np.where(total > 0, 1 - EXPLORE, 0.0)
    own = stays * own / np.where(total > 0, total, 1)
    for slot in range(own.shape[1]):
        chance[np.arange(len(people)), people.favourites[:, slot]] += own[:, slot]
    anywhere = popularity * demand
    return np.asarray(chance + (1 - stays) * anywhere / anywhere.sum())
