"""Items like these: nearest neighbours by attributes, for items that nobody has chosen yet too."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Self

from retrieval.sources.newest import NearNewest

if TYPE_CHECKING:
    from retrieval.known import Known


# Every item has a full list, whether anybody chose it or not, and requests touch them all: with 200 of each of a million items (1.6 GB) a server
# would not keep within 1 GB. Catalogues of up to 160,000 items have as many as are configured, larger ones fewer, down to these.
_PAIRS: Final = 32_000_000  # 256 MB
_LEAST: Final = 20


class Content(NearNewest):
    """Cosine between bags of attributes weighted by inverse document frequency, summed over the person's newest items.

    Attributes: tags, category levels, brand, words of the title (retrieval.attributes).
    """

    name: ClassVar[str] = "content"

    @classmethod
    def fit(cls, known: Known) -> Self:
        """From the items that exist at the cut; others are neither neighbours nor counted."""
        from retrieval.attributes import attribute_matrix
        from retrieval.cosine import nearest

        config = known.config
        matrix = attribute_matrix(known.prepared.items, known.items)
        most = min(config.neighbours, max(_LEAST, _PAIRS // max(1, known.n_items)))
        return cls(nearest(matrix, most), config.context_items, config.recency)
