"""What can be seen on one day: launched, in stock, weighed by popularity and novelty, grouped by category for drawing."""

from __future__ import annotations

from typing import Final

import numpy as np

from data_prep.simulate.catalogue import Catalogue
from data_prep.simulate.options import ShopOptions
from data_prep.simulate.population import Segments
from data_prep.simulate.preferences import Array, season
from data_prep.simulate.taxonomy import LEAVES

NOVELTY: Final = 3.0  # a new item is shown this many times more often on top,
NOVELTY_DAYS: Final = 14.0  # fading with this time constant


def sold_out(catalogue: Catalogue, day: int) -> Array:
    """Which items are out of stock for all of `day`: bool `[items]`."""
    out = np.zeros(len(catalogue), bool)
    begun = catalogue.outages[: np.searchsorted(catalogue.outages[:, 1], day, side="right")]
    out[begun[begun[:, 2] > day, 0]] = True
    return out


class Shelf:
    """The items of one day.

    Attributes:
        live: Launched and in stock, bool `[items]`.
        demand: Season of each category, 0 where its shelf is empty, float64 `[categories]`.
        popularity: Of the categories, float64 `[categories]`.
    """

    def __init__(self, options: ShopOptions, catalogue: Catalogue, segments: Segments, order: Array, day: int) -> None:
        """`order` is the item rows sorted by category."""
        self.live = (catalogue.launch <= day) & ~sold_out(catalogue, day)
        age = np.arange(options.days + 1)
        novelty = 1 + NOVELTY * np.exp(-age / NOVELTY_DAYS)
        novelty[age > day] = 1  # an item that was there before the first day is no novelty
        weight = np.where(self.live, catalogue.popularity * novelty[day - np.maximum(catalogue.launch, -1)], 0.0)[order]
        self._order, self._edges = order, np.searchsorted(catalogue.appeal.category[order], np.arange(len(LEAVES) + 1))
        self._cumulative = np.concatenate([[0.0], np.cumsum(weight)])
        filled = np.diff(self._cumulative[self._edges]) > 0
        self.demand = season(options.date(day).timetuple().tm_yday) * filled
        self.popularity = segments.popularity

    def draw(self, rng: np.random.Generator, categories: Array, n: int) -> Array:
        """Draw n items by weight, with repetition, of each of `categories` `[s]`: int64 `[s, n]`."""
        low, high = self._cumulative[self._edges[categories]], self._cumulative[self._edges[categories + 1]]
        spot = low[:, None] + rng.random((len(categories), n)) * (high - low)[:, None]
        place = np.searchsorted(self._cumulative, spot.ravel(), side="right") - 1
        return np.asarray(self._order[np.minimum(place, len(self._order) - 1)].reshape(spot.shape))
