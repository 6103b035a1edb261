"""The rules in force for a page, bound to the items of a release: names are rows and codes, expressions are functions of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from core.columns import Array, Coded, Tags
from core.errors import ConfigError, InputError, nearest
from core.ids import NO_ROW
from serving.filters.binding import Holds, bind, field_names
from serving.filters.masks import both
from serving.filters.syntax import FilterError, parse
from serving.release import Release
from serving.rules.load import Rule
from serving.rules.movers import Places, mover
from serving.rules.schema import Cap, Diversify, Hide, Include, Pin, Sponsor
from serving.rules.similarity import Likeness, category_prefixes, likeness

_SPONSORED: Final = 100  # items that a sponsor rule with `where` proposes besides what the sources do
_FIRST_LOOK: Final = 1_024  # popular items that are looked at for them, at first
_ALL: Final = slice(None)

Values = Callable[[Array], tuple[Array, Array]]
"""Item rows `[n]` to their values' codes `[t]` and the position in the rows that each belongs to `[t]`, ascending."""


class RuleMisfit(ConfigError):
    """A rule that this release cannot follow."""


class UnknownItem(RuleMisfit):
    """A rule about an item that the release does not know, now: items come and go."""


@dataclass(frozen=True)
class Problem:
    """A rule that is off, and why."""

    rule: Rule
    error: InputError

    def __str__(self) -> str:
        """For people."""
        return f"{self.rule.place}: rule {self.rule.name!r} is off: {self.error}"


@dataclass(frozen=True)
class PageRules:
    """What holds for a page. `allowed` bool `[items]`, None: everything; `wanted` int32: rows that are candidates whatever the sources say."""

    rules: tuple[Rule, ...]
    allowed: Array | None = None
    wanted: Array = field(default_factory=lambda: np.empty(0, np.int32))
    gates: tuple[tuple[Rule, Holds], ...] = ()  # a row is shown where all of them hold
    movers: tuple[tuple[Rule, Places], ...] = ()
    pins: tuple[tuple[Rule, int, int], ...] = ()  # rule, place from 0, row
    sponsors: tuple[tuple[Rule, Sponsor, Holds], ...] = ()
    caps: tuple[tuple[Rule, Cap, Values], ...] = ()
    diversify: tuple[Rule, Diversify, Likeness] | None = None
    problems: tuple[Problem, ...] = ()  # the rules that are off because the release does not fit them

    @property
    def arranges(self) -> bool:
        """Whether any rule can change the order of what is allowed."""
        return bool(self.movers or self.pins or self.sponsors or self.caps or self.diversify)

    def hidden_by(self, row: int) -> Rule | None:
        """The first rule that keeps an item from every page."""
        at = np.array([row], np.int32)
        return next((rule for rule, holds in self.gates if not holds(at)[0]), None)


def bound(rules: Sequence[Rule], release: Release, now: int) -> PageRules:
    """Bind rules that are in force, the first in priority first, to the items that `release` shows at `now` (microseconds)."""
    parts = _Parts(release, now)
    for rule in rules:
        try:
            parts.add(rule)
        except (FilterError, RuleMisfit) as e:
            parts.problems.append(Problem(rule, e))
    return PageRules(tuple(rules), **parts.fields())


def check_fit(rules: Sequence[Rule], release: Release, now: int, folder: Path) -> list[Problem]:
    """Refuse rules that the release cannot follow, in force or not. What only speaks of unknown items is returned.

    Raises:
        ConfigError: The first of them, with its file and line.
    """
    problems = bound(rules, release, now).problems
    for problem in problems:
        if not isinstance(problem.error, UnknownItem):
            raise ConfigError(
                f"{folder / problem.rule.file}:{problem.rule.line}: rule {problem.rule.name!r}: {problem.error}"
            )
    return list(problems)


