"""What people chose next, after the items that this person chose last."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Self

import numpy as np

from core.columns import Array
from retrieval.sources.neighbours import Neighbours, NeighboursBuilder
from retrieval.sources.newest import NearNewest

if TYPE_CHECKING:
    from retrieval.known import Known

_CHUNK: Final = 1 << 23  # pairs read at a time


class Transitions(NearNewest):
    """Decayed counts of item b among the next few after item a, summed over the person's newest items with weights that fall with age.

    A Markov chain whose steps may skip (Shani, Heckerman, Brafman: An MDP-based recommender system, JMLR 6, 2005, section 3). `prepare` counts
    the pairs. A count is divided by the square root of its source's total: undivided, the most bought of the person's items would speak for all
    of them, and divided by the whole total the rarest would, on next to no evidence.
    """

    name: ClassVar[str] = "transitions"
    table: ClassVar[str] = "transitions"  # of the prepared pairs

    @classmethod
    def fit(cls, known: Known) -> Self:
        """From the prepared pairs known at the cut."""
        config = known.config
        return cls(
            strongest_pairs(known, cls.table, config.neighbours, power=0.5), config.context_items, config.recency
        )


def strongest_pairs(known: Known, table: str, most: int, power: float) -> Neighbours:
    """The `most` strongest targets of each source: `decayed` summed over the folds known at the cut, over the source's total to the `power`."""
    pairs = known.pairs(table)
    builder = NeighboursBuilder(known.n_items, most)
    sources = pairs.numbers("source")
    start = 0
    while start < len(sources):
        stop = start + _CHUNK
        if stop < len(sources):  # whole sources: back to the first pair of the one that is cut
            stop = int(np.searchsorted(sources, sources[stop], side="left"))
            if stop <= start:
                stop = int(np.searchsorted(sources, sources[start], side="right"))
        part = slice(start, min(stop, len(sources)))
        keep = pairs.numbers("fold")[part] < known.fold.below
        source, target, decayed = (pairs.numbers(c)[part][keep] for c in ("source", "target", "decayed"))
        _add(builder, source, target, decayed, power)
        start = stop
    return builder.build()


def _add(builder: NeighboursBuilder, source: Array, target: Array, decayed: Array, power: float) -> None:
    """Pairs sorted by (source, target), one row a fold."""
    if not len(source):
        return
    new = np.flatnonzero(np.concatenate([[True], (source[1:] != source[:-1]) | (target[1:] != target[:-1])]))
    totals = np.add.reduceat(decayed.astype(np.float64), new)
    source, target = source[new], target[new]
    bounds = np.flatnonzero(np.concatenate([[True], source[1:] != source[:-1], [True]]))
    for a, b in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        builder.add(int(source[a]), target[a:b], totals[a:b] / max(totals[a:b].sum(), 1e-30) ** power)
