"""What rules did to an answer: on the page, to one item, and side by side with the page that would be without them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from aisle.v1 import recommender_pb2 as pb
from core.columns import Array
from serving.answers import Answer, Request
from serving.release import Release
from serving.request_path import answer
from serving.rules.load import Rule
from serving.rules.schema import FURTHEST, Sponsor


@dataclass(frozen=True)
class Effects:
    """What rules did to one item; each part may be absent."""

    hidden: Rule | None = None
    held: Rule | None = None  # the cap that kept it off the page
    put: Rule | None = None  # the pin or sponsor that put it in its place
    moves: tuple[tuple[Rule, float], ...] = ()  # places up, below 0 down

    @property
    def decisive(self) -> Rule | None:
        """The one that decided where it ended."""
        return self.hidden or self.held or self.put

    def sentences(self) -> list[str]:
        """For people, with file and line of each rule."""
        said = [f"moved {'up' if places > 0 else 'down'} {_much(abs(places))} by {rule}" for rule, places in self.moves]
        if self.hidden is not None:
            said.append(f"hidden by {self.hidden}")
        if self.held is not None:
            said.append(f"held back by {self.held}")
        if self.put is not None:
            said.append(f"put there by {self.put}")
        return said


def effects(request: Request, page: Answer, row: int) -> Effects:
    """What the rules of `request` did to item `row` in its answer `page`."""
    if request.rules is None:
        return Effects()
    if request.rules.allowed is not None and not request.rules.allowed[row]:
        return Effects(hidden=request.rules.hidden_by(row))
    found = np.flatnonzero(page.line == row)
    if page.arranged is None or not len(found):
        return Effects()
    at, arranged = int(found[0]), page.arranged
    return Effects(
        held=arranged.held.get(at),
        put=arranged.put.get(at),
        moves=tuple((rule, float(places[at])) for rule, places in arranged.moves if places[at]),
    )


def ruled(request: Request, page: Answer, row: int) -> str:
    """The end of a sentence about where the item ended."""
    found = effects(request, page, row)
    said = found.sentences()
    if found.hidden is not None or found.held is not None:  # the sentence begins with the same word
        return " " + said[-1].split(" ", 1 if found.hidden else 2)[-1] + "".join(f"; {s}" for s in said[:-1])
    return "".join(f"; {s}" for s in said)


def add_rules(results: Iterable[pb.Result], request: Request, page: Answer) -> None:
    """Name the rules of each result."""
    if page.arranged is None:
        return
    moves = page.arranged.moves
    for result, at in zip(results, page.arranged.page.tolist(), strict=True):
        put = page.arranged.put.get(at)
        if put is not None:
            # a promotion of the request is no paid place of the shop
            result.promotion_name, result.sponsored = put.name, bool(put.file) and isinstance(put.spec, Sponsor)
        result.moved_by.extend(rule.name for rule, places in moves if places[at])


def add_rule_of(response: pb.ExplainResponse, request: Request, page: Answer, row: int) -> None:
    """Name the rule that decided where one item ended, and those that moved it."""
    found = effects(request, page, row)
    if (rule := found.decisive) is not None:
        response.rule, response.rule_file, response.rule_line = rule.name, rule.file, rule.line
    for rule, places in found.moves:
        response.moves[rule.name] = places


@dataclass(frozen=True)
class Preview:
    """Two pages. `items`: row, place before and after (from 1, 0: not there), and why; those of the page with rules come first."""

    level: str
    in_force: list[str]
    off: list[str]
    items: list[tuple[int, int, int, list[str]]]


def preview(release: Release, request: Request) -> Preview:
    """Answer a request without its rules and with them."""
    before, after = answer(release, replace(request, rules=None)), answer(release, request)
    rules = request.rules
    was, now = _places(before.rows), _places(after.rows)
    gone = [row for row in was if row not in now]
    items = []
    for row in [*now, *gone]:
        because = effects(request, after, row).sentences()
        if not because and row in gone:
            because = ["others that rules put above it took its place"]
        items.append((row, was.get(row, 0), now.get(row, 0), because))
    return Preview(
        level=after.level,
        in_force=[] if rules is None else [rule.name for rule in rules.rules],
        off=[] if rules is None else [str(problem) for problem in rules.problems],
        items=items,
    )


def _places(rows: Array) -> dict[int, int]:
    return {row: at for at, row in enumerate(rows.tolist(), 1)}


def _much(places: float) -> str:
    if places >= FURTHEST / 2:
        return "all the way"
    return f"{places:g} {'place' if places == 1 else 'places'}"


def says(rule: Rule) -> str:
    """The settings of a rule in few words, for tables."""
    own = rule.spec.model_dump(mode="json", exclude_defaults=True, exclude={"name", "kind", "note", "since", "until"})
    shown = {k: v for k, v in own.items() if k not in ("placements", "priority", "time_zone", "enabled")}
    return ", ".join(f"{k} {_plain(v)}" for k, v in shown.items())


def _plain(value: object) -> str:
    if isinstance(value, float):
        return "all" if value >= FURTHEST else f"{value:g}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
