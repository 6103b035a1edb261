"""How many events each day gets, and what earlier days left for it: returns and consumables that ran out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.schema import EventType
from data_prep.simulate.catalogue import Catalogue
from data_prep.simulate.log import Rows
from data_prep.simulate.options import AFTERMATH, CALENDAR, ShopOptions
from data_prep.simulate.preferences import Array
from data_prep.simulate.taxonomy import LEAVES, consumable_days

_WEEK: Final = np.array([1.0, 0.92, 0.92, 0.96, 1.0, 1.12, 1.2])  # Monday first
_GROWTH: Final = 0.4  # traffic of the last day over that of the first, less one
_RETURN_DAYS: Final = (3, 21)
_RETURNED: Final = 0.03
_RETURNED_TO_WEAR: Final = 0.12
_REORDERED: Final = 0.6  # of the purchases of a consumable


def day_quotas(options: ShopOptions) -> Array:
    """Events of each day, adding up to `options.events`: int64 `[days]`."""
    days = np.arange(options.days)
    weight = _WEEK[(options.start.weekday() + days) % 7] * (1 + _GROWTH * days / options.days)
    weight = weight * options.stream(CALENDAR).gamma(60, size=options.days)
    until = np.floor(np.cumsum(weight) / weight.sum() * options.events + 0.5).astype(np.int64)
    until[-1] = options.events
    return np.diff(until, prepend=0)


@dataclass(frozen=True)
class Due:
    """What is due on one day: `[n]` each: user and item rows, pieces."""

    user: Array
    item: Array
    quantity: Array


_NOTHING: Final = Due(*(np.empty(0, np.int64) for _ in range(3)))


class Aftermath:
    """What purchases lead to on later days. Holds only what is still due before the last day."""

    def __init__(self, options: ShopOptions, catalogue: Catalogue) -> None:
        to_wear = np.array([leaf.path.startswith(("Clothing", "Shoes")) for leaf in LEAVES])
        self._options, self._category = options, catalogue.appeal.category
        self._return_chance = np.where(to_wear, _RETURNED_TO_WEAR, _RETURNED)
        self._period = consumable_days()
        self._returns: dict[int, list[Due]] = {}
        self._reorders: dict[int, list[Due]] = {}

    def returns(self, day: int) -> Due:
        """Purchases that come back on `day`; asked once a day."""
        return _all(self._returns.pop(day, []))

    def reorders(self, day: int) -> Due:
        """Consumables that ran out on `day`; asked once a day."""
        return _all(self._reorders.pop(day, []))

    def learn(self, rows: Rows, day: int) -> None:
        """Take note of the purchases of registered users on `day`."""
        bought = rows.take((rows.type == EventType.PURCHASE_COMPLETE.code) & (rows.user >= 0))
        rng = self._options.stream(AFTERMATH, day, int(rows.session.max(initial=0)))
        category = self._category[bought.item]
        comes_back = rng.random(len(bought)) < self._return_chance[category]
        on = day + rng.integers(*_RETURN_DAYS, size=len(bought))
        self._plan(self._returns, bought, comes_back, on)
        period = self._period[category]
        runs_out = (period > 0) & ~comes_back & (rng.random(len(bought)) < _REORDERED)
        on = day + np.maximum(1, np.round(period * rng.uniform(0.8, 1.2, len(bought)))).astype(np.int64)
        self._plan(self._reorders, bought, runs_out, on)

    def _plan(self, plans: dict[int, list[Due]], bought: Rows, chosen: Array, on: Array) -> None:
        chosen = chosen & (on < self._options.days)
        for day in np.unique(on[chosen]):
            rows = chosen & (on == day)
            plans.setdefault(int(day), []).append(Due(bought.user[rows], bought.item[rows], bought.quantity[rows]))


def _all(due: list[Due]) -> Due:
    if not due:
        return _NOTHING
    return Due(*(np.concatenate([getattr(d, f) for d in due]) for f in ("user", "item", "quantity")))
