"""What most people chose in the last days before the cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from core.schema import DAY
from retrieval.sources.opinion import order_of
from retrieval.sources.popularity import Popularity

if TYPE_CHECKING:
    from retrieval.known import Known


class RecentPopularity(Popularity):
    """The sum of gains over the last `recent_days` before the cut: events, not people, since a week's repeats are demand.

    On an invented clock the days count places in each person's own sequence, and the last of them are no moment of the shop: all of the past
    is taken then, which orders like popularity.
    """

    name: ClassVar[str] = "recent_popularity"

    @classmethod
    def fit(cls, known: Known) -> Self:
        """From the events of the last days known at the cut."""
        events = known.interactions
        recent = (
            slice(None)
            if known.prepared.synthetic_time
            else events.time >= events.until - known.config.recent_days * DAY
        )
        scores = np.bincount(events.item[recent], weights=events.gain[recent], minlength=events.n_items).astype(
            np.float32
        )
        return cls(order_of(scores), scores)
