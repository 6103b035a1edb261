"""The declared statistics: every long-term fact of items, people, their tastes, item pairs and cohorts. One ordered list for each entity.

A **snapshot as of day D** is everything before 00:00 UTC of day D. Windows are whole days: `7d` as of D is the days D-7 .. D-1. A decayed sum counts
an event of day d with 2^(-(D - d) / half-life). They are `snapshot` facts: as of the last materialisation before the request, offline and online;
those that are `live` (LIVE_STATISTICS) are of the moment and in no table.

Between two days on which something changes for an entity, a value **drifts** in a known way: it holds, it decays by its half-life, or it ages by one a
day. So a table needs a row only for the days of change (pipeline/feature_tables.py), and who reads an older row brings it up to the day asked for.

Counts are of events as they came. `purchases` and `spend` are net: a return takes its purchase back from the return's own day on, never before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

EntityName = Literal["item", "user", "user_category", "user_brand", "pair", "cohort", "cohort_item"]

ITEM_HALF_LIFE: Final = 14.0  # days: what sells changes within weeks
USER_HALF_LIFE: Final = 30.0  # days: what a person likes changes slower
COHORT_HALF_LIFE: Final = 14.0
WINDOWS: Final = (1, 7, 30)  # days

CONVERSION_PRIOR: Final = (0.03, 30.0)  # share, and the views it counts for
RETURN_PRIOR: Final = (0.05, 10.0)  # share, and the purchases it counts for
TREND_FLOOR: Final = 0.1  # events a day, added to both rates
COHORT_PRIOR: Final = 20.0  # gain of successes that went to no item


@dataclass(frozen=True)
class Entity:
    """What a group of statistics is about: the columns that name it outside, and for how long a row says something."""

    name: EntityName
    keys: tuple[str, ...]
    meaning: str
    ttl_days: int
    online: bool = True


ENTITIES: Final[dict[str, Entity]] = {
    e.name: e
    for e in (
        Entity("item", ("item_id",), "an item", 180),
        Entity("user", ("user_key",), "a person: `u:<user_id>` or `v:<visitor_id>`", 365),
        Entity("user_category", ("user_key", "category"), "a person and a category", 365),
        Entity("user_brand", ("user_key", "brand"), "a person and a brand", 365),
        Entity("cohort", ("cohort",), "`all`, `category=...`, or people by an attribute: `country=...`", 60),
        Entity("cohort_item", ("cohort", "item_id"), "a cohort and an item", 60),
        Entity("pair", ("item_id", "other_item_id"), "an item and what goes with it", 60, online=False),
    )
}


@dataclass(frozen=True)
class Ratio:
    """A value that is not stored, but follows from two that are: over / (under + strength); 0 / 0 is 0."""

    over: str
    under: str
    strength: float = 0.0


@dataclass(frozen=True)
class Statistic:
    """One declared fact, float32."""

    name: str  # <entity>.<field>
    entity: EntityName
    meaning: str
    unit: str
    window_days: int | None = None  # None: everything before the day
    window_minutes: int | None = None  # of a live fact: up to the moment
    half_life_days: float | None = None
    prior: str = ""
    default: float = 0.0
    timed: bool = True  # needs a real clock: holds its default where only the order of events is known
    ages: bool = False  # one more with every day, where it is known (not negative)
    ratio: Ratio | None = None
    dtype: str = "float32"
    freshness: Literal["snapshot", "live"] = "snapshot"

    @property
    def field(self) -> str:
        """The name within its entity: the column of a feature table."""
        return self.name.split(".", 1)[1]

    @property
    def ttl_days(self) -> int:
        """For how many days a stored row says something; 0 for a live fact, which no table has."""
        return ENTITIES[self.entity].ttl_days if self.freshness == "snapshot" else 0


def _activity(entity: EntityName, what: str, meaning: str, unit: str, half_life: float) -> tuple[Statistic, ...]:
    """A sum over each window, and a decayed one."""
    windows = (
        Statistic(f"{entity}.{what}_{w}d", entity, f"{meaning}, last {w} d", unit, window_days=w) for w in WINDOWS
    )
    fading = Statistic(
        f"{entity}.{what}_decayed",
        entity,
        f"{meaning}, half-life {half_life:g} d",
        unit,
        half_life_days=half_life,
    )
    return (*windows, fading)


def _decayed_gain(entity: EntityName, meaning: str, half_life: float) -> Statistic:
    return Statistic(
        f"{entity}.gain_decayed", entity, f"{meaning}, half-life {half_life:g} d", "gain", half_life_days=half_life
    )


ITEM_STATISTICS: Final = (
    *_activity("item", "views", "detail page views and clicks", "events", ITEM_HALF_LIFE),
    *_activity("item", "carts", "additions to a cart", "events", ITEM_HALF_LIFE),
    *_activity("item", "purchases", "purchases less returns", "events", ITEM_HALF_LIFE),
    Statistic(
        "item.conversion",
        "item",
        "purchases for each view",
        "share",
        window_days=30,
        prior=f"{CONVERSION_PRIOR[0]:g} of {CONVERSION_PRIOR[1]:g} views",
        default=CONVERSION_PRIOR[0],
    ),
    Statistic("item.price", "item", "price of its newest event that states one", "currency", timed=False),
    Statistic(
        "item.return_rate",
        "item",
        "returns for each purchase",
        "share",
        prior=f"{RETURN_PRIOR[0]:g} of {RETURN_PRIOR[1]:g} purchases",
        default=RETURN_PRIOR[0],
        timed=False,
    ),
    Statistic(
        "item.age_days", "item", "since its first event, or its creation if earlier", "days", default=-1.0, ages=True
    ),
    Statistic(
        "item.trend",
        "item",
        "log2 of the daily events of the last 7 d over those of the last 30 d",
        "log2",
        window_days=30,
        prior=f"{TREND_FLOOR:g} events a day on both sides",
    ),
)

USER_STATISTICS: Final = (
    *_activity("user", "events", "events that are no impressions", "events", USER_HALF_LIFE),
    *_activity("user", "purchases", "purchases less returns", "events", USER_HALF_LIFE),
    *_activity("user", "spend", "price times quantity of purchases less returns", "currency", USER_HALF_LIFE),
    Statistic("user.events", "user", "events that are no impressions, ever", "events", timed=False),
    Statistic("user.purchases", "user", "purchases less returns, ever", "events", timed=False),
    _decayed_gain("user", "gain of everything done", USER_HALF_LIFE),
    Statistic("user.tenure_days", "user", "since the first active day", "days", default=-1.0, ages=True),
    Statistic("user.recency_days", "user", "since the last active day", "days", default=-1.0, ages=True),
    Statistic("user.active_days", "user", "days with an event, ever", "days"),
    Statistic("user.active_days_30d", "user", "days with an event, last 30 d", "days", window_days=30),
    Statistic("user.price_level", "user", "mean log(1 + price) of purchases", "log currency", timed=False),
)


def _taste(entity: EntityName, what: str) -> tuple[Statistic, Statistic]:
    gain = _decayed_gain(entity, f"gain of what the person did in the {what}", USER_HALF_LIFE)
    share = Statistic(
        f"{entity}.affinity",
        entity,
        f"the {what}'s share of the person's decayed gain",
        "share",
        half_life_days=USER_HALF_LIFE,
        ratio=Ratio(gain.name, "user.gain_decayed"),
    )
    return gain, share


CATEGORY_STATISTICS: Final = _taste("user_category", "category")
BRAND_STATISTICS: Final = _taste("user_brand", "brand")

_DAMPED: Final = "decayed count over the root of both items' totals; as of the last cut before the day"
PAIR_STATISTICS: Final = (
    Statistic("pair.covisits", "pair", "times both were had within the configured gap", "pairs", timed=False),
    Statistic("pair.covisit_score", "pair", f"co-visits, damped by popularity: {_DAMPED}", "score", timed=False),
    Statistic(
        "pair.transitions", "pair", "times the other followed within the configured places", "pairs", timed=False
    ),
    Statistic("pair.transition_score", "pair", f"transitions, damped by popularity: {_DAMPED}", "score", timed=False),
)

COHORT_STATISTICS: Final = (_decayed_gain("cohort", "gain of all successes of the cohort", COHORT_HALF_LIFE),)
COHORT_ITEM_STATISTICS: Final = (
    _decayed_gain("cohort_item", "gain of the cohort's successes with the item", COHORT_HALF_LIFE),
    Statistic(
        "cohort_item.popularity",
        "cohort_item",
        "the item's share of the cohort's decayed gain",
        "share",
        half_life_days=COHORT_HALF_LIFE,
        prior=f"gain {COHORT_PRIOR:g} that went to no item",
        ratio=Ratio("cohort_item.gain_decayed", "cohort.gain_decayed", COHORT_PRIOR),
    ),
)

LIVE_STATISTICS: Final = (
    Statistic(
        "item.trending_1h",
        "item",
        "gain of the events of the last 60 min, of the whole shop, at most some seconds old (serving/trending.py)",
        "gain",
        window_minutes=60,
        freshness="live",
    ),
)
"""Facts of this moment, which serving keeps in the process and logs (`DATA/trending`): no feature table has them."""

STATISTICS: Final[tuple[Statistic, ...]] = (
    *ITEM_STATISTICS,
    *USER_STATISTICS,
    *CATEGORY_STATISTICS,
    *BRAND_STATISTICS,
    *PAIR_STATISTICS,
    *COHORT_STATISTICS,
    *COHORT_ITEM_STATISTICS,
    *LIVE_STATISTICS,
)
USER_FACTS: Final = tuple(s.name for s in USER_STATISTICS)
"""Columns of `UserStatistics.as_of`, in order."""
ITEM_FACTS: Final = tuple(s.name for s in ITEM_STATISTICS)
"""Columns of `ItemStatistics.as_of`, in order."""
