"""Buy again: the person's own items, the most frequent first."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np

from core.candidates import Scoring
from core.columns import Array, load_array
from core.compiled import library
from core.history import History, Query
from core.schema import EventType
from retrieval.sources import compiled
from retrieval.sources.opinion import FewItems
from retrieval.sources.popularity import people_gains

if TYPE_CHECKING:
    from retrieval.known import Known


class OwnFrequency:
    """An item's score is the sum of the gains that the person gave it, less what was returned since.

    Ties go to the newer item, then to the more popular one: the place in that order adds less than half of the history's smallest gain.
    """

    name: ClassVar[str] = "own_frequency"

    def __init__(self, popularity: Array) -> None:
        self._popularity = popularity  # float32 [n_items]

    @classmethod
    def fit(cls, known: Known) -> Self:
        """Only popularity is fitted; the rest is the query's history."""
        return cls(people_gains(known.interactions))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Memory-map what `write` left in `folder`."""
        return cls(load_array(folder / "popularity.npy"))

    def write(self, folder: Path) -> None:
        """Write into `folder`, which is made."""
        folder.mkdir(parents=True)
        np.save(folder / "popularity.npy", self._popularity)

    @property
    def facts(self) -> dict[str, float]:
        """For the manifest."""
        return {}

    def scoring(self, query: Query) -> Scoring:
        """Of the person's own items."""
        kernel = library()
        if kernel is None:
            return self.counted(query)
        bought, returned = EventType.PURCHASE_COMPLETE.code, EventType.RETURN.code
        return compiled.own(kernel, query, self._popularity, bought, returned)

    def counted(self, query: Query) -> FewItems:
        """The same by numpy."""
        history = query.history
        known = (history.items >= 0) & (history.items < len(self._popularity))
        items, totals, newest, least = kept_gains(
            History(history.items[known], history.times[known], history.types[known], history.gains[known])
        )
        if not len(items):
            return FewItems(items, np.empty(0, np.float32))
        places = np.empty(len(items))
        places[np.lexsort((-items, self._popularity[items], newest))] = np.arange(len(items))
        return FewItems(items, (totals + places / len(items) * least / 2).astype(np.float32))


def kept_gains(history: History) -> tuple[Array, Array, Array, float]:
    """What is left of each item's gains after returns.

    A return takes back one earlier purchase of its item; a return whose purchase is older than the history takes back nothing, and nothing
    that comes later.

    Returns:
        items int32 `[m]` ascending with something left, their gains float64 `[m]`, time of their newest success int64 `[m]`, and the smallest
        gain of one event.
    """
    returned = history.types == EventType.RETURN.code
    success = (history.gains > 0) & ~returned
    if not success.any():
        return np.empty(0, np.int32), np.empty(0), np.empty(0, np.int64), 0.0
    items, group = np.unique(history.items[success], return_inverse=True)
    totals = np.bincount(group, weights=history.gains[success])
    newest = np.zeros(len(items), np.int64)
    np.maximum.at(newest, group, history.times[success])
    for item in np.unique(history.items[returned]):
        at = np.searchsorted(items, item)
        if at < len(items) and items[at] == item:
            totals[at] -= _taken_back(history, item)
    left = totals > 1e-6
    return items[left].astype(np.int32), totals[left], newest[left], float(history.gains[success].min())


def _taken_back(history: History, item: int) -> float:
    """Gain of the purchases of one item that its returns take back: each return the newest purchase before it that is not taken back yet."""
    mine = history.items == item
    bought: list[float] = []
    taken = 0.0
    for kind, gain in zip(history.types[mine].tolist(), history.gains[mine].tolist(), strict=True):
        if kind == EventType.PURCHASE_COMPLETE.code:
            bought.append(gain)
        elif kind == EventType.RETURN.code and bought:
            taken += bought.pop()
    return taken
