"""What of a page is left to chance, so that the log of pages can say how another order would have done: whole orders, and places for new items.

Which pages, and how, are functions of the request's id alone (BLAKE2b of a salt and the id): every worker answers a request alike, and another time too.
Every item of the page carries the exact chance that it had of its place. Rules hold as on any page:

- Pins and sponsored places, and what a filter that is not strict let in, stay where they are.
- A cap counts the items with one value. Where more items with a value could come onto the page than it allows, the places of that value stay places of
  that value: the order is drawn among the items of the same such values. Whatever is drawn, the cap holds as it held before.
- What is hidden, excluded or unavailable is not in the line that is drawn from.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from core.columns import Array, Coded
from core.event_log import sampled
from core.history import Query
from core.ids import hash64
from core.schema import DAY, MINUTE, Column
from serving.config import ExplorationConfig
from serving.per_release import PerRelease
from serving.plackett_luce import drawn, table, uniforms, worths
from serving.release import Release
from serving.rules.bound import PageRules

_NONE: Final = np.empty(0, np.int32)
_NOBODY: Final = Query(time=0)
_MOST_NEW: Final = 1_000  # items that wait for a place: each page looks them all over
_FEW: Final = 16
Showable = Callable[[Array], Array]
"""Item rows `[n]` to bool `[n]`."""
Kinds = list[frozenset[tuple[int, int]]]
"""Of each item the values that caps could hold back, as (cap, value)."""


@dataclass(frozen=True)
class Chance:
    """What may be left to chance on one page."""

    request_id: str
    config: ExplorationConfig
    explored: bool  # its order is drawn
    new: Array = field(default_factory=lambda: _NONE)  # int32 rows of items that are due a place for being new


@dataclass(frozen=True)
class Drawn:
    """A page of which something was left to chance, in positions of `line`."""

    line: Array  # int32 item rows; longer by one where a new item came onto the page that was not in it
    page: Array  # int64 [m]
    propensities: Array  # float64 [m]: the chance that each item had of its place
    explored: bool
    pool: Array  # int32 item rows from whose order the page was drawn, in their usual order; none where it was not
    new_at: int | None  # the place, from 0, that a new item got


class Exploration:
    """Decides what of a request's page is left to chance."""

    def __init__(self, config: ExplorationConfig, logged: float) -> None:
        """`logged`: the share of pages that the log takes. On others nothing is left to chance, since nobody would learn from it."""
        self._config, self._logged, self._lock = config, logged, threading.Lock()
        self._newest: PerRelease[dict[int, Array]] = PerRelease(dict)  # by minute, of which there is one

    def of(self, request_id: str, wanted: bool | None, release: Release, now: int, known: int) -> Chance | None:
        """What of the page of a request may be left to chance; None: nothing.

        Args:
            request_id: The request's.
            wanted: True: its order is drawn, whatever the share; False: nothing is left to chance; None: as the configuration says.
            release: That answers.
            now: Microseconds.
            known: Rows of the release without the live catalog.
        """
        if wanted is False or not sampled("page", request_id, self._logged):
            return None
        explored = wanted or sampled("explore", request_id, self._config.share)
        new = self._new(release, now, known) if self._config.new_items.share else _NONE
        return Chance(request_id, self._config, explored, new) if explored or len(new) else None

    def _new(self, release: Release, now: int, known: int) -> Array:
        """The items that are new, looked for once a minute and view of the catalog."""
        minute = now // MINUTE
        with self._lock:
            found = self._newest.of(release).get(minute)
        if found is None:
            found = new_items(release, now, self._config, known)
            with self._lock:
                kept = self._newest.of(release)
                kept.clear()
                kept[minute] = found
        return found


def new_items(release: Release, now: int, config: ExplorationConfig, known: int) -> Array:
    """Rows int32, ascending, of items that are young and of which little is known, the youngest thousand.

    Young: made within the last `days` before `now` (microseconds), or without a date and not yet in any release (rows from `known` on). Little known: the
    popularity source, which counts people by what they did, has less than `least_gain` of it.
    """
    settings, made = config.new_items, release.items.numbers(Column.CREATED_AT)
    rows = np.arange(len(made), dtype=np.int32)
    young = np.where(made >= 0, (made <= now) & (made > now - settings.days * DAY), rows >= known)
    rows = rows[young]
    gained = next((s.scoring(_NOBODY).of(rows) for s in release.sources if s.name == "popularity"), np.zeros(len(rows)))
    rows = rows[gained < settings.least_gain]
    if len(rows) <= _MOST_NEW:
        return rows
    date = np.where(made[rows] >= 0, made[rows], now)
    return np.sort(rows[np.lexsort((rows, -date))[:_MOST_NEW]])


