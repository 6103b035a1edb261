"""People who chose this also chose that: cosine item kNN."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

import numpy as np

from core.candidates import Scoring
from core.columns import Array
from core.history import Query
from retrieval.sources.evidence import seeds
from retrieval.sources.neighbours import Neighbours

if TYPE_CHECKING:
    from retrieval.known import Known

# A small catalogue keeps longer lists, up to this many pairs in all (48 MB): with 200 of 3,665 items kept, online-retail loses a tenth of its
# NDCG; with all of them it gains nothing.
_PAIRS: Final = 6 << 20


class ItemKnn:
    """Cosine between the columns of the binary person-item matrix; a candidate's score is its sum over the person's distinct items.

    Sarwar, Karypis, Konstan, Riedl: Item-based collaborative filtering recommendation algorithms (WWW 2001), section 3.1.1, on implicit
    feedback; an item is no neighbour of itself. Items on the page count like items of the history.
    """

    name: ClassVar[str] = "item_knn"

    def __init__(self, neighbours: Neighbours) -> None:
        self._neighbours = neighbours

    @classmethod
    def fit(cls, known: Known) -> Self:
        """From everyone's distinct items known at the cut."""
        from retrieval.cosine import nearest, person_item_matrix

        most = max(known.config.neighbours, _PAIRS // max(1, known.n_items))
        return cls(nearest(person_item_matrix(known.interactions), most))

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Memory-map what `write` left in `folder`."""
        return cls(Neighbours.open(folder))

    def write(self, folder: Path) -> None:
        """Write into `folder`, which is made."""
        self._neighbours.write(folder)

    @property
    def facts(self) -> dict[str, float]:
        """For the manifest."""
        return {"pairs": self._neighbours.pairs}

    def scoring(self, query: Query) -> Scoring:
        """From the page's items and the whole history."""
        return self._neighbours.near(*self._seeds(query))

    def because(self, query: Query, row: int) -> int | None:
        """See core.candidates.Explains. Cosine is symmetric: the list of `row` is shorter to read than those of the whole history."""
        items, weights = self._seeds(query)
        found = self._neighbours.first_in_list(row, np.sort(items))
        return self._neighbours.strongest_for(items, weights, row) if found is None else found

    def _seeds(self, query: Query) -> tuple[Array, Array]:
        """Each weighs 1, whenever it was chosen."""
        return seeds(query, self._neighbours.n_items, len(query.history), 0.0)
