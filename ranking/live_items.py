"""What features know of items that came, or were changed, after the release was made.

Brand, category, attributes and price are as the shop says; what only events tell is at the default that its feature declares (ranking.feature_list).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

import numpy as np

from core.columns import Columns
from core.live_columns import LiveTagColumn
from core.room import with_room
from core.schema import Column
from ranking.feature_list import ITEM
from ranking.item_table import FACT_NAMES, ItemTable, codes

_DEFAULTS: Final = np.array([f.default for f in ITEM], np.float32)
_PRICE: Final = FACT_NAMES.index("item.price")


class LiveItemTable:
    """An item table that is written to. Attributes that no item had at the cut have no rarity, and are left out."""

    def __init__(self, base: ItemTable, room: int) -> None:
        self._base = base
        self._facts = with_room(base.facts, room)
        self._attributes = LiveTagColumn(base.attributes, room, open=False)

    def write(self, row: int, price: float | None, attributes: Iterable[str]) -> None:
        """Replace a row. Facts from events stay those of the cut for an item that was there.

        Args:
            row: Of the item; a new one is behind the others.
            price: Of one unit; None where it is unknown.
            attributes: `name=value`, of category, brand and every coded or tag attribute.
        """
        if row >= len(self._base):
            self._facts[row] = _DEFAULTS
        self._facts[row, _PRICE] = np.log1p(price) if price else 0.0
        self._attributes.write(row, attributes)

    def view(self, items: Columns) -> ItemTable:
        """The table beside the item columns that it is aligned with."""
        n = items.rows
        return replace(
            self._base,
            facts=self._facts[:n],
            brand=codes(items, Column.BRAND),
            category=codes(items, Column.CATEGORY),
            attributes=self._attributes.view(n),
        )
