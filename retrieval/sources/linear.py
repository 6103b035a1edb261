"""What a linear model of everybody's items predicts for this person's: EASE."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

import numpy as np

from core.candidates import Scoring
from core.columns import Array, load_array
from core.history import Query
from retrieval.sources.evidence import seeds
from retrieval.sources.neighbours import Neighbours, NeighboursBuilder

if TYPE_CHECKING:
    from retrieval.known import Known

# Weights kept in all (16 MB), the strongest of each item. Of online-retail's 3,665 items 1,144 a list instead of 286 gain 1.7 % of NDCG and cost
# 0.3 ms a request; this is between.
_PAIRS: Final = 2 << 20


class Linear:
    """Each item of the person adds its row of B, weighted by how long ago it was chosen.

    Steck, Embarrassingly shallow autoencoders for sparse data (WWW 2019), equation 8: of all B with a zero diagonal, the one that best rebuilds
    the binary person-item matrix X from X B under an L2 penalty is B = I - P / diag(P), P = (X'X + penalty I)^-1. Unlike a cosine it knows that
    two items of the history say the same. Weights may be negative: an item can speak against another.
    It names no single item as the reason: a weight can be positive between items that nobody had together.
    """

    name: ClassVar[str] = "linear"

    def __init__(self, neighbours: Neighbours, recency: float) -> None:
        self._neighbours, self._recency = neighbours, recency

    @classmethod
    def fit(cls, known: Known) -> Self:
        """From everyone's distinct items known at the cut; where more than `linear_items` were chosen, from the most chosen of them."""
        from retrieval.cosine import person_item_matrix

        config, matrix = known.config, person_item_matrix(known.interactions).tocsc()
        people = np.diff(matrix.indptr)
        chosen = np.flatnonzero(people)
        if len(chosen) > config.linear_items:
            chosen = np.sort(chosen[np.argsort(-people[chosen], kind="stable")[: config.linear_items]])
        columns = matrix[:, chosen]
        weights = item_weights((columns.T @ columns).toarray(), config.linear_penalty)
        builder = NeighboursBuilder(known.n_items, max(config.neighbours, _PAIRS // max(1, known.n_items)), signed=True)
        for item, row in zip(chosen.tolist(), weights, strict=True):
            builder.add(item, chosen, row)
        return cls(builder.build(), config.linear_recency)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Memory-map what `write` left in `folder`."""
        return cls(Neighbours.open(folder), float(load_array(folder / "recency.npy")[0]))

    def write(self, folder: Path) -> None:
        """Write into `folder`, which is made."""
        self._neighbours.write(folder)
        np.save(folder / "recency.npy", np.array([self._recency]))

    @property
    def facts(self) -> dict[str, float]:
        """For the manifest."""
        return {"pairs": self._neighbours.pairs}

    def scoring(self, query: Query) -> Scoring:
        """From the page's items and the whole history."""
        return self._neighbours.near(*self._seeds(query))

    def _seeds(self, query: Query) -> tuple[Array, Array]:
        return seeds(query, self._neighbours.n_items, len(query.history), self._recency)


def item_weights(together: Array, penalty: float) -> Array:
    """EASE's B float32 `[n, n]`, row item to column item, from X'X `[n, n]`: how many people chose both; `penalty` is in people."""
    from scipy.linalg import lapack

    n = len(together)
    if not n:
        return np.empty((0, 0), np.float32)
    gram = np.array(together, np.float64, order="F")
    gram[np.diag_indices(n)] += penalty
    # X'X + penalty I is positive definite: Cholesky takes a quarter of the time of a general inverse, and fills the upper triangle alone
    inverse = lapack.dpotri(lapack.dpotrf(gram, overwrite_a=True)[0], overwrite_c=True)[0]
    inverse += np.triu(inverse, 1).T - np.tril(inverse, -1)
    inverse /= -np.diag(inverse)
    inverse[np.diag_indices(n)] = 0.0
    return np.asarray(inverse, np.float32)
