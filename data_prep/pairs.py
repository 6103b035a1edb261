"""Item pairs from people's sequences of positive-gain events: what follows what, and what goes together.

**Transitions** (ordered): each event to the events of the same person at the next `window` places. `count` is the plain number of
times; `decayed` adds 1/places apart, halved every `half_life_days` of age.

**Covisits** (unordered, stored in both directions): two events of one person at most `gap_days` and 100 places apart; the bound
keeps a person with n events at 100 n pairs. `decayed` halves with every quarter of `gap_days` between the two, and with age.

An item is no pair with itself. Age is the time from the pair's later event to the newest event of the log, a factor common to
every pair known at a moment, so it orders them as that moment would. With a synthetic clock nothing ages; one place apart counts
as one day.

A pair belongs to the fold of its later event, and only the `per_item` strongest of each item and fold are kept (`kept_rows`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from core.columns import Array
from core.config import PairConfig
from core.prepared import Protocol
from core.schema import DAY
from data_prep.appender import ColumnAppender
from data_prep.sums import KeyedSums, summed

TRANSITIONS: Final = "transitions"
COVISITS: Final = "covisits"
PROTOCOLS: Final[tuple[Protocol, ...]] = ("global", "last")
NEIGHBOURS: Final = 100  # places that a co-visit reaches
_FOLDS: Final = 4
_STATES: Final = _FOLDS * _FOLDS  # (fold_global, fold_last)
_DTYPES: Final = {"source": "int32", "target": "int32", "fold": "int8", "count": "float32", "decayed": "float32"}
_CHUNK_PAIRS: Final = 4 << 20


@dataclass(frozen=True)
class Sequences:
    """Positive-gain events sorted by (user, time), whole users, all arrays `[n]`."""

    user: Array
    item: Array  # int32
    time: Array  # int64 microseconds
    state: Array  # int64: fold_global * 4 + fold_last


class PairSums:
    """Collects the pairs of chunks of sequences and writes the `pairs/` folder.

    Args:
        n_items: Rows of the item id map.
        config: Window, gap, half-life, pairs kept.
        newest: Time of the newest event, microseconds; None: a synthetic clock, nothing ages.
        spill: A folder for what does not fit in memory.
    """

    def __init__(self, n_items: int, config: PairConfig, newest: int | None, spill: Path) -> None:
        self._n, self._config, self._newest = n_items, config, newest
        self._sums = {name: KeyedSums(n_items * n_items * _STATES, 2, spill) for name in (TRANSITIONS, COVISITS)}

    def add(self, events: Sequences) -> None:
        """Add a chunk."""
        age = self._age_weight(events.time)
        for keys, values in _batched(self._transitions(events, age)):
            self._sums[TRANSITIONS].add(keys, values)
        for keys, values in _batched(self._covisits(events, age)):
            self._sums[COVISITS].add(keys, values)
            source, rest = np.divmod(keys, self._n * _STATES)
            target, state = np.divmod(rest, _STATES)
            self._sums[COVISITS].add((target * self._n + source) * _STATES + state, values)

    def write(self, folder: Path) -> dict[str, int]:
        """Write `<protocol>/transitions` and `<protocol>/covisits` under `folder`; rows of each."""
        written: dict[str, int] = {}
        for name, sums in self._sums.items():
            outs = {p: ColumnAppender(folder / p / name, _DTYPES) for p in PROTOCOLS}
            with outs["global"], outs["last"]:
                for keys, values in sums.ranges(unit=self._n * _STATES):
                    pair, state = np.divmod(keys, _STATES)
                    for protocol, fold in zip(PROTOCOLS, np.divmod(state, _FOLDS), strict=True):
                        cells, per_fold = summed(pair * _FOLDS + fold, values)
                        out = kept_rows(cells // _FOLDS, cells % _FOLDS, per_fold, self._n, self._config.per_item)
                        outs[protocol].append(dict(zip(_DTYPES, out, strict=True)))
            written |= {f"{p}/{name}": outs[p].rows for p in PROTOCOLS}
        return written

    def _age_weight(self, time: Array) -> Array:
        if self._newest is None:
            return np.ones(len(time))
        return np.asarray(np.exp2((time - self._newest) / (self._config.half_life_days * DAY)))

    def _transitions(self, e: Sequences, age: Array) -> Iterator[tuple[Array, Array]]:
        for places in range(1, self._config.window + 1):
            a = np.flatnonzero((e.user[:-places] == e.user[places:]) & (e.item[:-places] != e.item[places:]))
            b = a + places
            yield self._keys(e.item[a], e.item[b], e.state[b]), age[b] / places

    def _covisits(self, e: Sequences, age: Array) -> Iterator[tuple[Array, Array]]:
        """Each unordered pair once, the smaller item row first."""
        gap = self._config.gap_days * DAY
        a = np.arange(len(e.user))
        for places in range(1, NEIGHBOURS + 1):
            a = a[a + places < len(e.user)]
            b = a + places
            apart = e.time[b] - e.time[a]
            near = (e.user[a] == e.user[b]) & (apart <= gap)
            a, b, apart = a[near], b[near], apart[near]  # what is too far apart now is so for every later place
            if len(a) == 0:
                return
            differ = e.item[a] != e.item[b]
            x, y, later = e.item[a[differ]], e.item[b[differ]], b[differ]
            weight = age[later] * np.exp2(-apart[differ] / (gap / 4))
            yield self._keys(np.minimum(x, y), np.maximum(x, y), e.state[later]), weight

    def _keys(self, source: Array, target: Array, state: Array) -> Array:
        return np.asarray((source.astype(np.int64) * self._n + target) * _STATES + state)


def _batched(parts: Iterator[tuple[Array, Array]]) -> Iterator[tuple[Array, Array]]:
    """Keys with (count, decayed) added up, a few million pairs at a time."""
    held: list[tuple[Array, Array]] = []
    rows = 0
    for part in parts:
        held.append(part)
        rows += len(part[0])
        if rows >= _CHUNK_PAIRS:
            yield _counted(held)
            held, rows = [], 0
    if rows:
        yield _counted(held)


def _counted(parts: list[tuple[Array, Array]]) -> tuple[Array, Array]:
    keys, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    return summed(keys, np.stack([np.ones(len(weight)), weight], axis=1))


def kept_rows(
    pairs: Array, folds: Array, values: Array, n_items: int, per_item: int
) -> tuple[Array, Array, Array, Array, Array]:
    """The rows of the `per_item` strongest pairs of each source and fold.

    What is kept in a fold depends on that fold and earlier ones only: a pair's strength at fold f is its `decayed` summed over
    folds up to f, and its row of fold f is written when that is among the strongest of its source. The row then carries what the
    pair gathered since its last written row, so that the rows of the folds below a cut add up to all that was known there.

    Args:
        pairs: source * n_items + target, ascending, int64 `[n]`; all pairs of a source are here.
        folds: `[n]`, ascending for each pair.
        values: count and decayed, float64 `[n, 2]`.
        n_items: Rows of the item id map.
        per_item: Pairs kept for each source.

    Returns:
        source, target, fold, count, decayed, sorted by (source, target, fold).
    """
    distinct, at = np.unique(pairs, return_inverse=True)
    if len(distinct) == 0:
        return (distinct, distinct, distinct, values[:, 0], values[:, 1])
    source = distinct // n_items
    total = np.zeros((len(distinct), 2))
    written = np.zeros((len(distinct), 2))
    rows: list[tuple[Array, Array, Array]] = []
    for fold in range(_FOLDS):
        here = np.flatnonzero(folds == fold)
        if len(here) == 0:
            continue
        total[at[here]] += values[here]
        strong = _strongest(source, total[:, 1], per_item)
        keep = at[here][strong[at[here]]]
        rows.append((keep, np.full(len(keep), fold), total[keep] - written[keep]))
        written[keep] = total[keep]
    pair, fold_column, gathered = (np.concatenate(c) for c in zip(*rows, strict=True))
    order = np.lexsort((fold_column, pair))
    source, target = np.divmod(distinct[pair[order]], n_items)
    return source, target, fold_column[order], gathered[order, 0], gathered[order, 1]


def _strongest(source: Array, strength: Array, k: int) -> Array:
    """Bool `[n]`: the k largest positive strengths of each run of equal sources, ties by position (so by target)."""
    keep = strength > 0
    starts = np.flatnonzero(np.concatenate([[True], source[1:] != source[:-1], [True]]))
    for a, b in itertools.pairwise(starts):
        if b - a > k:
            s = strength[a:b]
            kth = np.partition(s, len(s) - k)[len(s) - k]
            above = s > kth
            ties = np.flatnonzero(s == kth)[: k - int(above.sum())]
            above[ties] = True
            keep[a:b] &= above
    return keep
