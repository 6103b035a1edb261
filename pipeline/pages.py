"""Pages that people were shown, as rows to learn from: each item at its position, with features as of that moment, and what came of it.

They are requests of their own beside those that pipeline/candidates.py constructs. An item that retrieval would not have proposed at that moment is left out,
whether something came of it or not: it would never be ranked, and nothing is ever added to a training set for having been chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from core.columns import Array
from core.history import user_starts
from core.prepared import Fold, Prepared
from core.schema import HOUR, SECOND, Column, EventType
from pipeline.candidates import Past
from ranking.feature_list import NAMES
from ranking.train import GRADES, TrainingSet

_APART: Final = SECOND  # impressions of one session that are further apart are of two pages
_LOOKED: Final = 100_000  # pages of a window that are looked at; many times what a ranker learns from
_AT: Final = 10


@dataclass(frozen=True)
class Pages:
    """p pages that something came of, item by item in r rows: page q holds the rows `starts[q]` to `starts[q + 1] - 1`."""

    user: Array  # int32 [p], rows of the user id map
    time: Array  # int64 [p], microseconds: the history is strictly before
    starts: Array  # int64 [p + 1]
    items: Array  # int32 [r]
    positions: Array  # int32 [r], from 0
    grades: Array  # int8 [r], 0 to GRADES

    def __len__(self) -> int:
        return len(self.user)

    @classmethod
    def of(cls, pages: Iterable[tuple[int, int, Array, Array, Array]]) -> Pages:
        """From (user, time, items, positions, grades) of each."""
        user, time, items, positions, grades = zip(*pages, strict=True) if (pages := list(pages)) else ([],) * 5
        return cls(
            np.array(user, np.int32),
            np.array(time, np.int64),
            np.concatenate([[0], np.cumsum([len(i) for i in items])]).astype(np.int64),
            np.concatenate([np.empty(0, np.int32), *items]).astype(np.int32),
            np.concatenate([np.empty(0, np.int32), *positions]).astype(np.int32),
            np.concatenate([np.empty(0, np.int8), *grades]).astype(np.int8),
        )

    def page(self, q: int) -> tuple[int, int, Array, Array, Array]:
        """User, time, items, positions and grades of one."""
        rows = slice(int(self.starts[q]), int(self.starts[q + 1]))
        return int(self.user[q]), int(self.time[q]), self.items[rows], self.positions[rows], self.grades[rows]

    def only(self, pages: Array) -> Pages:
        """The pages at these places."""
        return Pages.of(self.page(q) for q in pages.tolist())

    def and_those(self, others: Pages, within: int) -> Pages:
        """These, and the others but those that a person of these was shown less than `within` microseconds after a page of these: they are the same."""
        shown = {(u, t) for u, t in zip(self.user.tolist(), self.time.tolist(), strict=True)}
        times: dict[int, list[int]] = {}
        for user, time in sorted(shown):
            times.setdefault(user, []).append(time)
        fresh = [q for q in range(len(others)) if not _follows(times.get(int(others.user[q])), others.time[q], within)]
        return Pages.of([*map(self.page, range(len(self))), *map(others.page, fresh)])


def _follows(times: list[int] | None, moment: int, within: int) -> bool:
    if times is None:
        return False
    at = int(np.searchsorted(times, moment, side="right"))
    return at > 0 and moment - times[at - 1] < within


def until(prepared: Prepared, fold: Fold) -> int:
    """Where the window that `fold` answers ends, microseconds."""
    return prepared.until(Fold(fold.protocol, fold.below + 1, ""))


def impressions(prepared: Prepared, fold: Fold, gains: Mapping[EventType, float], hours: float, seed: int = 0) -> Pages:
    """Pages of the window after `fold`, of protocol `global`, from the impressions of the events table that name a position (from 0 or from 1).

    A page is what one person saw at one moment of one session, a second's delay between two impressions forgiven. What came of an item is the strongest gain
    of the person's events with it in the hours after the page. A page of which nothing came is none, nor one whose hours reach beyond the window, nor
    any where the clock is invented. Of very many pages a seeded sample is looked at.
    """
    events, end = prepared.events, until(prepared, fold)
    if prepared.synthetic_time:
        return Pages.of([])
    names = (Column.USER, Column.TIME, "session", Column.ITEM, Column.POSITION)
    times, length = events.numbers(Column.TIME), int(hours * HOUR)
    seen = (events.numbers(fold.column) == fold.below) & (events.numbers(Column.TYPE) == EventType.IMPRESSION.code)
    inside = np.flatnonzero(seen & (events.numbers(Column.POSITION) >= 0) & (times < end - length))
    if not len(inside):
        return Pages.of([])
    user, time, session, item, position = (np.asarray(events.numbers(n)[inside]) for n in names)
    begins = np.ones(len(inside), bool)
    begins[1:] = (np.diff(user) != 0) | (np.diff(session) != 0) | (np.diff(time) > _APART)
    first = np.flatnonzero(begins)
    last = np.append(first[1:], len(inside))
    looked = np.sort(np.random.default_rng(seed).permutation(len(first))[:_LOOKED])
    ends = user_starts(events.numbers(Column.USER), int(user[-1]) + 1)
    found = []
    for a, b in zip(first[looked].tolist(), last[looked].tolist(), strict=True):
        own = slice(int(ends[user[a]]), int(ends[user[a] + 1]))
        after = own.start + np.searchsorted(times[own], (time[a], time[a] + length))
        order = np.lexsort((position[a:b], item[a:b])) + a
        rows, where = np.unique(item[order], return_index=True)  # an item shown twice stands at its first place
        grades = _grades(prepared, slice(*after.tolist()), rows, gains)
        if grades.any():
            found.append((int(user[a]), int(time[a]), rows, position[order][where], grades))
    return _from_nought(Pages.of(found), int(position.min()))


def _from_nought(pages: Pages, least: int) -> Pages:
    """Positions from 0: a log whose least position is 1 counts from there."""
    return Pages(pages.user, pages.time, pages.starts, pages.items, pages.positions - min(least, 1), pages.grades)


def _grades(prepared: Prepared, events: slice, items: Array, gains: Mapping[EventType, float]) -> Array:
    """The strongest gain of each item (ascending) among some events, impressions aside, as a grade: int8 `[n]`."""
    columns = (Column.ITEM, Column.TYPE, Column.GAIN)
    item, kind, gain = (np.asarray(prepared.events.numbers(c)[events]) for c in columns)
    at = np.minimum(np.searchsorted(items, item), len(items) - 1)
    merit = (gain > 0) & (kind != EventType.IMPRESSION.code) & (items[at] == item)
    best = np.zeros(len(items))
    np.maximum.at(best, at[merit], gain[merit])
    return graded(best, gains)


def graded(best: Array, gains: Mapping[EventType, float]) -> Array:
    """Gains float64 `[n]` as grades int8 `[n]`."""
    return np.ceil(best / max(gains.values()) * GRADES - 1e-6).astype(np.int8)


def rows(past: Past, pages: Pages) -> TrainingSet:
    """The training set of some pages, with positions: features as of each page among all candidates of that moment, as serving has them.

    A page that retrieval knows too little of to tell two of its items apart is counted as `dropped`.
    """
    matrices, grades, positions = (
        [np.empty((0, len(NAMES)), np.float32)],
        [np.empty(0, np.int8)],
        [np.empty(0, np.int32)],
    )
    items, dropped = [np.empty(0, np.int32)], 0
    for q in range(len(pages)):
        user, time, shown, position, grade = pages.page(q)
        candidates, features = past.features(*past.query(user, time))
        _, at, of = np.intersect1d(candidates.rows, shown, assume_unique=True, return_indices=True)
        if len(at) == 0 or grade[of].max() == grade[of].min():
            dropped += 1
            continue
        matrices.append(features[at])
        grades.append(grade[of])
        positions.append(position[of])
        items.append(shown[of])
    best = [np.sort(g)[::-1][:_AT] for g in grades[1:]]
    return TrainingSet(
        np.concatenate(matrices),
        np.concatenate(grades),
        np.array([len(g) for g in grades[1:]], np.int32),
        np.array([float((b / np.log2(np.arange(len(b)) + 2.0)).sum()) for b in best]),
        dropped,
        positions=np.concatenate(positions),
        worths=None if past.worths is None else past.worths[np.concatenate(items)],
    )
