"""Item pairs from people's sequences of positive-gain events: what follows what, and what goes together.

**Transitions** (ordered): each event to the events of the same person at the next `window` places. `count` is the plain number of
times; `decayed` adds 1/places apart, halved every `half_life_days` of age.

**Covisits** (unordered, stored in both directions): two events of one person at most `gap_days` and 100 places apart; the bound
keeps a person with n events at 100 n pairs. `decayed` halves with every quarter of `gap_days` between the two, and with age.

An item is no pair with itself. Age is the time from the pair's later event to the newest event of the log, a factor common to
every pair known at a moment, so it orders them as that moment would. With a synthetic clock nothing ages; one place apart counts
as one day.

A pair belongs to the fold of its later event, and only the `per_item` strongest of each item and fold are kept (data_prep.pruning).

Nothing is ever forgotten by pruning: the sums of all pairs go to `carried/pairs/`, and the next night adds what is new to them and
takes away what is gone. A person's pair belongs to its later event, so a night needs only the pairs whose later event is new, gone or
in another fold than before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from core.columns import Array, Columns
from core.config import PairConfig
from core.prepared import Protocol
from core.schema import DAY
from data_prep.appender import ColumnAppender
from data_prep.pruning import FOLDS, kept_rows
from data_prep.sums import KeyedSums, in_order, summed

TRANSITIONS: Final = "transitions"
COVISITS: Final = "covisits"
PROTOCOLS: Final[tuple[Protocol, ...]] = ("global", "last")
NEIGHBOURS: Final = 100  # places that a co-visit reaches
_STATE_BITS: Final = 4  # (fold_global, fold_last), two bits each
_DTYPES: Final = {"source": "int32", "target": "int32", "fold": "int8", "count": "float32", "decayed": "float32"}
_CARRIED: Final = {"source": "int32", "target": "int32", "state": "int8", "count": "uint32", "decayed": "float64"}
_CHUNK_PAIRS: Final = 4 << 20
_RANGE_ROWS: Final = (
    1 << 19
)  # carried rows that are aged and pruned at once; small arrays reuse memory, large ones are mapped anew

Found = tuple[str, Array, Array]  # table, keys, (count, decayed) `[2, n]`


@dataclass(frozen=True)
class Sequences:
    """Positive-gain events sorted by (user, time), whole users, all arrays `[n]`."""

    user: Array
    item: Array  # int32
    time: Array  # int64 microseconds
    state: Array  # int64: fold_global * 4 + fold_last


@dataclass(frozen=True)
class Earlier:
    """The sums that the night before left in `folder`, and the newest event that their ages count from."""

    folder: Path
    newest: int  # microseconds


class PairSums:
    """Collects the pairs of chunks of sequences and writes the `pairs/` folder.

    Args:
        n_items: Rows of the item id map.
        config: Window, gap, half-life, pairs kept.
        newest: Time of the newest event, microseconds; None: a synthetic clock, nothing ages.
        spill: A folder for what does not fit in memory.
        earlier: What is added to; None: nothing.
    """

    def __init__(
        self, n_items: int, config: PairConfig, newest: int | None, spill: Path, earlier: Earlier | None = None
    ) -> None:
        self._config, self._newest = config, newest
        self._bits = max(1, (n_items - 1).bit_length())  # of an item row in a key
        n_keys = n_items << (self._bits + _STATE_BITS)
        self._sums = {name: KeyedSums(n_keys, 2, spill) for name in (TRANSITIONS, COVISITS)}
        self._earlier = {name: Columns.open(earlier.folder / name) for name in self._sums} if earlier else {}
        self._fading = 1.0
        if earlier is not None and newest is not None:
            self._fading = float(np.exp2((earlier.newest - newest) / (config.half_life_days * DAY)))

    def add(self, events: Sequences) -> None:
        """Add every pair of a chunk."""
        self.collect(self.found(events))

    def found(self, events: Sequences, later: Array | None = None, sign: int = 1) -> list[Found]:
        """The sums of a chunk's pairs, for `collect`; many threads may look at once.

        Args:
            events: Whole people.
            later: Whether the pairs count of which this is the later event, bool `[n]`; None: all do.
            sign: 1 adds them, -1 takes them away.
        """
        last = np.flatnonzero(later) if later is not None else np.arange(len(events.user))
        age = self._age_weight(events.time)
        sums = [(TRANSITIONS, *part) for part in _batched(self._transitions(events, last, age), sign)]
        for keys, values in _batched(self._covisits(events, last, age), sign):
            sums += [(COVISITS, keys, values), (COVISITS, self._mirrored(keys), values)]
        return sums

    def collect(self, sums: list[Found]) -> None:
        """Add what `found` found."""
        for name, keys, values in sums:
            self._sums[name].add(keys, values)

    def write(self, folder: Path, carried: Path | None = None) -> dict[str, int]:
        """Write `<protocol>/transitions` and `<protocol>/covisits` under `folder`, and all sums under `carried`; rows of each."""
        written: dict[str, int] = {}
        for name in self._sums:
            outs = [ColumnAppender(folder / p / name, _DTYPES) for p in PROTOCOLS]
            if carried is not None:
                outs.append(ColumnAppender(carried / name, _CARRIED))
            for tables in in_order(lambda span, name=name: self._tables(name, *span), self._spans(name)):  # type: ignore[misc]
                for out, table in zip(outs, tables, strict=False):
                    out.append(table)
            for out in outs:
                out.close()
            written |= {f"{p}/{name}": out.rows for p, out in zip(PROTOCOLS, outs, strict=False)}
        return written

    def _spans(self, name: str) -> Iterator[tuple[int, int]]:
        """Key ranges that end between two sources and hold a bounded number of rows, earlier and new."""
        unit = self._bits + _STATE_BITS
        ends = set(self._sums[name].ends(1 << unit))
        if name in self._earlier:
            ends |= {int(s) << unit for s in self._earlier[name].numbers("source")[_RANGE_ROWS::_RANGE_ROWS]}
        low = 0
        for high in sorted(ends - {0}):
            yield low, high
            low = high

    def _tables(self, name: str, low: int, high: int) -> list[dict[str, Array]]:
        """The rows of each protocol, and those to be carried, of one key range."""
        keys, values = self._total(name, low, high)
        pair, state = keys >> _STATE_BITS, keys & ((1 << _STATE_BITS) - 1)
        folds = state >> 2, state & (FOLDS - 1)
        rows = [kept_rows(pair, fold, values, self._bits, self._config.per_item) for fold in folds]
        source, target = pair >> self._bits, pair & ((1 << self._bits) - 1)
        carried = (source, target, state, values[0], values[1])
        return [dict(zip(_DTYPES, r, strict=True)) for r in rows] + [dict(zip(_CARRIED, carried, strict=True))]

    def _total(self, name: str, low: int, high: int) -> tuple[Array, Array]:
        """Earlier sums, aged, plus the new ones; what counts 0 now is gone."""
        keys, values = self._sums[name].between(low, high)
        if name in self._earlier:
            before = self._earlier[name]
            unit = self._bits + _STATE_BITS
            a, b = np.searchsorted(before.numbers("source"), [low >> unit, high >> unit])
            source, target, state, count, decayed = (before.numbers(c)[a:b] for c in _CARRIED)
            old = (source.astype(np.int64) << self._bits | target) << _STATE_BITS | state
            keys, values = _added(old, np.stack([count, decayed * self._fading]), keys, values)
        left = values[0] > 0
        return (keys, values) if left.all() else (keys[left], values[:, left])

    def _age_weight(self, time: Array) -> Array:
        if self._newest is None:
            return np.ones(len(time))
        return np.asarray(np.exp2((time - self._newest) / (self._config.half_life_days * DAY)))

    def _transitions(self, e: Sequences, last: Array, age: Array) -> Iterator[tuple[Array, Array]]:
        for places in range(1, self._config.window + 1):
            b = last[np.searchsorted(last, places) :]
            a = b - places
            pair = (e.user[a] == e.user[b]) & (e.item[a] != e.item[b])
            a, b = a[pair], b[pair]
            yield self._keys(e.item[a], e.item[b], e.state[b]), age[b] / places

    def _covisits(self, e: Sequences, last: Array, age: Array) -> Iterator[tuple[Array, Array]]:
        """Each unordered pair once, the smaller item row first."""
        gap = self._config.gap_days * DAY
        b = last
        for places in range(1, NEIGHBOURS + 1):
            b = b[np.searchsorted(b, places) :]
            a = b - places
            apart = e.time[b] - e.time[a]
            near = (e.user[a] == e.user[b]) & (apart <= gap)
            a, b, apart = a[near], b[near], apart[near]  # what is too far apart now is so for every earlier place
            if len(b) == 0:
                return
            differ = e.item[a] != e.item[b]
            x, y, later = e.item[a[differ]], e.item[b[differ]], b[differ]
            weight = age[later] * np.exp2(-apart[differ] / (gap / 4))
            yield self._keys(np.minimum(x, y), np.maximum(x, y), e.state[later]), weight

    def _keys(self, source: Array, target: Array, state: Array) -> Array:
        return np.asarray((source.astype(np.int64) << self._bits | target) << _STATE_BITS | state)

    def _mirrored(self, keys: Array) -> Array:
        pair, state = keys >> _STATE_BITS, keys & ((1 << _STATE_BITS) - 1)
        return np.asarray(((pair & ((1 << self._bits) - 1)) << self._bits | pair >> self._bits) << _STATE_BITS | state)


def _batched(parts: Iterator[tuple[Array, Array]], sign: int) -> Iterator[tuple[Array, Array]]:
    """Keys with (count, decayed) added up, a few million pairs at a time."""
    held: list[tuple[Array, Array]] = []
    rows = 0
    for part in parts:
        held.append(part)
        rows += len(part[0])
        if rows >= _CHUNK_PAIRS:
            yield _counted(held, sign)
            held, rows = [], 0
    if rows:
        yield _counted(held, sign)


def _counted(parts: list[tuple[Array, Array]], sign: int) -> tuple[Array, Array]:
    keys, weight = (np.concatenate(column) for column in zip(*parts, strict=True))
    keys, values = summed(keys, np.stack([np.ones(len(weight)), weight]))
    return keys, values if sign > 0 else -values


def _added(keys: Array, values: Array, more: Array, plus: Array) -> tuple[Array, Array]:
    """Sums of two sets of ascending distinct keys `[n]`, `[m]` with values `[v, n]`, `[v, m]`; `values` is used up."""
    if len(more) == 0:
        return keys, values
    at = np.searchsorted(keys, more)
    there = at < len(keys)
    there[there] = keys[at[there]] == more[there]
    values[:, at[there]] += plus[:, there]
    new = np.flatnonzero(~there)
    if len(new) == 0:
        return keys, values
    places = at[new] + np.arange(len(new))
    old = np.ones(len(keys) + len(new), bool)
    old[places] = False
    both = np.empty(len(old), np.int64), np.empty((len(values), len(old)))
    both[0][old], both[0][places] = keys, more[new]
    for row, before, added in zip(both[1], values, plus, strict=True):
        row[old], row[places] = before, added[new]
    return both
