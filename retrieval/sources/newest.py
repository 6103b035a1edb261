"""Sources that sum, over the items that a person chose last, what lies near each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np

from core.candidates import Scoring
from core.columns import Array, load_array
from core.history import Query
from retrieval.sources.evidence import seeds
from retrieval.sources.neighbours import Neighbours


class NearNewest:
    """A candidate's score is its sum over the page's items and the newest of the history, whose weights fall with age.

    Args:
        neighbours: What lies near each item, and how near.
        context_items: So many of the newest count.
        recency: The p-th newest weighs p ** -recency (retrieval.sources.evidence).
    """

    def __init__(self, neighbours: Neighbours, context_items: int, recency: float) -> None:
        self._neighbours, self._context_items, self._recency = neighbours, context_items, recency

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Memory-map what `write` left in `folder`."""
        context_items, recency = load_array(folder / "seeds.npy").tolist()
        return cls(Neighbours.open(folder), int(context_items), float(recency))

    def write(self, folder: Path) -> None:
        """Write into `folder`, which is made."""
        self._neighbours.write(folder)
        np.save(folder / "seeds.npy", np.array([self._context_items, self._recency]))

    @property
    def facts(self) -> dict[str, float]:
        """For the manifest."""
        return {"pairs": self._neighbours.pairs}

    def scoring(self, query: Query) -> Scoring:
        """From the page's items and the newest of the history."""
        return self._neighbours.near(*self._seeds(query))

    def because(self, query: Query, row: int) -> int | None:
        """See core.candidates.Explains."""
        return self._neighbours.strongest_for(*self._seeds(query), row)

    def _seeds(self, query: Query) -> tuple[Array, Array]:
        return seeds(query, self._neighbours.n_items, self._context_items, self._recency)