def left_to_chance(
    chance: Chance,
    release: Release,
    line: Array,
    page: Array,
    rest: Array,
    fixed: Array,
    showable: Showable,
    rules: PageRules | None,
    k: int,
) -> Drawn:
    """Draw what is left to chance.

    Args:
        chance: How.
        release: That answers.
        line: Item rows int32 `[n]` that the page is made of.
        page: Positions int64 `[m]` of the usual page.
        rest: Positions of what would come next, best first.
        fixed: bool `[m]`: the places that are not left to chance.
        showable: Which of some rows may be shown at all.
        rules: Whose caps hold.
        k: The places that were asked for.
    """
    config = chance.config
    open_places = np.flatnonzero(~fixed[: config.places])
    page, propensities, pool = page.copy(), np.ones(len(page)), np.empty(0, np.int64)
    others = rest[: max(round(config.reach * len(open_places)) - len(open_places), 0) if chance.explored else 0]
    universe = line[np.concatenate([page, others])]
    if chance.explored:
        pool = np.concatenate([page[open_places], others])
        kinds = _kinds(rules, line[pool], universe, k)
        _draw(chance, page, propensities, open_places, pool, kinds)
    new_at, row = _new_place(chance, release, propensities, open_places, universe, showable, rules, k)
    if new_at is not None:
        at = np.flatnonzero(line == row)
        line = line if len(at) else np.append(line, np.int32(row))
        page[new_at] = int(at[0]) if len(at) else len(line) - 1
    return Drawn(line, page, propensities, chance.explored, line[pool], new_at)


def _draw(chance: Chance, page: Array, propensities: Array, places: Array, pool: Array, kinds: Kinds) -> None:
    """Order the pool anew, kind by kind: each kind's items fill the places that the kind had."""
    uniform = uniforms(hash64(f"explore-order:{chance.request_id}"), len(pool))
    members: dict[frozenset[tuple[int, int]], list[int]] = {}
    for at, kind in enumerate(kinds):
        members.setdefault(kind, []).append(at)
    for those in members.values():
        own = [at for at in those if at < len(places)]  # the pool begins with the page
        order = drawn(worths(len(those), chance.config.steepness), uniform[those])[: len(own)]
        at_place = places[own]
        page[at_place] = pool[np.array(those)[order]]
        chances = table(len(those), len(own), chance.config.steepness)
        propensities[at_place] = chances[order, np.arange(len(own))]


def _new_place(
    chance: Chance,
    release: Release,
    propensities: Array,
    places: Array,
    universe: Array,
    showable: Showable,
    rules: PageRules | None,
    k: int,
) -> tuple[int | None, int]:
    """The place that a new item gets, and its row; on most pages none. At most one a page, so that its chance is a product.

    With s = min(1, share x open places), whatever stands in an open place keeps it with 1 - s / places; new item i gets it with s / places x w_i / sum of w.
    """

    def due(rows: Array) -> Array:
        rows = rows[showable(rows) & ~np.isin(rows, universe)]
        return rows[_fits(rules, rows, universe, k)]

    settings, new = chance.config.new_items, chance.new
    # mostly it is enough to know that there is one
    if not len(new) or not len(places) or not (len(due(new[:_FEW])) or len(due(new[_FEW:]))):
        return None, -1
    often = min(1.0, settings.share * len(places))
    whether, where, which = uniforms(hash64(f"explore-new:{chance.request_id}"), 3).tolist()
    propensities[places] *= 1 - often / len(places)
    if whether >= often:
        return None, -1
    new = due(new)
    place = int(places[int(where * len(places))])
    weights = np.where(_akin(release, new, universe), settings.kin, 1.0)
    sums = np.cumsum(weights)
    at = int(np.searchsorted(sums, which * sums[-1], side="right"))
    propensities[place] = often / len(places) * weights[at] / sums[-1]
    return place, int(new[at])


def _akin(release: Release, rows: Array, universe: Array) -> Array:
    """Whether each item is of a category that the page could show anyway, bool `[n]`."""
    column = release.items.get(Column.CATEGORY)
    if not isinstance(column, Coded):
        return np.zeros(len(rows), bool)
    codes = np.asarray(column.codes[rows])
    return np.asarray((codes >= 0) & np.isin(codes, column.codes[universe]))


def _kinds(rules: PageRules | None, rows: Array, universe: Array, k: int) -> Kinds:
    """The values of each of `rows` that are crowded: of which `universe`, all that could come onto the page, has more than a cap allows."""
    kinds: list[set[tuple[int, int]]] = [set() for _ in rows]
    for number, (codes, owner) in enumerate(_crowded(rules, rows, universe, k, 0)):
        for value, at in zip(codes.tolist(), owner.tolist(), strict=True):
            kinds[at].add((number, value))
    return [frozenset(kind) for kind in kinds]


def _fits(rules: PageRules | None, rows: Array, universe: Array, k: int) -> Array:
    """Whether each item could come onto the page beside all of `universe` without any cap minding: bool `[n]`."""
    fits = np.ones(len(rows), bool)
    if rules is None or not rules.caps:
        return fits
    for _, owner in _crowded(rules, rows, universe, k, 1):
        fits[owner] = False
    return fits


def _crowded(rules: PageRules | None, rows: Array, universe: Array, k: int, more: int) -> Iterator[tuple[Array, Array]]:
    """For each cap the values of `rows` that it would mind if `universe`, and `more` items, had them all: codes, and the position of each one's item."""
    for _, cap, values in () if rules is None else rules.caps:
        most, _ = cap.allowed(k)
        full = [value for value, n in Counter(values(universe)[0].tolist()).items() if n + more > most]
        codes, owner = values(rows)
        crowded = np.isin(codes, full)
        yield codes[crowded], owner[crowded]
