"""Validation inside a fold: its own newest part is held back, and the towers are asked for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from core.columns import Array
from core.prepared import Interactions, Protocol
from retrieval.towers.inputs import Window, joined, window

SHARE: Final = 0.05  # of a fold's events, the newest, are held back
_PEOPLE: Final = 2000  # asked at most
_FEWEST: Final = 3  # events of a person whose last one is held back under protocol `last`
_FEW: Final = 50  # people known before the newest part
_K: Final = 100
_SCORES: Final = 1 << 27  # at a time: half a gigabyte

Encode = Callable[[Window, Array], Array]  # windows of q people, their rows int32 [q] -> query vectors float32 [q, d]


@dataclass(frozen=True)
class Requests:
    """q people with what they did, and what they went on to choose."""

    people: Array  # int32 [q]
    windows: Window
    seen: tuple[Array, ...]  # item rows each of them has, int32
    relevant: tuple[Array, ...]  # distinct item rows chosen after that, int32


def hold_back(events: Interactions, protocol: Protocol) -> tuple[Interactions, Interactions]:
    """Older and newer part: by the clock, or each person's last event where they have at least three.

    The latter under protocol `last`, and where hardly anybody of the newest part was there before it, as in a log whose people come one after the
    other: a handful of people cannot say when to stop.
    """
    newer = (
        events.time >= np.quantile(events.time, 1 - SHARE, method="nearest") if len(events.time) else np.zeros(0, bool)
    )
    if protocol == "last" or len(np.intersect1d(events.user[~newer], events.user[newer])) < _FEW:
        from_end = np.searchsorted(events.user, events.user, side="right") - np.arange(len(events.user)) - 1
        count = np.searchsorted(events.user, events.user, side="right") - np.searchsorted(events.user, events.user)
        newer = (from_end == 0) & (count >= _FEWEST)
    return part(events, ~newer), part(events, newer)


def part(events: Interactions, keep: Array) -> Interactions:
    """The events where `keep` bool `[e]`."""
    return replace(events, **{name: getattr(events, name)[keep] for name in ("user", "item", "time", "type", "gain")})


def requests(
    older: Interactions, newer: Interactions, *, length: int, clock: bool, fresh: bool, rng: np.random.Generator
) -> Requests:
    """A sample of the people of `newer` who are known in `older`; `fresh`: what they already have is not asked for."""
    people = np.intersect1d(older.user, newer.user)
    people = np.sort(rng.permutation(people)[:_PEOPLE])
    asked, windows, seen, relevant = [], [], [], []
    for person in people:
        a, b = np.searchsorted(older.user, [person, person + 1])
        c, d = np.searchsorted(newer.user, [person, person + 1])
        wanted = np.setdiff1d(newer.item[c:d], older.item[a:b]) if fresh else np.unique(newer.item[c:d])
        if len(wanted):
            asked.append(person)
            windows.append(window(older.item[a:b], older.type[a:b], older.time[a:b], length, clock))
            seen.append(np.unique(older.item[a:b]) if fresh else np.empty(0, np.int32))
            relevant.append(wanted)
    empty = Window(*(np.zeros((0, length), np.int32) for _ in range(4)))
    return Requests(np.array(asked, np.int32), joined(windows) if windows else empty, tuple(seen), tuple(relevant))


def newcomers(
    older: Interactions, newer: Interactions, told: Array, *, length: int, rng: np.random.Generator
) -> Requests:
    """A sample of the people of `newer` of whom `older` knows nothing, but who said something of themselves: `told` bool `[n_users]`."""
    people = np.setdiff1d(newer.user, older.user)
    people = np.sort(rng.permutation(people[told[people]])[:_PEOPLE])
    bounds = np.searchsorted(newer.user, people), np.searchsorted(newer.user, people, side="right")
    nothing = Window(*(np.zeros((len(people), length), np.int32) for _ in range(4)))
    relevant = tuple(np.unique(newer.item[a:b]) for a, b in zip(*bounds, strict=True))
    return Requests(people.astype(np.int32), nothing, (np.empty(0, np.int32),) * len(people), relevant)


def ranked(asked: Requests, vectors: Array, allowed: Array, encode: Encode, k: int) -> Array:
    """The k best of the `allowed` items (bool `[n]`) for each person by exact search, what they have seen left out: int32 `[q, k]`."""
    k = min(k, vectors.shape[0])
    best = np.empty((len(asked.relevant), k), np.int32)
    together = min(512, max(1, _SCORES // max(1, len(vectors))))
    for start in range(0, len(best), together):
        some = slice(start, start + together)
        w = asked.windows
        part = Window(w.item[some], w.type[some], w.gap[some], w.segment[some])
        scores = encode(part, asked.people[some]) @ vectors.T
        scores[:, ~allowed] = -np.inf
        for row, seen in zip(scores, asked.seen[some], strict=True):
            row[seen] = -np.inf
        top = np.argpartition(-scores, k - 1, axis=1)[:, :k]
        best[some] = np.take_along_axis(top, np.argsort(-np.take_along_axis(scores, top, 1), axis=1, kind="stable"), 1)
    return best


def recall(best: Array, relevant: tuple[Array, ...], k: int = _K) -> float:
    """Mean share of each person's relevant items among their k best; 0 when nobody is asked."""
    shares = [np.isin(wanted, row[:k]).mean() for row, wanted in zip(best, relevant, strict=True)]
    return float(np.mean(shares)) if shares else 0.0
