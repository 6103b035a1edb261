"""Sources that propose some of the items only: what a filter or a rule leaves. Nothing that it forbids ever takes the place of a candidate."""

from __future__ import annotations

from typing import Final

import numpy as np

from core.candidates import Narrows, Scoring, Source
from core.columns import Array
from core.history import Query

_SPARE: Final = 16  # asked for beyond k at first
_FACTOR: Final = 4  # and so many times more in each further round


class Narrowed:
    """A source that knows of no filter: it is asked for more until enough of its proposals are allowed, or it has no more."""

    def __init__(self, source: Source, allowed: Array) -> None:
        self._source, self._allowed = source, allowed

    @property
    def name(self) -> str:
        """Of the source itself."""
        return self._source.name

    def scoring(self, query: Query) -> Scoring:
        """See core.candidates.Source."""
        return _NarrowedScoring(self._source.scoring(query), self._allowed)


class _NarrowedScoring:
    def __init__(self, scoring: Scoring, allowed: Array) -> None:
        self._scoring, self._allowed = scoring, allowed

    def top(self, k: int, excluded: Array) -> tuple[Array, Array]:
        """See core.candidates.Scoring."""
        asked = k + _SPARE
        while True:
            rows, scores = self._scoring.top(asked, excluded)
            kept = np.flatnonzero(self._allowed[rows])
            if len(kept) >= k or len(rows) < asked:
                return rows[kept[:k]], scores[kept[:k]]
            asked *= _FACTOR

    def of(self, rows: Array) -> Array:
        """See core.candidates.Scoring."""
        return self._scoring.of(rows)


def narrowed(sources: tuple[Source, ...], allowed: Array | None) -> tuple[Source, ...]:
    """The sources as if there were no items but those that `allowed` (bool `[items]`) marks; None: all."""
    if allowed is None:
        return sources
    return tuple(s.narrowed(allowed) if isinstance(s, Narrows) else Narrowed(s, allowed) for s in sources)
