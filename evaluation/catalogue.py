"""What was known of the items when the test queries were asked. Time is the law: only events of the folds below the cut are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.columns import Array
from core.prepared import Fold, Prepared
from core.schema import Column

NEVER: Final = np.iinfo(np.int64).max


@dataclass(frozen=True)
class Catalogue:
    """Facts about the items, row-aligned with the item id map."""

    popularity: Array  # int64 [n]: people with a positive-gain event on the item
    first_seen: Array  # int64 [n], microseconds: the item's first event of any kind; NEVER without one
    alive: Array  # bool [n]: not a deleted id
    people: int  # with any positive-gain event
    synthetic_time: bool

    def __len__(self) -> int:
        return len(self.popularity)

    @property
    def known(self) -> Array:
        """Items with any event before the cut, bool `[n]`."""
        return np.asarray(self.first_seen < NEVER)

    @classmethod
    def of(cls, prepared: Prepared, fold: Fold) -> Catalogue:
        """As known at `fold`."""
        n = len(prepared.item_ids)
        choices = prepared.interactions(fold)
        pairs = np.unique(choices.user.astype(np.int64) * n + choices.item)
        events = prepared.events
        before = events.numbers(fold.column) < fold.below
        first_seen = np.full(n, NEVER, np.int64)
        np.minimum.at(first_seen, events.numbers(Column.ITEM)[before], events.numbers(Column.TIME)[before])
        return cls(
            popularity=np.bincount(pairs % n, minlength=n) if n else np.zeros(0, np.int64),
            first_seen=first_seen,
            alive=np.asarray(prepared.item_ids.alive),
            people=len(np.unique(choices.user)),
            synthetic_time=prepared.synthetic_time,
        )
