"""What a source may be fitted on: a prepared data set as it was known at a cut."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from core.columns import Array, Columns
from core.config import SourcesConfig
from core.prepared import FULL, Fold, Interactions, Prepared
from core.schema import Column


@dataclass(frozen=True)
class Known:
    """The view of `prepared` at `fold` that every source is fitted through, so that none can look past the cut."""

    prepared: Prepared
    fold: Fold
    config: SourcesConfig

    @property
    def n_items(self) -> int:
        """Rows of the item id map; fitted arrays align with it."""
        return len(self.prepared.item_ids)

    @cached_property
    def interactions(self) -> Interactions:
        """Events with positive gain known at the fold."""
        return self.prepared.interactions(self.fold)

    @cached_property
    def items(self) -> Array:
        """Which items exist at the fold: bool `[n_items]`.

        An item exists from its first event of any type, or from its `created_at`. Without either it is taken to be new: it exists for the
        refit on everything (what is published), and at no earlier cut, since being in today's items table says nothing of the past.
        """
        if self.fold == FULL:
            return np.asarray(self.prepared.item_ids.alive, bool)
        events = self.prepared.events
        seen = np.zeros(self.n_items, bool)
        seen[events.numbers(Column.ITEM)[events.numbers(self.fold.column) < self.fold.below]] = True
        if Column.CREATED_AT in self.prepared.items:
            created = self.prepared.items.numbers(Column.CREATED_AT)
            seen |= (created >= 0) & (created < self.prepared.until(self.fold))
        return seen & self.prepared.item_ids.alive

    def pairs(self, name: str) -> Columns:
        """Pairs of the fold's protocol, every fold: filter by `fold < below`."""
        return self.prepared.pairs(self.fold.protocol, name)
