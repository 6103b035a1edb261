"""The preferences of a simulated shop on disk (DATA/truth), and what they say of any user, item and day.

| file | content |
|---|---|
| `user_taste.npy`, `user_budget.npy`, `user_sensitivity.npy`, `user_favourites.npy`, `user_weights.npy` | `preferences.People`, row-aligned with users/ |
| `item_taste.npy`, `item_quality.npy`, `item_price_position.npy`, `item_category.npy` | `preferences.Appeal`, row-aligned with items/ |
| `item_launch.npy` | day number from which an item is sold, int32 `[items]` |
| `complements.npy` | item rows that go with an item, int32 `[items, 3]` |
| `outages.npy` | item row, first day, day after the last: out of stock, int32 `[outages, 3]` |
| `category_popularity.npy` | among explorers, float64 `[categories]` |
| `shop.json` | the options, the coefficients of the formulas, examination by position, categories with season peak and complements |
"""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.errors import ArtifactError, NotFoundError
from data_prep.simulate import preferences
from data_prep.simulate.catalogue import Catalogue
from data_prep.simulate.options import ShopOptions
from data_prep.simulate.population import Population, Segments
from data_prep.simulate.preferences import Appeal, Array, People
from data_prep.simulate.taxonomy import LEAVES

FOLDER: Final = "truth"
_SHOP: Final = "shop.json"
_COEFFICIENTS: Final = ("EXPLORE", "SEASON_AMPLITUDE", "ORDER_BY_TASTE", "CLICK", "FOLLOW", "CART", "BUY")
_PEOPLE: Final = tuple(f.name for f in fields(People))
_APPEAL: Final = tuple(f.name for f in fields(Appeal))


def write_truth(
    root: Path, options: ShopOptions, segments: Segments, population: Population, catalogue: Catalogue
) -> None:
    """Write DATA/truth."""
    folder = root / FOLDER
    folder.mkdir()
    arrays = {f"user_{f}": getattr(population.people, f) for f in _PEOPLE}
    arrays |= {f"item_{f}": getattr(catalogue.appeal, f) for f in _APPEAL}
    arrays |= {
        "item_launch": catalogue.launch,
        "complements": catalogue.complements,
        "outages": catalogue.outages,
        "category_popularity": segments.popularity,
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    shop = {
        "options": options.plain(),
        "coefficients": {name: getattr(preferences, name) for name in _COEFFICIENTS},
        "examination": [float(p) for p in preferences.EXAMINATION],
        "categories": [asdict(leaf) for leaf in LEAVES],
    }
    (folder / _SHOP).write_text(json.dumps(shop, indent=1) + "\n")


class Truth:
    """The known preferences of a simulated shop, memory-mapped. Rows are those of the items and users tables."""

    def __init__(self, data: Path) -> None:
        """Open DATA/truth.

        Raises:
            NotFoundError: `data` is not a simulated shop.
            ArtifactError: It was simulated with other coefficients than this code has.
        """
        folder = data / FOLDER
        try:
            shop: dict[str, Any] = json.loads((folder / _SHOP).read_text())
        except FileNotFoundError:
            raise NotFoundError(
                f"{folder / _SHOP}: not there; only `./aisle simulate` knows the preferences it planted"
            ) from None
        ours = {name: getattr(preferences, name) for name in _COEFFICIENTS}
        if shop["coefficients"] != ours:
            raise ArtifactError(
                f"{folder}: simulated with {shop['coefficients']}, this code has {ours}; simulate it again"
            )

        def load(name: str) -> Array:
            return np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r"))

        self.options = ShopOptions(**shop["options"] | {"start": dt.date.fromisoformat(shop["options"]["start"])})
        self.examination = np.array(shop["examination"])
        self.people = People(*(load(f"user_{f}") for f in _PEOPLE))
        self.appeal = Appeal(*(load(f"item_{f}") for f in _APPEAL))
        self.launch, self.complements, self.outages = load("item_launch"), load("complements"), load("outages")
        self._popularity = load("category_popularity")

    def utility(self, users: Array, items: Array) -> Array:
        """U of each pair: user rows `[n]`, item rows `[n]` -> float32 `[n]`."""
        return np.asarray(preferences.utility(self.people.take(users), self.appeal, items[:, None])[:, 0])

    def preference(self, users: Array, day: int) -> Array:
        """What each of n users truly wants of every item on day number `day`: float64 `[n, items]`, 0 for items not launched yet."""
        people = self.people.take(users)
        launched = self.launch <= day
        sold = np.bincount(self.appeal.category[launched], minlength=len(LEAVES)) > 0
        demand = preferences.season(self.options.date(day).timetuple().tm_yday) * sold
        intent = preferences.intent(people, demand, self._popularity)[:, self.appeal.category]
        every = np.broadcast_to(np.arange(len(self.launch)), (len(users), len(self.launch)))
        wanted = preferences.purchase_given_examined(preferences.utility(people, self.appeal, every))
        return np.where(launched, intent * wanted, 0.0)
