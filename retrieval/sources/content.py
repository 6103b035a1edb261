"""Items like these: nearest neighbours by attributes, for items that nobody has chosen yet too."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final, Self

import numpy as np

from core.candidates import Scoring
from core.columns import Array, load_array
from core.history import Query
from retrieval.sources.evidence import seeds
from retrieval.sources.neighbours import Neighbours

if TYPE_CHECKING:
    from retrieval.known import Known


# Every item has a full list, whether anybody chose it or not, and requests touch them all: with 200 of each of a million items (1.6 GB) a server
# would not keep within 1 GB. Catalogues of up to 160,000 items have as many as are configured, larger ones fewer, down to these.
_PAIRS: Final = 32_000_000  # 256 MB
_LEAST: Final = 20


class Content:
    """Cosine between bags of attributes weighted by inverse document frequency, summed over the person's newest items.

    Attributes: tags, category levels, brand, words of the title (retrieval.attributes).
    """

    name: ClassVar[str] = "content"

    def __init__(self, neighbours: Neighbours, context_items: int, recency: float) -> None:
        self._neighbours, self._context_items, self._recency = neighbours, context_items, recency

    @classmethod
    def fit(cls, known: Known) -> Self:
        """From the items that exist at the cut; others are neither neighbours nor counted."""
        from retrieval.attributes import attribute_matrix
        from retrieval.cosine import nearest

        config = known.config
        matrix = attribute_matrix(known.prepared.items, known.items)
        most = min(config.neighbours, max(_LEAST, _PAIRS // max(1, known.n_items)))
        return cls(nearest(matrix, most), config.context_items, config.recency)

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
