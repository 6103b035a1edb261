"""What the request path is asked, in rows, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Final

import numpy as np

from core.candidates import Candidates
from core.columns import Array
from core.history import Query
from core.schema import EventType
from serving.deadline import Deadline
from serving.exploration import Chance, Drawn
from serving.failures import Failure
from serving.filters.masks import both
from serving.levels import Level
from serving.rules.arrange import Arranged
from serving.rules.bound import PageRules
from serving.stage_watch import StageWatch

TRENDING: Final = "trending"
FILL: Final = "fill"
LISTED: Final = "list"  # an item of the caller's list that no source speaks for
NEW: Final = "new"  # an item that got its place for being new
RULE: Final = "rule"  # an item that no source proposed, but a rule
_NONE: Final = np.empty(0, np.int32)


class Removal(StrEnum):
    """Why a candidate is not on the page."""

    UNAVAILABLE = "unavailable"
    UNLIKELY = "unlikely"
    CAPPED = "capped"
    BELOW = "below-page"


@dataclass(frozen=True)
class Request:
    """What is asked, in rows."""

    query: Query
    k: int
    excluded: Array = field(default_factory=lambda: _NONE)  # item rows never to return
    exclude_seen: bool = False  # nor anything of the person's history
    fill: bool = True  # complete the page with popular items that nothing speaks for
    trending: Array = field(default_factory=lambda: _NONE)  # item rows, best first, preferred for that; offline none
    lead: int = 0  # how many of them may begin the page of somebody of whom nothing is known
    exclude_purchased: bool = False  # nor anything that the person bought
    filter: Array | None = None  # bool [items]: the only rows to return; None: any
    strict: bool = True  # else a page that the filter leaves short is filled up with what it forbids
    rules: PageRules | None = None
    only: Array | None = None  # item rows int32, ascending: the only candidates, whatever the sources propose
    least: float = 0.0  # probability that a candidate must reach; above 0 only where the ranker is calibrated
    list_size: int = 0  # items of all pages of a list together; 0: there is one page
    chance: Chance | None = None  # what may be left to it; None: nothing
    deadline: Deadline | None = None  # of the caller; None: as long as it takes
    watch: StageWatch | None = None  # told when a step of the path ends; None: nobody asks

    @property
    def never(self) -> Array:
        """Every item row that is not to be returned: excluded, on the page already, or the person's own; int32 ascending."""
        parts, history = [self.excluded, self.query.context], self.query.history
        if self.exclude_seen:
            parts.append(history.items[history.gains > 0])
        if self.exclude_purchased:
            parts.append(history.items[history.types == EventType.PURCHASE_COMPLETE.code])
        return np.unique(np.concatenate(parts)).astype(np.int32)

    @cached_property
    def allowed(self) -> Array | None:
        """The rows that filter and rules leave: bool `[items]`; None: all."""
        return both(self.filter, None if self.rules is None else self.rules.allowed)


@dataclass(frozen=True)
class Rest:
    """What comes after a page, for the pages after it."""

    rows: Array  # int32 [m], best first
    scores: Array  # float32 [m]
    sources: tuple[str, ...]  # [m]


@dataclass(frozen=True)
class Answer:
    """A page, and what became of every candidate."""

    rows: Array  # int32 [m], best first, m = k unless the catalogue is smaller
    scores: Array  # float32 [m], descending where no rule moved anything; what leads or fills the page carries finite scores above or below every candidate's
    sources: tuple[str, ...]  # [m] the source that speaks most for each item; where none does "trending" or "fill"
    level: Level
    candidates: Candidates
    removed: dict[Removal, Array]
    features: Array | None = None  # float32 [candidates, F], the ranker's matrix; None where the blend ranked
    every: Array = field(default_factory=lambda: np.empty(0))  # float [candidates]: the score of each
    line: Array = field(
        default_factory=lambda: _NONE
    )  # item rows that rules arranged, as ranked; none where no rule did
    arranged: Arranged | None = None  # in positions of the line
    rest: Rest | None = None  # of a list; None: there is one page
    calibrated: bool = False  # the scores of candidates are the calibrated ranker's
    drawn: Drawn | None = None  # what was left to chance
    missed: Failure | None = None  # what the caller's deadline left no time for
