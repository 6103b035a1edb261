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
from serving.rules.schema import Sponsor
from serving.rules.similarity import Against

_EPSILON: Final = 1e-9
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
    if rules.caps or sponsored or rules.diversify is not None:
        page, held, short = _Filling(rules, rows[order], n_candidates, k).run(
            {place: int(np.flatnonzero(order == at)[0]) for place, at in fixed.items()},
            {place: (rule, mask[order]) for place, (rule, mask) in sponsored.items()},
        )
        put = {int(order[at]): rule for at, rule in page.put.items()}
        chosen = order[np.array(page.order, np.int64)]
    else:
        chosen, put, held, short = _around(order, fixed, k), {}, {}, None
    on_page = set(chosen.tolist())
    put |= {at: by_rule[at] for at in fixed.values() if at in on_page}
    left = order[~np.isin(order, chosen)]
    kept = {int(order[at]): rule for at, rule in held.items()}
    return Arranged(chosen, left, moves, put, {at: rule for at, rule in kept.items() if at not in on_page}, short)


def _moved(shifts: list[Array], n: int, n_candidates: int) -> Array:
    """Positions in the order after the moves. By 5 places up is exactly five places, where nothing else moves."""
    at = np.arange(n)
    if not shifts:
        return at
    shift = np.sum(shifts, axis=0)
    return np.lexsort((at - shift - 0.5 * np.sign(shift), at >= n_candidates))


def _pinned(rules: PageRules, rows: Array, k: int) -> tuple[dict[int, int], dict[int, Rule]]:
    """Place -> position, and position -> rule, of the pins whose item is in the line and whose place is on the page."""
    fixed: dict[int, int] = {}
    by_rule: dict[int, Rule] = {}
    for rule, place, row in rules.pins:
        at = np.flatnonzero(rows == row)
        if place < k and len(at):
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


@dataclass
class _Page:
    order: list[int]
    put: dict[int, Rule]


class _Filling:
    """Place by place, over positions of the moved order."""

    def __init__(self, rules: PageRules, rows: Array, n_candidates: int, k: int) -> None:
        self._rules, self._rows, self._k, self._n = rules, rows, k, len(rows)
        self._left = np.ones(self._n, bool)
        self._held: dict[int, Rule] = {}
        self._nearest = np.zeros(self._n, np.float32)  # likeness to the most alike item above
        self._against: Against | None = None
        if rules.diversify is not None:
            _, spec, likeness = rules.diversify
            self._against, self._first = likeness(rows), min(spec.first, k)
            worth = 1 / np.log2(np.arange(2, self._n + 2))
            self._worth = ((1 - spec.level) * worth).astype(np.float32)
            self._worth[n_candidates:] -= 2  # what fills comes after all others
            self._level = np.float32(spec.level)

    def run(
        self, fixed: dict[int, int], sponsored: dict[int, tuple[Rule, Array]]
    ) -> tuple[_Page, dict[int, Rule], Rule | None]:
        """The page, what caps held back, and the cap that ended it early."""
        counts = []
        for rule, cap, values in self._rules.caps:
            most, window = cap.allowed(self._k)
            counts.append((rule, CapCount(most, window, self._k, *values(self._rows), self._n, fixed)))
        self._left[list(fixed.values())] = False
        page = _Page([], {})
        for place in range(self._k):
            blocks: list[tuple[Rule, Array]] = []
            if place in fixed:
                at, by = fixed[place], None
            else:
                blocks = [(rule, held) for rule, count in counts if (held := count.blocked(place)) is not None]
                at, by = self._next(place, blocks, sponsored.get(place))
            if at == _NOTHING:
                return page, self._held, blocks[0][0] if blocks and self._left.any() else None
            for _, count in counts:
                count.put(at, place)
            self._settle(at, place)
            page.order.append(at)
            if by is not None:
                page.put[at] = by
        return page, self._held, None

    def _next(
        self, place: int, blocks: list[tuple[Rule, Array]], sponsored: tuple[Rule, Array] | None
    ) -> tuple[int, Rule | None]:
        """The position for a place, and the sponsor rule that put it there; _NOTHING where nothing fits."""
        able = self._left
        for _, held in blocks:
            able = able & ~held
        if sponsored is not None:
            rule, mask = sponsored
            paid = able & mask
            if (at := int(paid.argmax())) or paid[0]:
                return at, rule
        at = int(able.argmax())
        fits = bool(able[at])
        for rule, held in blocks:
            for other in np.flatnonzero((held & self._left)[: at if fits else self._n]).tolist():
                self._held.setdefault(other, rule)
        if fits and self._against is not None and place < self._first:
            at = int(np.where(able, self._worth + self._level * (1 - self._nearest), -np.inf).argmax())
        return (at if fits else _NOTHING), None

    def _settle(self, at: int, place: int) -> None:
        self._left[at] = False
        if self._against is not None and place + 1 < self._first:
            np.maximum(self._nearest, self._against(at), out=self._nearest)
