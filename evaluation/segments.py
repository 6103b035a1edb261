"""For whom, and for which items, the answers are good: every query or relevant pair in one segment of each kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.columns import Array
from core.schema import DAY
from evaluation.catalogue import Catalogue
from evaluation.exposure import percentiles
from evaluation.judgements import Judgements

_LENGTHS: Final = ((0, "0"), (1, "1"), (2, "2-4"), (5, "5-9"), (10, "10-49"), (50, "50+"))
_AGES: Final = ((0, "0-6 days"), (7, "7-29 days"), (30, "30-89 days"), (90, "90-364 days"), (365, "365+ days"))
_NEW: Final = "new"  # no event before the cut names the item


@dataclass(frozen=True)
class Segmentation:
    """A kind of segment: `labels[codes[i]]` is the segment of query i, or of relevant pair i."""

    name: str
    labels: tuple[str, ...]
    codes: Array  # int64 [q], or [p] if `of_pairs`
    of_pairs: bool

    def pairs(self, judgements: Judgements, label: str) -> Array:
        """The relevant pairs of one segment, bool `[p]`."""
        chosen = self.codes == self.labels.index(label)
        return np.asarray(chosen if self.of_pairs else chosen[judgements.relevance.queries])


def segmentations(judgements: Judgements, catalogue: Catalogue) -> list[Segmentation]:
    """All kinds. Item age is left out where the clock is invented."""
    kinds = [history_length(judgements), item_popularity(judgements, catalogue)]
    return kinds if catalogue.synthetic_time else [*kinds, item_age(judgements, catalogue)]


def history_length(judgements: Judgements) -> Segmentation:
    """Queries by the number of positive-gain events that were known of the user."""
    return Segmentation("history_length", *_bucketed(judgements.choices, _LENGTHS), of_pairs=False)


def item_popularity(judgements: Judgements, catalogue: Catalogue) -> Segmentation:
    """Pairs by the popularity decile of the item among the items known at the cut; "10" holds the most popular."""
    known = np.flatnonzero(catalogue.known)
    decile = np.full(len(catalogue), 10)
    decile[known] = np.minimum(9, (10 * percentiles(catalogue.popularity[known])).astype(np.int64))
    labels = (*(str(d) for d in range(1, 11)), _NEW)
    return Segmentation("item_popularity_decile", labels, decile[judgements.relevance.items], of_pairs=True)


def item_age(judgements: Judgements, catalogue: Catalogue) -> Segmentation:
    """Pairs by the time from the item's first known event to the query."""
    items, times = judgements.relevance.items, judgements.times[judgements.relevance.queries]
    known = catalogue.known[items]
    # under `last` the first known event may be another user's later on the clock: as young as can be
    age = np.maximum(0, times - np.where(known, catalogue.first_seen[items], times)) // DAY
    labels, codes = _bucketed(age, _AGES)
    return Segmentation("item_age", (*labels, _NEW), np.where(known, codes, len(labels)), of_pairs=True)


def _bucketed(values: Array, buckets: tuple[tuple[int, str], ...]) -> tuple[tuple[str, ...], Array]:
    lowest, labels = zip(*buckets, strict=True)
    return tuple(labels), np.searchsorted(lowest, values, side="right") - 1
