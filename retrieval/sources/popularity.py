"""What most people choose."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from core.candidates import Scoring
from core.columns import Array, load_array
from core.history import Query
from retrieval.sources.opinion import WholeOrder, order_of

if TYPE_CHECKING:
    from core.prepared import Interactions
    from retrieval.known import Known


class Popularity:
    """An item's score is the sum over people of the strongest gain that each gave it.

    With one kind of event that is the number of distinct people: somebody who buys every week counts once, which orders what a person does not
    yet have better than counting events does (docs/decisions.md).
    """

    name: ClassVar[str] = "popularity"

    def __init__(self, order: Array, scores: Array) -> None:
        self._order, self._scores = order, scores

    @classmethod
    def fit(cls, known: Known) -> Self:
        """From every event known at the cut."""
        scores = people_gains(known.interactions)
        return cls(order_of(scores), scores)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Memory-map what `write` left in `folder`."""
        return cls(load_array(folder / "order.npy"), load_array(folder / "scores.npy"))

    def write(self, folder: Path) -> None:
        """Write into `folder`, which is made."""
        folder.mkdir(parents=True)
        np.save(folder / "order.npy", self._order)
        np.save(folder / "scores.npy", self._scores)

    @property
    def facts(self) -> dict[str, float]:
        """For the manifest."""
        return {"items": len(self._order)}

    def scoring(self, query: Query) -> Scoring:
        """The same for everybody."""
        return WholeOrder(self._order, self._scores)


def people_gains(events: Interactions, since: int | None = None) -> Array:
    """Sum over people of each one's strongest gain, float32 `[n_items]`; `since`: only events from that moment on, microseconds."""
    recent = slice(None) if since is None else events.time >= since
    user, item, gain = events.user[recent], events.item[recent], events.gain[recent]
    order = np.lexsort((-gain, item, user))
    user, item, gain = user[order], item[order], gain[order]
    first = np.ones(len(user), bool)
    first[1:] = (user[1:] != user[:-1]) | (item[1:] != item[:-1])
    return np.bincount(item[first], weights=gain[first], minlength=events.n_items).astype(np.float32)
