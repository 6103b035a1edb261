"""Statistics of item pairs as of any day: what was known at the last cut of the timeline before it (core/prepared.py: a pair knows its fold).

The score of a pair is its decayed count over the root of the product of both items' totals. So what is popular with everything scores low, and the age
that `decayed` is relative to, the newest event of the log, falls out of the fraction: nothing in a score comes from after the cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np

from core.columns import Array, Columns
from core.prepared import Prepared
from core.schema import DAY

_KINDS: Final = ("covisits", "transitions")


@dataclass(frozen=True)
class Known:
    """All pairs known at a cut, sorted by (source, target)."""

    source: Array  # int64 [p]
    target: Array  # int64 [p]
    values: Array  # float32 [p, len(PAIR_STATISTICS)]


class PairStatistics:
    """Answers for many (item, other item, day) at once."""

    def __init__(self, prepared: Prepared) -> None:
        self._tables = [prepared.pairs("global", kind) for kind in _KINDS]
        self._n = len(prepared.item_ids)
        c = prepared.cuts
        self.cut_days = np.array([-(-t // DAY) for t in (c.ranker, c.validation, c.test, c.end)])
        """The first day as of which each fold is known, ascending, int64 `[4]`."""
        self.known = lru_cache(maxsize=4)(self._known)

    def as_of(self, items: Array, others: Array, days: Array) -> Array:
        """float32 `[n, len(PAIR_STATISTICS)]`; zeros for a pair that was not known, or not kept, then."""
        keys = np.asarray(items, np.int64) * self._n + others
        folds = np.searchsorted(self.cut_days, days, side="right")
        out = np.zeros((len(keys), 2 * len(_KINDS)), np.float32)
        for below in np.unique(folds[folds > 0]):
            known: Known = self.known(int(below))
            here = np.flatnonzero(folds == below)
            present = known.source * self._n + known.target
            at = np.minimum(np.searchsorted(present, keys[here]), max(len(present) - 1, 0))
            found = present[at] == keys[here] if len(present) else np.zeros(len(here), bool)
            out[here[found]] = known.values[at[found]]
        return out

    def _known(self, below: int) -> Known:
        """Count and score of every pair of the folds below `below`, for each kind."""
        parts = [_scored(table, below, self._n) for table in self._tables]
        keys = np.unique(np.concatenate([k for k, _ in parts]))
        values = np.zeros((len(keys), 2 * len(_KINDS)), np.float32)
        for kind, (present, scored) in enumerate(parts):
            values[np.searchsorted(keys, present), 2 * kind : 2 * kind + 2] = scored
        source, target = np.divmod(keys, self._n)
        return Known(source, target, values)


def _scored(table: Columns, below: int, n_items: int) -> tuple[Array, Array]:
    """Keys source * n_items + target, ascending, and (count, score) `[p, 2]`."""
    keep = np.flatnonzero(table.numbers("fold") < below)
    source, target = (table.numbers(c)[keep].astype(np.int64) for c in ("source", "target"))
    keys, at = np.unique(source * n_items + target, return_inverse=True)
    count, decayed = (
        np.bincount(at, weights=table.numbers(c)[keep], minlength=len(keys)) for c in ("count", "decayed")
    )
    source, target = np.divmod(keys, n_items)
    given, taken = (np.bincount(rows, weights=decayed, minlength=n_items) for rows in (source, target))
    root = np.sqrt(given[source] * taken[target])
    return keys, np.stack([count, np.divide(decayed, root, out=np.zeros_like(root), where=root > 0)], axis=1)
