"""Puts a page together from the ranked candidates: moves, then fixed places, then caps and diversity place by place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from core.columns import Array
from core.history import Query
from serving.rules.bound import PageRules
from serving.rules.caps import Capped
from serving.rules.filling import Diversity, Line, fill
from serving.rules.load import Rule
from serving.rules.schema import Sponsor

_EPSILON: Final = 1e-9
_BEHIND: Final = 1e13  # places: what fills stands behind all candidates, wherever rules move it


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
        filled = fill(_line(rules, rows, order, n_candidates, k, fixed, sponsored))
        chosen = order[np.array(filled.page, np.int64)]
        put = {int(order[at]): sponsored[place][0] for at, place in filled.put.items()}
        held = {int(order[at]): rules.caps[cap][0] for at, cap in filled.held.items()}
        if len(filled.page) < k and filled.first_held is not None:
            short = rules.caps[filled.first_held][0]
    else:
        chosen = _around(order, fixed, k)
    left = np.ones(len(order), bool)
    left[chosen] = False
    put |= {at: by_rule[at] for at in fixed.values() if not left[at]}
    return Arranged(chosen, order[left[order]], moves, put, {at: r for at, r in held.items() if left[at]}, short)


def _line(
    rules: PageRules,
    rows: Array,
    order: Array,
    n_candidates: int,
    k: int,
    fixed: dict[int, int],
    sponsored: dict[int, tuple[Rule, Array]],
) -> Line:
    """What there is to fill a page with, in the moved order."""
    place_of = np.empty(len(order), np.int64)
    place_of[order] = np.arange(len(order))
    moved = rows[order]
    diversity = None
    if rules.diversify is not None:
        _, spec, likeness = rules.diversify
        diversity = Diversity(spec.level, min(spec.first, k), likeness(moved))
    return Line(
        len(order),
        n_candidates,
        k,
        {place: int(place_of[at]) for place, at in fixed.items()},
        {place: mask[order] for place, (_, mask) in sponsored.items()},
        [Capped(*cap.allowed(k), *values(moved)) for _, cap, values in rules.caps],
        diversity,
    )


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