class _Parts:
    """The fields of PageRules while they are gathered."""

    def __init__(self, release: Release, now: int) -> None:
        self._release, self._now = release, now
        self._allowed: Array | None = None
        self._wanted: list[Array] = []
        self._gates: list[tuple[Rule, Holds]] = []
        self._movers: list[tuple[Rule, Places]] = []
        self._pins: list[tuple[Rule, int, int]] = []
        self._sponsors: list[tuple[Rule, Sponsor, Holds]] = []
        self._caps: list[tuple[Rule, Cap, Values]] = []
        self._diversify: tuple[Rule, Diversify, Likeness] | None = None
        self.problems: list[Problem] = []

    def fields(self) -> dict[str, Any]:
        """As PageRules wants them."""
        wanted = np.unique(np.concatenate([np.empty(0, np.int32), *self._wanted])).astype(np.int32)
        if self._allowed is not None:
            wanted = wanted[self._allowed[wanted]]
        return {
            "allowed": self._allowed,
            "wanted": wanted,
            "gates": tuple(self._gates),
            "movers": tuple(self._movers),
            "pins": tuple(self._pins),
            "sponsors": tuple(self._sponsors),
            "caps": tuple(self._caps),
            "diversify": self._diversify,
            "problems": tuple(self.problems),
        }

    def add(self, rule: Rule) -> None:
        """One more; what comes first wins where only one can."""
        match rule.spec:
            case Hide(where=where):
                holds = self._bind(where)
                self._gate(rule, lambda rows: ~holds(rows))
            case Include(where=where):
                self._gate(rule, self._bind(where))
            case Pin() as pin:
                self._pin(rule, pin)
            case Sponsor() as sponsor:
                self._sponsor(rule, sponsor)
            case Cap() as cap:
                self._caps.append((rule, cap, _values(cap, self._release)))
            case Diversify() as diversify:
                if self._diversify is None:
                    self._diversify = (rule, diversify, self._likeness(diversify))
            case spec:
                self._movers.append((rule, mover(spec, self._release, self._now)))

    def _bind(self, where: str) -> Holds:
        return bind(parse(where), self._release, self._now)

    def _gate(self, rule: Rule, holds: Holds) -> None:
        self._gates.append((rule, holds))
        self._allowed = both(self._allowed, holds(_ALL))

    def _pin(self, rule: Rule, pin: Pin) -> None:
        row, place = self._release.item_ids.row(pin.item), pin.at - 1
        if row == NO_ROW:
            raise UnknownItem(f"the release does not know item {pin.item!r}")
        if any(place == taken or row == other for _, taken, other in self._pins):
            return
        self._pins.append((rule, place, row))
        self._wanted.append(np.array([row], np.int32))

    def _sponsor(self, rule: Rule, sponsor: Sponsor) -> None:
        if sponsor.where is None:
            rows = np.unique(self._release.item_ids.rows(sponsor.items))
            rows = rows[rows != NO_ROW]
            paid = np.zeros(self._release.items.rows, bool)
            paid[rows] = True
            holds: Holds = paid.__getitem__
        else:
            holds = self._bind(sponsor.where)
            rows = self._most_popular(holds)
        self._sponsors.append((rule, sponsor, holds))
        self._wanted.append(rows.astype(np.int32))

    def _most_popular(self, holds: Holds) -> Array:
        """The first available rows that hold, int32: in growing steps, for most expressions hold for many."""
        fill, found, at, step = self._release.fill, np.empty(0, np.int32), 0, _FIRST_LOOK
        while len(found) < _SPONSORED and at < len(fill):
            rows = fill[at : at + step]
            found = np.concatenate([found, rows[holds(rows) & self._release.available[rows]]])
            at, step = at + step, step * 4
        return found[:_SPONSORED]

    def _likeness(self, diversify: Diversify) -> Likeness:
        found = likeness(diversify.by, self._release)
        if found is None:
            raise RuleMisfit("the release has no item vectors; `by: category` needs none")
        return found


def _values(cap: Cap, release: Release) -> Values:
    name = next((n for n in (cap.by, f"attribute.{cap.by}") if n in release.items), cap.by)
    column = release.items.get(name) if name in release.items else None
    if isinstance(column, Tags):
        return column.codes_of
    if not isinstance(column, Coded):
        holds = "" if column is None else f"; {cap.by!r} does not hold texts"
        raise RuleMisfit(f"by: no text field {cap.by!r}{holds}; {nearest(cap.by, field_names(release))}")
    codes = column.codes
    if cap.levels is not None:
        of_prefix = category_prefixes(column.values, cap.levels)

    def values(rows: Array) -> tuple[Array, Array]:
        found = codes[rows]
        owner = np.flatnonzero(found >= 0)
        found = found[owner]
        return (found if cap.levels is None else of_prefix[found]), owner

    return values
