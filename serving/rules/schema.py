"""The kinds of rules and their keys. docs/rules.md has the same as a table, with examples."""

from __future__ import annotations

import math
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from core.config import Section
from core.moments import Moment, Zone, micros
from serving.filters.syntax import FilterError, parse

FURTHEST: Final = 1e9  # places: further than any page, or list of candidates, is long


def _expression(value: Any) -> Any:
    try:
        if isinstance(value, str):
            parse(value)
    except FilterError as e:
        raise ValueError(str(e)) from None
    return value


def _places(value: Any) -> Any:
    if value == "all":
        return FURTHEST
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= FURTHEST:
        raise ValueError("expected a number of places above 0, or `all`")
    return value


def _positive_whole(value: Any) -> Any:
    """A boolean is no number here, whatever Python says."""
    if isinstance(value, bool):
        raise ValueError("expected a whole number")
    return value


Expression = Annotated[str, BeforeValidator(_expression), Field(min_length=1)]
Places = Annotated[float, BeforeValidator(_places)]
Position = Annotated[int, BeforeValidator(_positive_whole), Field(ge=1, le=500)]
Share = Annotated[float, Field(gt=0, le=1)]
ItemId = Annotated[str, Field(min_length=1, max_length=256)]


class RuleSpec(Section):
    """What every rule has."""

    name: str = Field(pattern=r"^[\w.-]{1,64}$")
    kind: str
    note: str = ""
    enabled: bool = True
    placements: tuple[str, ...] = Field(default=(), max_length=50)  # patterns such as product-*; none: everywhere
    priority: int = Field(default=0, ge=-1_000_000, le=1_000_000)
    since: Moment | None = Field(default=None, alias="from")
    until: Moment | None = None
    time_zone: Zone = "UTC"

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        since, until = self.in_force
        if since >= until:
            raise ValueError(f"until {self.until} is not after from {self.since}")
        return self

    @property
    def in_force(self) -> tuple[float, float]:
        """When it holds: half-open, microseconds; infinite where nothing is said."""
        return (
            -math.inf if self.since is None else micros(self.since, self.time_zone),
            math.inf if self.until is None else micros(self.until, self.time_zone),
        )


class Hide(RuleSpec):
    """Items never shown."""

    kind: Literal["hide"]
    where: Expression


class Include(RuleSpec):
    """Only such items are shown."""

    kind: Literal["include"]
    where: Expression


class Boost(RuleSpec):
    """Items that move up."""

    kind: Literal["boost"]
    where: Expression
    places: Places


class Bury(RuleSpec):
    """Items that move down."""

    kind: Literal["bury"]
    where: Expression
    places: Places


class Freshness(RuleSpec):
    """New items move up, the less the older they are."""

    kind: Literal["freshness"]
    places: Places
    half_life_days: float = Field(gt=0)
    where: Expression | None = None


class PriceBand(RuleSpec):
    """Items whose price lies outside a band move down."""

    kind: Literal["price-band"]
    places: Places
    least: float | None = Field(default=None, ge=0)
    most: float | None = Field(default=None, gt=0)
    times_price_of: Literal["context", "history"] | None = None

    @model_validator(mode="after")
    def _band(self) -> Self:
        if self.least is None and self.most is None:
            raise ValueError("a price band needs `least`, `most` or both")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"least {self.least:g} is above most {self.most:g}")
        return self


class LowStock(RuleSpec):
    """Items that are nearly sold out move down."""

    kind: Literal["low-stock"]
    below: float = Field(gt=0)
    places: Places


class Fatigue(RuleSpec):
    """Items that the person was shown again and again move down."""

    kind: Literal["fatigue"]
    after: Annotated[int, BeforeValidator(_positive_whole), Field(ge=1)]
    days: float = Field(gt=0)
    places: Places


class Pin(RuleSpec):
    """An item in a place of the page."""

    kind: Literal["pin"]
    item: ItemId
    at: Position


class Sponsor(RuleSpec):
    """Places for paid items."""

    kind: Literal["sponsor"]
    where: Expression | None = None
    items: tuple[ItemId, ...] = Field(default=(), max_length=500)
    share: Share | None = None
    at: tuple[Position, ...] = Field(default=(), max_length=100)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.where is None) == (not self.items):
            raise ValueError("a sponsor rule needs either `where` or `items`")
        if (self.share is None) == (not self.at):
            raise ValueError("a sponsor rule needs either `share` or `at`")
        return self


class Cap(RuleSpec):
    """So many items with one value, on the page or in any window of it."""

    kind: Literal["cap"]
    by: str = Field(min_length=1)
    most: Annotated[int, BeforeValidator(_positive_whole), Field(ge=1)] | None = None
    share: Share | None = None
    window: Annotated[int, BeforeValidator(_positive_whole), Field(ge=2, le=500)] | None = None
    levels: Annotated[int, BeforeValidator(_positive_whole), Field(ge=1, le=20)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.most is None) == (self.share is None):
            raise ValueError("a cap needs either `most` or `share`")
        if self.levels is not None and self.by != "category":
            raise ValueError("`levels` are of the category path: they need `by: category`")
        return self

    def allowed(self, k: int) -> tuple[int, int]:
        """How many, in how many places, of a page of k; a share is rounded down, but to 1 at least."""
        window = min(self.window or k, k)
        return (self.most if self.most is not None else max(1, math.floor(window * (self.share or 0) + 1e-9))), window


class Diversify(RuleSpec):
    """Items unlike those above them come first, as far as the order allows."""

    kind: Literal["diversify"]
    level: float = Field(gt=0, le=1)
    by: Literal["vectors", "category"]
    first: Position = 24


KINDS: Final[dict[str, type[RuleSpec]]] = {
    "hide": Hide,
    "include": Include,
    "boost": Boost,
    "bury": Bury,
    "freshness": Freshness,
    "price-band": PriceBand,
    "low-stock": LowStock,
    "fatigue": Fatigue,
    "pin": Pin,
    "sponsor": Sponsor,
    "cap": Cap,
    "diversify": Diversify,
}
