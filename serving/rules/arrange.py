"""Puts a page together from the ranked candidates: moves, then fixed places, then caps and diversity place by place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.columns import Array
from core.history import Query
from serving.rules.bound import PageRules
from serving.rules.caps import CapCount
from serving.rules.load import Rule
from serving.rules.schema import Diversify, Sponsor
from serving.rules.similarity import Likeness

_EPSILON: Final = 1e-9
_BEHIND: Final = 1e13  # places: what fills stands behind all candidates, wherever rules move it
_SECOND: Final = 4  # more than any worth and likeness: the same for diversity
_NEVER: Final = np.float32(-np.inf)
_NOTHING: Final = -1


@dataclass(frozen=True)
class Arranged:
    """A page in positions of the line that it was made from."""

    page: Array  # int64 [m], best first; m < k only where the line ended, or a cap held back all that was left of it
    rest: Array  # int64: the others, in the order that the moves left
    moves: tuple[tuple[Rule, Array], ...]  # of each rule, float64 [line]: places up, below 0 down
    put: dict[int, Rule]  # position -> the rule that put it in its place
    held: dict[int, Rule]  # position not on the page -> the cap that held it back where it would have come next
    short: Rule | None = None  # the cap that ended the page before its last place


def arrange(rules: PageRules, query: Query, rows: Array, n_candidates: int, k: int) -> Arranged:
    """Arrange a page of k.

    Args:
        rules: What holds; its hiding rules are done with already.
        query: Who asks, and when.
        rows: The line: item rows int32 `[n]`, best first; what only fills the page behind the candidates.
        n_candidates: How many of it are more than that. What fills never overtakes them.
        k: Places.
    """
    if not len(rows):
        return Arranged(np.empty(0, np.int64), np.empty(0, np.int64), (), {}, {})
    moves = tuple((rule, places(query, rows)) for rule, places in rules.movers)
    order = _moved([shift for _, shift in moves], len(rows), n_candidates)
    fixed, by_rule = _pinned(rules, rows, k)
    sponsored = _sponsored(rules, rows, k, fixed)
    held: dict[int, Rule] = {}
    put: dict[int, Rule] = {}
    short: Rule | None = None
    if rules.caps or sponsored or rules.diversify is not None:
        place_of = np.empty(len(order), np.int64)  # in the moved order
        place_of[order] = np.arange(len(order))
        filling = _Filling(rules, rows[order], n_candidates, k, {p: int(place_of[at]) for p, at in fixed.items()})
        filling.run({place: (rule, mask[order]) for place, (rule, mask) in sponsored.items()})
        chosen = order[np.array(filling.page, np.int64)]
        put = {int(order[at]): rule for at, rule in filling.put.items()}
        held = {int(order[at]): rule for at, rule in filling.held.items()}
        short = filling.short
    else:
        chosen = _around(order, fixed, k)
    left = np.ones(len(order), bool)
    left[chosen] = False
    put |= {at: by_rule[at] for at in fixed.values() if not left[at]}
    return Arranged(chosen, order[left[order]], moves, put, {at: r for at, r in held.items() if left[at]}, short)


def _moved(shifts: list[Array], n: int, n_candidates: int) -> Array:
    """Positions in the order after the moves. By 5 places up is exactly five places, where nothing else moves."""
    at = np.arange(n)
    if not shifts:
        return at
    shift = np.sum(shifts, axis=0)
    key = at - shift - 0.5 * np.sign(shift)
    key[n_candidates:] += _BEHIND
    return np.argsort(key, kind="stable")


def _pinned(rules: PageRules, rows: Array, k: int) -> tuple[dict[int, int], dict[int, Rule]]:
    """Place -> position, and position -> rule, of the pins whose item is in the line and whose place is on the page."""
    fixed: dict[int, int] = {}
    by_rule: dict[int, Rule] = {}
    for rule, place, row in rules.pins:
        at = np.flatnonzero(rows == row)
        if place < min(k, len(rows)) and len(at):  # a shorter page has no such place
            fixed[place] = int(at[0])
            by_rule[int(at[0])] = rule
    return fixed, by_rule


def sponsored_places(sponsor: Sponsor, k: int) -> list[int]:
    """The places, from 0, that a rule asks for on a page of k: those it names, or its share of them, evenly spread.

    >>> sponsored_places(Sponsor(name="s", kind="sponsor", items=("a",), share=0.2), 10)
    [4, 9]
    """
    if sponsor.share is None:
        return [p - 1 for p in sorted(set(sponsor.at)) if p <= k]
    slots = int(sponsor.share * k + _EPSILON)
    return [int((n + 1) / sponsor.share + _EPSILON) - 1 for n in range(slots)]


def _sponsored(rules: PageRules, rows: Array, k: int, fixed: dict[int, int]) -> dict[int, tuple[Rule, Array]]:
    """Place -> the rule that has it, and which positions it may take there, bool `[n]`. A place of a share that is taken is the next free one."""
    found: dict[int, tuple[Rule, Array]] = {}
    for rule, sponsor, holds in rules.sponsors:
        mask = holds(rows)
        for place in sponsored_places(sponsor, k):
            if sponsor.share is not None:
                place = next((p for p in range(place, k) if p not in fixed and p not in found), k)
            if place < k and place not in fixed and place not in found:
                found[place] = (rule, mask)
    return found


def _around(order: Array, fixed: dict[int, int], k: int) -> Array:
    """The page where nothing but pins matters: `order` with the fixed positions in their places, as far as the order reaches."""
    if not fixed:
        return order[:k]
    free = order[~np.isin(order, list(fixed.values()))].tolist()
    page: list[int] = []
    for place in range(min(k, len(order))):
        if place in fixed:
            page.append(fixed[place])
        elif free:
            page.append(free.pop(0))
        else:
            break
    return np.array(page, np.int64)


class _Filling:
    """Place by place, over positions of the moved order."""

    def __init__(self, rules: PageRules, rows: Array, n_candidates: int, k: int, fixed: dict[int, int]) -> None:
        self._k, self._fixed = k, fixed
        self._left = np.ones(len(rows), bool)
        self._left[list(fixed.values())] = False
        self._blocks = np.zeros(len(rows), np.int32)
        self._caps = [
            (rule, CapCount(*cap.allowed(k), k, *values(rows), fixed, self._blocks)) for rule, cap, values in rules.caps
        ]
        self._unseen = self._left.copy()  # what is left, and no cap was seen to hold back
        self._diverse = None if rules.diversify is None else _Diverse(rules.diversify, rows, n_candidates)
        self._first = 0 if rules.diversify is None else min(rules.diversify[1].first, k)
        self.page: list[int] = []
        self.put: dict[int, Rule] = {}  # by sponsor rules
        self.held: dict[int, Rule] = {}
        self.short: Rule | None = None

    def run(self, sponsored: dict[int, tuple[Rule, Array]]) -> None:
        """Fill the page."""
        for place in range(self._k):
            at = self._fixed[place] if place in self._fixed else self._next(place, sponsored.get(place))
            if at == _NOTHING:
                self.short = next(iter(self.held.values()), None)
                return
            self._left[at] = self._unseen[at] = False
            self.page.append(at)
            for _, count in self._caps:
                count.put(at)
            if self._diverse is not None and place + 1 < self._first:
                self._diverse.put(at)

    def _next(self, place: int, sponsored: tuple[Rule, Array] | None) -> int:
        """The position for a place; _NOTHING where nothing fits."""
        able = self._left & (self._blocks == 0) if self._caps else self._left
        if sponsored is not None:
            rule, mask = sponsored
            paid = able & mask
            at = int(paid.argmax())
            if paid[at]:
                self.put[at] = rule
                return at
        at = int(able.argmax())
        if not able[at]:
            self._note(len(able))
            return _NOTHING
        self._note(at)
        return at if self._diverse is None or place >= self._first else self._diverse.best(able)

    def _note(self, end: int) -> None:
        """Caps hold back what is left before `end`."""
        if not self._caps or int(self._unseen.argmax()) == end:
            return
        for at in np.flatnonzero(self._unseen[:end]).tolist():
            self._unseen[at] = False
            self.held[at] = next(rule for rule, count in self._caps if count.holds_back(at))


class _Diverse:
    """Maximal marginal relevance (Carbonell and Goldstein, 1998): worth of a place against likeness to what stands above.

    An item at place p (from 1) of the order is worth `1 / log2(1 + p)`, as in NDCG: so the level means the same whatever the scores are.
    """

    def __init__(self, by: tuple[Rule, Diversify, Likeness], rows: Array, n_candidates: int) -> None:
        _, spec, likeness = by
        self._level, self._against = np.float32(spec.level), likeness(rows)
        self._worth = ((1 - spec.level) / np.log2(np.arange(2, len(rows) + 2))).astype(np.float32)
        self._worth[n_candidates:] -= _SECOND
        self._nearest = np.zeros(len(rows), np.float32)  # likeness to the most alike item above

    def put(self, at: int) -> None:
        """An item stands on the page."""
        np.maximum(self._nearest, self._against(at), out=self._nearest)

    def best(self, able: Array) -> int:
        """The best of what can come next."""
        return int(np.where(able, self._worth - self._level * self._nearest, _NEVER).argmax())
